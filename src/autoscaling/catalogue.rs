//! The external metrics: one entry each, which says what it means and how it is computed.
//!
//! Names are path segments, resources of RBAC rules, and part of users' HorizontalPodAutoscalers:
//! they do not change.

use std::fmt;

use super::snapshot::Snapshot;
use crate::engine::outlook::Picked;
use crate::engine::{Bytes, Outlook, PodFacts};

/// A metric that autoscalers may ask for.
#[derive(Debug, Clone, Copy)]
pub struct ExternalMetric {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// Why there may be pods and nothing to say of them.
    pub unknown_where: &'static str,
    source: Source,
}

/// Whose figure it is.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Of the namespace's pods that the selector picks.
    Pods(fn(&Picked) -> Option<Amount>),
    /// Of the fleet, the same for every namespace.
    Fleet(fn(&Outlook) -> Amount),
}

/// A value, written as a Kubernetes quantity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Pods, bytes, GPUs.
    Whole(u64),
    /// A part or a mean, in thousandths.
    Ratio(f64),
}

impl Amount {
    /// The number: pods, bytes, GPUs or a part.
    #[must_use]
    pub const fn as_f64(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Ratio(ratio) => ratio,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => write!(formatter, "{number}"),
            Self::Ratio(ratio) => write!(formatter, "{:.0}m", ratio * 1000.0),
        }
    }
}

const NEVER: &str = "it is always known";
const NO_PROCESS: &str = "no process is seen";
const NO_COMFYUI: &str = "no ComfyUI answers";

/// Every metric.
pub const METRICS: [ExternalMetric; 10] = [
    ExternalMetric {
        name: "filmgate-pending-pods",
        meaning: "Pods of filmgate's scheduler that ask for a GPU, may run and are not bound.",
        unknown_where: NEVER,
        source: Source::Pods(|picked| Some(Amount::Whole(picked.pending.pods as u64))),
    },
    ExternalMetric {
        name: "filmgate-pending-vram-bytes",
        meaning: "What those pods ask over all their GPUs, as far as it is known.",
        unknown_where: NEVER,
        source: Source::Pods(|picked| Some(Amount::Whole(picked.pending.vram.get()))),
    },
    ExternalMetric {
        name: "filmgate-workload-vram-bytes-mean",
        meaning: "What a pod's processes hold over all its GPUs: the mean of the pods of which a \
                  process is seen.",
        unknown_where: NO_PROCESS,
        source: Source::Pods(|picked| {
            let sum: Bytes = picked.held.iter().copied().sum();
            let pods = picked.held.len() as u64;
            sum.get().checked_div(pods).map(Amount::Whole)
        }),
    },
    ExternalMetric {
        name: "filmgate-workload-vram-bytes-max",
        meaning: "The same of the pod that holds most.",
        unknown_where: NO_PROCESS,
        source: Source::Pods(|picked| {
            picked.held.iter().max().map(|bytes| Amount::Whole(bytes.get()))
        }),
    },
    ExternalMetric {
        name: "filmgate-gpu-utilization-ratio",
        meaning: "How much the GPUs compute that the pods have processes on, 0 to 1: the mean over \
                  those GPUs.",
        unknown_where: NO_PROCESS,
        source: Source::Pods(|picked| {
            let ratios = &picked.utilization_ratios;
            let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
            (!ratios.is_empty()).then_some(Amount::Ratio(mean))
        }),
    },
    ExternalMetric {
        name: "filmgate-comfyui-queue-depth",
        meaning: "Prompts that wait and prompts that run in the pods' ComfyUIs: the sum over those \
                  that answer.",
        unknown_where: NO_COMFYUI,
        source: Source::Pods(|picked| {
            let depths = &picked.queue_depths;
            (!depths.is_empty()).then(|| Amount::Whole(depths.iter().sum()))
        }),
    },
    ExternalMetric {
        name: "filmgate-comfyui-queue-depth-mean",
        meaning: "The same for each pod whose ComfyUI answers: the mean.",
        unknown_where: NO_COMFYUI,
        source: Source::Pods(|picked| {
            let depths = &picked.queue_depths;
            let mean = depths.iter().sum::<u64>() as f64 / depths.len() as f64;
            (!depths.is_empty()).then_some(Amount::Ratio(mean))
        }),
    },
    ExternalMetric {
        name: "filmgate-gpu-equivalents-needed",
        meaning: "Whole empty GPUs that, added to the fleet, would let every pending pod run.",
        unknown_where: NEVER,
        source: Source::Fleet(|outlook| Amount::Whole(outlook.shortage.gpus)),
    },
    ExternalMetric {
        name: "filmgate-node-equivalents-needed",
        meaning: "The same in whole empty nodes.",
        unknown_where: NEVER,
        source: Source::Fleet(|outlook| Amount::Whole(outlook.shortage.nodes)),
    },
    ExternalMetric {
        name: "filmgate-balloons-wanted",
        meaning: "Pods that are to hold a node's devices each, so that nodes are added: as many as \
                  nodes are needed; none while one of them is where a pending pod would fit.",
        unknown_where: NEVER,
        source: Source::Fleet(|outlook| Amount::Whole(outlook.shortage.balloons)),
    },
];

