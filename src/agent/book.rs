//! The kubelet's book: which devices it offers, and which container it gave them to.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::{DeviceAssignment, GpuUuid, PodUid};

/// One look into the book.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Book {
    /// One entry per GPU device given to a container.
    pub assignments: Vec<DeviceAssignment>,
    /// How each GPU or MIG instance is offered. Those that a device plugin holds back are missing.
    pub offers: HashMap<GpuUuid, Offer>,
    /// The node's pods, where the kubelet tells them (PodsAPI): names for UIDs and container ids.
    pub pods: Vec<KnownPod>,
}

/// A pod on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPod {
    /// Its UID as its cgroup has it: of a static pod the hash of its manifest.
    pub uid: PodUid,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Id (without the runtime's `containerd://`) and name of each container that was started.
    pub containers: Vec<(Arc<str>, Arc<str>)>,
}

/// How a GPU is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The extended resource.
    pub resource: Arc<str>,
    /// As so many devices.
    pub replicas: u32,
}

/// Why the book cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoBook {
    /// No socket, nobody behind it, or no answer in time.
    #[error("the kubelet does not answer on {socket}: {why}")]
    Unreachable {
        /// The socket's path.
        socket: Arc<str>,
        /// Why, for people.
        why: String,
    },
    /// What it answered cannot be read.
    #[error("the kubelet's answer on {socket} cannot be read: {why}")]
    Garbled {
        /// The socket's path.
        socket: Arc<str>,
        /// Why, for people.
        why: String,
    },
}

/// Whoever keeps a book: the kubelet, or nobody on a machine without one.
pub trait Bookkeeper: Send + Sync + 'static {
    /// Looks into the book, now and no earlier.
    fn look(&self) -> impl Future<Output = Result<Book, NoBook>> + Send;
}
