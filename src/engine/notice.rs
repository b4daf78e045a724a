//! What people are told of pods: forged annotations, growth, a GPU that is not the one, a place that
//! is kept.
//! Nothing is decided by it.

use std::fmt;

use std::sync::Arc;

use super::{Bytes, NodeName, PodRef};

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The pod carries annotations that filmgate writes, and somebody else did.
    Forged {
        /// The pod.
        pod: PodRef,
        /// Their keys.
        keys: Vec<String>,
    },
    /// The pod's processes hold more than it is charged: more than ever before, or twice as much
    /// more as when it was told last.
    Grown {
        /// The pod.
        pod: PodRef,
        /// Its node.
        node: NodeName,
        /// NVML's index of the GPU.
        gpu: u32,
        /// What its processes hold there.
        measured: Bytes,
        /// What it is charged there for what it declared or was granted.
        charged: Bytes,
    },
    /// The pod is on the GPUs that it was sent to.
    Landed,
    /// The pod is on a GPU that it was not sent to.
    Strayed {
        /// The pod.
        pod: PodRef,
        /// Its node.
        node: NodeName,
        /// NVML's indices of the GPUs that it was sent to.
        sent_to: Vec<u32>,
        /// NVML's indices of those that it was found on.
        found_on: Vec<u32>,
        /// filmgate chose for each of its containers, and the device plugin for none.
        is_steered: bool,
    },
    /// The pod waited, and somebody bound it without this process.
    BoundByAnother {
        /// The pod.
        pod: PodRef,
        /// Where to.
        node: NodeName,
        /// The scheduler that the pod names.
        scheduler: Arc<str>,
    },
    /// The pod has waited for too long, and a place is kept for it.
    Reserved {
        /// The pod.
        pod: PodRef,
        /// The node.
        node: NodeName,
        /// NVML's indices of the GPUs.
        gpus: Vec<u32>,
    },
}

impl Notice {
    /// The pod that is told of it; `None` where nobody needs to be.
    #[must_use]
    pub fn pod(&self) -> Option<&PodRef> {
        match self {
            Self::Forged { pod, .. }
            | Self::Grown { pod, .. }
            | Self::Strayed { pod, .. }
            | Self::BoundByAnother { pod, .. }
            | Self::Reserved { pod, .. } => Some(pod),
            Self::Landed => None,
        }
    }

    /// A fixed word, as events have it.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Forged { .. } => "ForgedAnnotations",
            Self::Grown { .. } => "GrewPastCharge",
            Self::Landed => "OnItsGPU",
            Self::Strayed { .. } => "OnAnotherGPU",
            Self::BoundByAnother { .. } => "BoundByAnother",
            Self::Reserved { .. } => "GPUReserved",
        }
    }
}

const WHY_NOT_STEERED: &str = "filmgate's choice does not hold under the device plugin's strategies \
    cdi-annotations, cdi-cri and volume-mounts, in a privileged pod, which sees every GPU, nor \
    where the runtime ignores NVIDIA_VISIBLE_DEVICES of unprivileged pods";
const WHY_NOT_PREDICTED: &str = "Is devicePlugin.allocation how the device plugin chooses, and does \
    the pod leave NVIDIA_VISIBLE_DEVICES alone?";

/// For the pod's owner.
impl fmt::Display for Notice {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forged { keys, .. } => {
                write!(text, "ignored {}: filmgate alone writes that", keys.join(", "))
            }
            Self::Grown { node, gpu, measured, charged, .. } => write!(
                text,
                "holds {measured} on {node} GPU {gpu} and is charged {charged}: {} past its charge",
                *measured - *charged
            ),
            Self::Landed => text.write_str("is where it was sent"),
            Self::Strayed { node, sent_to, found_on, is_steered, .. } => write!(
                text,
                "was sent to {} of {node} and is on {}: its charge follows. {}",
                gpus(sent_to),
                gpus(found_on),
                if *is_steered { WHY_NOT_STEERED } else { WHY_NOT_PREDICTED }
            ),
            Self::BoundByAnother { node, scheduler, .. } => write!(
                text,
                "was bound to {node}, and filmgate was not asked, although its schedulerName is {scheduler}: \
                 another scheduler has that name, or the one that has it does not call filmgate to bind"
            ),
            Self::Reserved { node, gpus: kept, .. } => write!(
                text,
                "has waited for long: what becomes free on {} of {node} is kept for it",
                gpus(kept)
            ),
        }
    }
}

fn gpus(indices: &[u32]) -> String {
    let indices: Vec<_> = indices.iter().map(u32::to_string).collect();
    format!("GPU {}", indices.join(", "))
}
