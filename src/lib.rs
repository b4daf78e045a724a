//! filmgate.

pub mod agent;
pub mod clock;
pub mod cluster;
pub mod engine;
pub mod readings;
