//! The pure core: what a pod asks, what a node holds, whether the two fit.
//!
//! ```text
//! readings, pods, nodes ──▶ Ledger ──▶ verdicts, holds, admissions, wakes
//! ```
//!
//! Nothing here reads a clock, opens a socket, waits or knows a Kubernetes client: time is an
//! argument ([`Time`]), and answers are returned. The extender, the simulator and the property
//! tests therefore run the same code.

pub mod account;
pub mod accounting;
pub mod bytes;
pub mod claim;
pub mod comfyui;
mod digest;
pub mod ids;
pub mod ledger;
pub mod marks;
pub mod notice;
pub mod outlook;
pub mod placement;
pub mod pod;
pub mod reading;
pub mod reason;
pub mod request;
pub mod score;
pub mod time;
pub mod verdict;
mod waiting;

pub use bytes::Bytes;
pub use ids::{AgentRun, GpuUuid, NodeName, NodeUid, PodRef, PodUid};
pub use ledger::{
    Admission, AdmitError, Arrival, Candidate, HoldOutcome, IdleMark, Ledger, NodeFacts,
    PluginAllocation, Policy, Refusals, Spares, StalePolicy, Victim, Wake,
};
pub use outlook::Outlook;
pub use pod::{Decision, PodFacts};
pub use reading::{Attribution, DeviceAssignment, GpuReading, Health, PodMemory, Reading};
pub use reason::Reason;
pub use request::{GpuAsk, Vram};
pub use time::Time;
