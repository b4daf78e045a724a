//! The extender: kube-scheduler's calls, answered from the ledger.
//!
//! ```text
//! kube-scheduler ──▶ http ──▶ Gate ──▶ engine::Ledger
//!                              │ ▲
//!        Binding, fence, wake ◀┘ └── pods, nodes, namespaces, readings
//! ```
//!
//! [`gate::Gate`] owns the ledger and its lock, and is the only one to call it. [`http`] and
//! [`wire`] translate and decide nothing. What leaves for the cluster goes through
//! [`writer::ClusterWriter`]. Of several replicas one answers: [`lead`].

pub mod agents;
pub mod explain;
pub mod fleet;
pub mod gate;
pub mod http;
pub mod lead;
pub mod wire;
pub mod writer;

pub use gate::{Gate, GateSettings, Mode};
