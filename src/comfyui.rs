//! What ComfyUI says of itself: pods that a label selects are asked, again and again, for their
//! prompts and for what PyTorch has of their devices.
//!
//! ```text
//! pods of the ledger ──▶ poller ──▶ client ──GET──▶ ComfyUI
//!                          └──▶ engine::comfyui, beside the ledger
//! ```
//!
//! Nothing that a pod says is trusted, or decides about a pod: [`client`] bounds every answer in
//! time and in bytes, [`wire`] refuses numbers that cannot be.

mod client;
mod error;
mod poller;
mod wire;

pub use client::{Answers, Client};
pub use error::{AskError, OUTCOMES};
pub use poller::{Poller, Settings};
pub use wire::Vram;
pub(crate) use wire::{SYSTEM_STATS, vram};
