//! What the demo has to say in the end.

use std::fmt;

use serde::Serialize;

use super::truth::Outcome;
use crate::engine::Bytes;

/// The result of a demo: one JSON object, or a table for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The generator's seed; absent where a trace was replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Where the day comes from.
    pub source: String,
    /// Pods that arrive.
    pub pods: usize,
    /// Length of the day.
    pub hours: f64,
    /// GPUs that there are.
    pub fleet_gpus: usize,
    /// All memory of one GPU.
    pub gpu_memory_bytes: Bytes,
    /// What processes can have of it.
    pub gpu_usable_bytes: Bytes,
    /// What each pod declares to filmgate.
    pub declared_bytes: Bytes,
    /// Whether pods obey the cap that filmgate writes on them.
    pub capped: bool,
    /// Bindings that the extender refused after its filter had passed the node.
    pub bind_conflicts: u64,
    /// The same arrivals under each policy; filmgate comes last.
    pub policies: Vec<Outcome>,
}

impl Report {
    fn policy(&self, starts_with: &str) -> Option<&Outcome> {
        self.policies.iter().find(|policy| policy.name.starts_with(starts_with))
    }

    /// The demo in one sentence, of its own figures.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (Some(gate), Some(alone), Some(sliced)) =
            (self.policy("filmgate"), self.policy("exclusive"), self.policy("time-slicing"))
        else {
            return String::new();
        };
        format!(
            "filmgate ran {} on {} GPUs, {}; one pod per GPU ran {} on {}, and blind {} on {} GPUs {}.",
            placed(gate, self.pods),
            gate.gpus,
            harm(gate),
            if alone.pods_placed == gate.pods_placed {
                "them".to_owned()
            } else {
                alone.pods_placed.to_string()
            },
            alone.gpus,
            sliced.name,
            sliced.gpus,
            verdict(sliced),
        )
    }

    fn heading(&self) -> String {
        format!(
            "{} over {:.1} h ({}) on {} GPUs of {} ({} usable); under filmgate each declares {}{}.",
            count(self.pods, "pod"),
            self.hours,
            self.source,
            self.fleet_gpus,
            self.gpu_memory_bytes,
            self.gpu_usable_bytes,
            self.declared_bytes,
            if self.capped { " and is capped there" } else { ", without a cap" },
        )
    }
}

fn placed(outcome: &Outcome, pods: usize) -> String {
    if outcome.pods_placed == pods {
        format!("all {pods} pods")
    } else {
        format!("{} of {pods} pods", outcome.pods_placed)
    }
}

fn harm(outcome: &Outcome) -> String {
    let capped = match percent_capped(outcome) {
        0.0 => String::new(),
        percent => format!(" and holding pods at their cap for {percent:.1} % of the time"),
    };
    if outcome.overcommitted_gpu_minutes == 0.0 {
        format!("never over-committing one{capped}")
    } else {
        format!(
            "over-committing them for {:.0} GPU-minutes ({} killed){capped}",
            outcome.overcommitted_gpu_minutes,
            count(outcome.oom_pods, "pod"),
        )
    }
}

fn verdict(outcome: &Outcome) -> String {
    if outcome.oom_pods == 0 {
        "would have killed nobody".to_owned()
    } else {
        format!("would have killed {}", count(outcome.oom_pods, "pod"))
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn percent_capped(outcome: &Outcome) -> f64 {
    100.0 * outcome.capped_pod_minutes / outcome.pod_minutes.max(1.0)
}

/// The table for people.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}\n", self.heading())?;
        writeln!(
            formatter,
            "{:<16}{:>5}{:>8}{:>16}{:>8}{:>8}",
            "policy", "GPUs", "placed", "over-committed", "killed", "at cap"
        )?;
        for policy in &self.policies {
            writeln!(
                formatter,
                "{:<16}{:>5}{:>8}{:>16}{:>8}{:>8}",
                policy.name,
                policy.gpus,
                policy.pods_placed,
                format!("{:.1} min", policy.overcommitted_gpu_minutes),
                policy.oom_pods,
                format!("{:.1} %", percent_capped(policy)),
            )?;
        }
        writeln!(
            formatter,
            "GPUs: most in use at one time. over-committed: GPU-minutes. killed: pods whose growth made a \
             GPU too small.\nat cap: part of the pods' time in which they wanted more than they declared.\n"
        )?;
        write!(formatter, "{}", self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, gpus: usize, minutes: f64, oom_pods: usize) -> Outcome {
        Outcome {
            name: name.to_owned(),
            gpus,
            pods_placed: 73,
            overcommitted_gpu_minutes: minutes,
            oom_pods,
            pod_minutes: 80_000.0,
            capped_pod_minutes: if name == "filmgate" { 320.0 } else { 0.0 },
        }
    }

    fn report(gate: Outcome) -> Report {
        Report {
            seed: Some(1),
            source: "test".to_owned(),
            pods: 73,
            hours: 22.8,
            fleet_gpus: 64,
            gpu_memory_bytes: Bytes::gib(80),
            gpu_usable_bytes: Bytes::gib(78),
            declared_bytes: Bytes::gib(38),
            capped: true,
            bind_conflicts: 0,
            policies: vec![
                outcome("exclusive", 59, 0.0, 0),
                outcome("time-slicing-3", 20, 812.0, 31),
                gate,
            ],
        }
    }

    #[test]
    fn the_sentence_has_the_figures_and_hides_no_harm() {
        let good = report(outcome("filmgate", 30, 0.0, 0)).sentence();
        assert_eq!(
            good,
            "filmgate ran all 73 pods on 30 GPUs, never over-committing one and holding pods at \
             their cap for 0.4 % of the time; one pod per GPU ran them on 59, and blind time-slicing-3 on 20 GPUs would have killed 31 pods."
        );
        let bad = report(outcome("filmgate", 30, 4.75, 1)).sentence();
        assert!(bad.contains("over-committing them for 5 GPU-minutes (1 pod killed)"), "{bad}");
    }
}
