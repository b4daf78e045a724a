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

    /// Why this version of the driver cannot be asked from here whose memory it is, where that is
    /// so. Without `hostPID` it lists no process of another pod, and reports no error; an old one
    /// gives the machine's process numbers to a node that is itself a container.
    fn blindness(&self, driver: &str) -> Option<Arc<str>>;
}

/// Lookups of one sampling.
pub trait OwnerLookup {
    /// Whose the process is.
    fn owner(&mut self, pid: u32) -> Owner;
}
