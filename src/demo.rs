//! `filmgate demo`: a day of a diffusion service on simulated GPUs, with the real extender.

pub mod blind;
pub mod fleet;
pub mod generator;
pub mod progress;
mod random;
pub mod report;
pub mod trace;
pub mod truth;
pub mod workload;
