//! filmgate.

pub mod cluster;
pub mod engine;
