//! filmgate's own parts.

mod agents;
mod config;
mod devices;
mod replicas;
mod rights;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::ResourceExt as _;

pub(super) use agents::{agents, attribution};
pub(super) use config::extender_config;
pub(super) use devices::device_plugin;
pub(super) use replicas::{scheduler, versions};
pub(super) use rights::rights;

use crate::doctor::finding::{Outcome, Unmade, Verdict};
use crate::doctor::ground::Ground;
use crate::top::answer::Pending;

/// Labels by which clouds and NVIDIA's feature discovery mark a node with GPUs.
const GPU_LABELS: [&str; 2] = ["nvidia.com/gpu.present", "cloud.google.com/gke-accelerator"];
/// The extender's pods.
const EXTENDERS: &str = "app.kubernetes.io/name=filmgate,app.kubernetes.io/component=extender";
/// The agents' pods.
const AGENTS: &str = "app.kubernetes.io/name=filmgate-agent";
/// Settings of the extender, and of the kube-scheduler beside it.
const CONFIG: &str = "filmgate";

/// Pods that wait for VRAM, and how near each came.
pub(super) async fn waiting_pods(ground: &Ground) -> Outcome {
    Ok(judge_waiting(&ground.fleet().await?.pending))
}

fn judge_waiting(pending: &[Pending]) -> Vec<Verdict> {
    let of_note = pending.iter().filter(|pod| pod.problem.is_some() || pod.state == "waiting");
    let verdicts: Vec<_> = of_note.map(judge_one).collect();
    if verdicts.is_empty() {
        return vec![Verdict::ok("no pod waits for VRAM")];
    }
    verdicts
}

fn judge_one(pod: &Pending) -> Verdict {
    let name = pod.name();
    match &pod.problem {
        Some(problem) => Verdict::fail(
            format!("{name} is never placed: {problem}"),
            format!("kubectl -n {} edit pod {}", pod.pod.namespace, pod.pod.name),
        ),
        None => {
            let seconds = pod.waiting_seconds.unwrap_or_default();
            let why = pod.nearest_miss.as_deref().unwrap_or("no node was near to fitting");
            Verdict::warn(
                format!("{name} waits for {seconds:.0} s: {why}"),
                format!("filmgate explain {name}"),
            )
        }
    }
}

/// `nvidia.com/…` that a node offers, by name.
fn devices_of(node: &Node) -> BTreeMap<String, u64> {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let nvidia =
        allocatable.into_iter().flatten().filter(|(name, _)| name.starts_with("nvidia.com/"));
    nvidia.map(|(name, count)| (name.clone(), count.0.parse().unwrap_or(0))).collect()
}

/// Whether there should be a GPU on it.
fn has_gpu(node: &Node) -> bool {
    let labels = node.labels();
    let is_marked = |label: &&str| labels.get(*label).is_some_and(|value| value != "false");
    GPU_LABELS.iter().any(is_marked) || !devices_of(node).is_empty()
}

/// The pod is ready, by its own word.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|one| one.type_ == "Ready" && one.status == "True")
}

/// A file of filmgate's ConfigMap, where there is one.
async fn config_file(ground: &Ground, file: &str) -> Result<Option<String>, Unmade> {
    let config: Option<ConfigMap> = ground.own(CONFIG).await?;
    Ok(config.and_then(|config| config.data?.remove(file)))
}

/// Names, and no more of them than fit a line.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;
    use crate::top::answer::Fleet;

    /// What the extender's own test holds as its answer.
    const FLEET: &str = include_str!("../../../tests/extender/golden/fleet.json");

    #[test]
    fn a_waiting_pod_is_told_with_its_nearest_miss() {
        let mut fleet: Fleet = serde_json::from_str(FLEET).unwrap();
        let verdicts = judge_waiting(&fleet.pending);
        assert_eq!(verdicts.len(), 1, "one waits, the other was not asked about yet");
        assert_eq!(verdicts[0].level, Level::Warn);
        assert!(verdicts[0].found.contains("asked 30.0 GiB (declared); most free: 23.5"));
        assert_eq!(verdicts[0].mend.as_deref(), Some("filmgate explain default/big"));

        fleet.pending[1].problem = Some("filmgate.dev/vram is no quantity".to_owned());
        let verdicts = judge_waiting(&fleet.pending);
        assert_eq!(verdicts[1].level, Level::Fail);
        assert_eq!(judge_waiting(&[])[0].level, Level::Ok);
    }

    #[test]
    fn names_fit_a_line() {
        let names: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
        assert_eq!(some_of(&names), "n0, n1, n2, n3, n4 and 2 more");
        assert_eq!(some_of(&names[..2]), "n0, n1");
    }
}
