//! A pod as far as the ledger needs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::marks::Marks;
use super::request::BadRequest;
use super::{Bytes, GpuAsk, GpuUuid, NodeName, PodRef};

/// Bytes charged per GPU, written at bind: `GPU-…=12884901888,GPU-…=…`.
pub const CHARGED_ANNOTATION: &str = "filmgate.dev/vram-charged";
/// The part of the GPU's memory that PyTorch may use, written at bind for the downward API.
pub const FRACTION_ANNOTATION: &str = "filmgate.dev/vram-fraction";
/// `"true"` on a pod that only holds a node's devices until a pod that needs them is there.
pub const BALLOON_LABEL: &str = "filmgate.dev/balloon";

/// What the ledger keeps of a pod that asks for GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// Its names and UID.
    pub id: PodRef,
    /// What people call the pods of its owner: the Deployment, StatefulSet, Job, …; else its name.
    pub workload: Arc<str>,
    /// `spec.schedulerName`.
    pub scheduler: Arc<str>,
    /// It has scheduling gates: it is not to run yet.
    pub is_gated: bool,
    /// The node it is bound to.
    pub node: Option<NodeName>,
    /// What it asks, or what is wrong with its annotations.
    pub ask: Result<GpuAsk, BadRequest>,
    /// What an earlier admission wrote on it.
    pub decision: Option<Decision>,
    /// The annotations on it that filmgate alone writes, and who seems to have.
    pub marks: Marks,
    /// Succeeded or Failed, or every container has terminated: its processes have ended.
    pub has_ended: bool,
    /// `spec.priority`.
    pub priority: i32,
    /// `metadata.creationTimestamp`, seconds since 1970: only to order waiting pods by age.
    pub created_at: i64,
    /// `status.startTime`, seconds since 1970: only to rank victims as kube-scheduler does.
    pub started_at: Option<i64>,
    /// It has a `deletionTimestamp`. That frees nothing, and shows that a victim will leave.
    pub is_deleting: bool,
    /// `status.nominatedNodeName`.
    pub nominated: Option<NodeName>,
    /// `metadata.labels`: only to tell who selects it, a `PodDisruptionBudget` or a metric's reader.
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    /// `status.podIP` while its containers run: only to ask them how they are.
    pub address: Option<Arc<str>>,
    /// `metadata.resourceVersion` as last seen: the precondition of a Binding.
    pub resource_version: Arc<str>,
}

impl PodFacts {
    /// It only holds devices, so that somebody adds a node. Its word counts where nothing is given
    /// out: in what the fleet lacks, and in how soon it is asked to leave.
    #[must_use]
    pub fn is_balloon(&self) -> bool {
        let label = self.labels.as_ref().and_then(|labels| labels.get(BALLOON_LABEL));
        label.is_some_and(|value| value == "true")
    }
}

/// What an admission wrote on a pod: bytes charged per GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Bytes charged on each GPU.
    pub charged: Vec<(GpuUuid, Bytes)>,
}

impl Decision {
    /// Reads the annotation that [`Decision::charged_annotation`] wrote; `None` where there is
    /// none or it was tampered with.
    #[must_use]
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let charged = annotations
            .get(CHARGED_ANNOTATION)?
            .split(',')
            .map(|entry| {
                let (gpu, bytes) = entry.split_once('=')?;
                Some((GpuUuid::from(gpu), Bytes::new(bytes.parse().ok()?)))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self { charged })
    }

    /// The value of [`CHARGED_ANNOTATION`].
    #[must_use]
    pub fn charged_annotation(&self) -> String {
        let entries: Vec<_> =
            self.charged.iter().map(|(gpu, bytes)| format!("{gpu}={}", bytes.get())).collect();
        entries.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Decision> {
        let annotations = [(CHARGED_ANNOTATION.to_owned(), value.to_owned())].into();
        Decision::from_annotations(&annotations)
    }

    #[test]
    fn a_decision_survives_the_annotation() {
        let charged = vec![("GPU-a".into(), Bytes::gib(12)), ("GPU-b".into(), Bytes::gib(3))];
        let decision = Decision { charged };
        assert_eq!(read(&decision.charged_annotation()), Some(decision));
    }

    #[test]
    fn a_decision_that_was_tampered_with_is_none() {
        for value in ["", "GPU-a", "GPU-a=", "GPU-a=-1", "GPU-a=1,", "GPU-a=12Gi"] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
