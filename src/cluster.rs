//! The Kubernetes side: what the API server says becomes the engine's facts, and what the gate
//! decides becomes writes.
//!
//! ```text
//! pods, nodes, namespaces ──▶ facts ──▶ (the gate and its ledger) ──▶ Binding, fence, wake, event
//! ```

mod backoff;
pub mod defaults;
mod feed;
pub mod pod;
pub mod watch;
