//! What the gate asks of a cluster. The adapter in `cluster` does it with the API server; the demo
//! with a cluster in memory.

use std::time::Duration;

use futures::future::{self, BoxFuture, FutureExt as _};

use crate::engine::notice::Notice;
use crate::engine::{Admission, IdleMark, NodeName, PodFacts, PodRef};

/// Writes to the cluster on the gate's behalf.
pub trait ClusterWriter: Send + Sync + 'static {
    /// Posts the Binding with the admission's annotations, under the preconditions of the pod's
    /// UID and `resourceVersion`; on a conflict looks, and tries again with the new version while
    /// `deadline` allows. Once a Binding may be on the wire and its outcome is not known, the
    /// answer is [`BindOutcome::Unknown`].
    fn bind<'a>(
        &'a self,
        admission: &'a Admission,
        node: &'a NodeName,
        deadline: Duration,
    ) -> BoxFuture<'a, BindOutcome>;

    /// Moves the pod's version by a fresh fence annotation, so that no earlier Binding can commit
    /// any more, and tells whether one has. Tries until the API server answers.
    fn fence<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, FenceOutcome>;

    /// The pod as the API server has it now; `None` where it is gone or asks for no GPU.
    ///
    /// # Errors
    /// A text for people, when the API server did not answer.
    fn get<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<Option<PodFacts>, String>>;

    /// Wakes the waiting pod by a patch of its own annotation. Best effort: queued, never waits.
    fn wake(&self, pod: &PodRef);

    /// Whether the pod's owner is to be told now why it waits. What there is to tell takes a look at
    /// every node, and a pod may be refused many times a second: so ask first.
    fn wants_refusal(&self, _pod: &PodRef) -> bool {
        true
    }

    /// Tells the pod's owner why it waits, in an event on the pod. Best effort: queued, limited in
    /// rate per pod, never waits.
    fn report_refusal(&self, pod: &PodRef, message: String);

    /// Tells the pod's owner of the notice, in an event on the pod. Best effort, as above.
    fn report_notice(&self, _pod: &PodRef, _notice: &Notice) {}

    /// Writes on the node since when nobody uses it, or takes that off.
    ///
    /// # Errors
    /// A text for people, when the API server did not do it, or did not say so.
    fn mark_idle<'a>(&'a self, _mark: &'a IdleMark) -> BoxFuture<'a, Result<(), String>> {
        future::ready(Ok(())).boxed()
    }

    /// What became of the wakes and the events; `None` where nothing is written.
    fn side_writes(&self) -> Option<SideWrites> {
        None
    }
}

/// What became of writes that nobody waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SideWrites {
    /// Patches that have kube-scheduler try a waiting pod again.
    pub wakes: WriteCounts,
    /// Events on pods.
    pub events: WriteCounts,
}

/// What became of one kind of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// The API server took it.
    pub sent: u64,
    /// It did not.
    pub failed: u64,
    /// The queue was full.
    pub dropped: u64,
}

/// What became of a Binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindOutcome {
    /// The pod is bound to the node.
    Bound,
    /// It is not, and this Binding cannot commit any more. For people: why.
    Refused(String),
    /// The pod is bound to another node, or is another pod, or gone: as the watch will tell.
    Superseded(String),
    /// Nobody knows. For people: what happened.
    Unknown(String),
}

/// What a fence found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceOutcome {
    /// Not bound, and no earlier Binding can commit.
    Unbound(PodFacts),
    /// Bound.
    Bound(PodFacts),
    /// No such pod any more.
    Gone,
}
