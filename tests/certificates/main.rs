//! `filmgate certificates` on a real API server, with the rights that it ships with.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod filling;
mod process;
mod renewal;
mod succession;
mod world;
