//! `filmgate demo`: a day of a diffusion service on simulated GPUs, with the real extender.

pub mod generator;
mod random;
pub mod trace;
pub mod workload;
