//! The gate, end to end: a real kube-scheduler and API server, the shipped binary, simulated nodes.
//!
//! Each test has a control plane of its own, and they run one after another: a machine that runs
//! four control planes at once measures nothing but itself.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod choice;
mod crash;
mod explain;
mod forged;
mod growth;
mod holds;
mod leaders;
mod others;
mod outage;
mod outcomes;
mod preemption;
mod race;
mod release;
mod rights;
mod service;
mod starvation;
mod storm;
mod telemetry;
mod upgrade;
mod wide;
mod world;
