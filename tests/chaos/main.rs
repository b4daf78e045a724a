//! Bursts of pods under faults, checked from outside: see CONTRIBUTING.md, "Chaos".

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod account;
mod burst;
mod ground;
mod outside;
mod persist;
mod plan;
mod run;
mod seeds;
mod trouble;
