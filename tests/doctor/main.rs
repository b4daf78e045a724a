//! `filmgate doctor` as a person runs it, on a real API server: healthy, and broken in one place at a
//! time. The extender's answer is the one that its own test holds (tests/extender/golden/fleet.json).

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod clinic;
mod filmgate;
mod page;
mod pipeline;
mod trouble;