impl ExternalMetric {
    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }

    /// Whether it is of the fleet, so that no selector picks pods for it.
    #[must_use]
    pub const fn is_of_fleet(&self) -> bool {
        matches!(self.source, Source::Fleet(_))
    }

    /// Its value for the pods that are picked; `None` where there is nothing to say.
    #[must_use]
    pub fn value(
        &self,
        snapshot: &Snapshot,
        is_picked: impl Fn(&PodFacts) -> bool,
    ) -> Option<Amount> {
        match self.source {
            Source::Pods(of) => of(&snapshot.survey.picked(is_picked)),
            Source::Fleet(of) => Some(of(&snapshot.outlook)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::outlook::Pending;

    fn of_pods(name: &str, picked: &Picked) -> Option<String> {
        match ExternalMetric::named(name).unwrap().source {
            Source::Pods(of) => of(picked).map(|amount| amount.to_string()),
            Source::Fleet(_) => panic!("{name} is of the fleet"),
        }
    }

    #[test]
    fn figures_become_quantities() {
        let picked = Picked {
            pending: Pending { pods: 3, vram: Bytes::gib(36) },
            held: vec![Bytes::gib(4), Bytes::gib(8), Bytes::gib(3)],
            utilization_ratios: vec![0.5, 0.25],
            queue_depths: vec![4, 0, 1, 0],
        };
        let value = |name| of_pods(name, &picked).unwrap();
        assert_eq!(value("filmgate-pending-pods"), "3");
        assert_eq!(value("filmgate-pending-vram-bytes"), "38654705664");
        assert_eq!(value("filmgate-workload-vram-bytes-mean"), "5368709120");
        assert_eq!(value("filmgate-workload-vram-bytes-max"), "8589934592");
        assert_eq!(value("filmgate-gpu-utilization-ratio"), "375m");
        assert_eq!(value("filmgate-comfyui-queue-depth"), "5");
        assert_eq!(value("filmgate-comfyui-queue-depth-mean"), "1250m");
    }

    #[test]
    fn of_nobody_only_what_is_pending_can_be_said() {
        let nobody = Picked::default();
        assert_eq!(of_pods("filmgate-pending-pods", &nobody).unwrap(), "0");
        for name in [
            "filmgate-workload-vram-bytes-mean",
            "filmgate-workload-vram-bytes-max",
            "filmgate-gpu-utilization-ratio",
            "filmgate-comfyui-queue-depth",
            "filmgate-comfyui-queue-depth-mean",
        ] {
            assert_eq!(of_pods(name, &nobody), None, "{name}");
        }
    }

    #[test]
    fn every_metric_is_documented_and_may_be_read_under_the_shipped_rights() {
        let page = include_str!("../../docs/autoscaling.md");
        let rights = include_str!("../../deploy/autoscaling/external-metrics.yaml");
        for metric in METRICS {
            assert!(page.contains(&format!("| `{}` |", metric.name)), "{}", metric.name);
            assert!(rights.contains(&format!("- {}\n", metric.name)), "{}", metric.name);
        }
    }
}
