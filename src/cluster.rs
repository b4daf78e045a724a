//! The Kubernetes side: what the API server says becomes the engine's facts, and what the gate
//! decides becomes writes.
//!
//! ```text
//! pods, nodes, namespaces ──▶ feed ──▶ ClusterEvents (the gate and its ledger)
//!                                           │
//! API server ◀── bind, fence, wake, events ◀┘ ClusterWriter
//! ```
//!
//! [`start()`] puts them in their order: fence, list, watch. Where several replicas run, [`lease`]
//! says which one leads, and the fence is due when one takes over. [`defaults`] is shared by
//! everyone who reads pods; [`budgets`] are watched apart, since only preemption asks for them.

mod backoff;
mod bind;
pub mod budgets;
mod client;
pub mod defaults;
mod events;
mod feed;
mod fence;
pub mod forward;
mod identity;
mod idle;
pub mod lease;
mod marks;
pub mod pod;
mod start;
pub mod version;
mod wake;
pub mod watch;
mod workload;
pub mod write;

pub use budgets::Budgets;
pub use client::{ConnectError, connect, in_a_line};
pub use defaults::NamespaceDefaults;
pub use identity::{FENCE_ANNOTATION, FENCE_LABEL, Identity};
pub use idle::IDLE_SINCE_ANNOTATION;
pub use start::{stand_by, start};
pub use wake::WAKE_ANNOTATION;
pub use watch::{ClusterEvents, Relists, WatchesEnded, Watching};
pub use write::KubeWriter;
