//! filmgate.

pub mod engine;
