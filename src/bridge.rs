//! A ComfyUI elsewhere, on Google Colab for example, becomes the one that the pipeline asks.
//!
//! ```text
//! POST, push ──▶ url ──▶ resolver, address ──▶ probe ──▶ decision ──▶ ConfigMap, Secret, restarts
//!                                                ▲            ▲
//!                                   watch ───────┴─ hysteresis┘
//! ```
//!
//! What is written becomes an address that workloads in the cluster ask, so nothing that is posted
//! is believed: [`url`] says what may be meant at all, [`address`] where it may lead, and the probe
//! goes to the very address that was checked. Those two, [`decision`], [`hysteresis`], [`rate`] and
//! [`readers`] are pure; the rest is at the edge. The ConfigMap is the one memory: a bridge that restarts, another
//! replica and `filmgate bridge push` find there what the last one left.

pub mod address;
pub mod decision;
mod door;
pub mod health;
pub mod http;
pub mod hysteresis;
pub mod probe;
pub mod rate;
pub mod readers;
pub mod resolve;
pub mod seen;
pub mod sources;
pub mod target;
pub mod token;
pub mod url;
mod watch;
mod work;

pub use watch::Watch;
pub use work::{Bridge, Done, Mode, Refusal};
