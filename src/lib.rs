//! filmgate.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod demo;
pub mod engine;
pub mod extender;
pub mod readings;
