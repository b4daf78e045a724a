//! Whose a process is.

use std::sync::Arc;

use crate::engine::PodUid;

/// Whose a process is, by its cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A pod's.
    Pod {
        /// The pod, as the kubelet names its cgroup: of a static pod the hash of its manifest, not
        /// the UID of its mirror.
        uid: PodUid,
        /// The container's id, where the cgroup tells it.
        container: Option<Arc<str>>,
    },
    /// Nobody's that the kubelet knows.
    Host,
    /// It ended before it was looked at, or its number is another process' by now.
    Gone,
}

/// Whoever tells whose a process is: `/proc`, or a stand-in.
pub trait Owners: Send + Sync + 'static {
    /// Begins a sampling: processes that start from now on are not those that the driver is about to
    /// list, whatever their numbers.
    fn begin(&self) -> impl OwnerLookup + Send;

    /// Why processes of pods cannot be seen here at all, where that is so: without `hostPID` the
    /// driver lists none, and reports no error.
    fn blindness(&self) -> Option<Arc<str>>;
}

/// Lookups of one sampling.
pub trait OwnerLookup {
    /// Whose the process is.
    fn owner(&mut self, pid: u32) -> Owner;
}
