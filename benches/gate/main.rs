//! `make bench`: what a decision, and what waiting costs, side by side with extenders that decide
//! nothing, how long a pod waits once there is memory for it, and what the agent takes on a node.
//!
//! Every figure is a ratio of two measurements of one run, or comes with its machine's load: the
//! machines are shared. Written to `target/figures/bench.json`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod agent;
mod constant;
mod decisions;
mod http;
mod no_op;
mod processor;
mod quantile;
mod shipped;
mod size;
mod stage;
mod storm;
mod throughput;
mod wakes;

use support::figures::Figures;

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(constant::COMMAND) => return constant::serve(arguments),
        Some(agent::driver::COMMAND) => return agent::driver::serve(arguments),
        _ => {}
    }
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("built; `cargo bench` measures");
        return;
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|one| !one.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|one| one == part);
    let mut figures = Figures::default();
    if wants("decisions") {
        decisions::measure(&mut figures);
    }
    if wants("throughput") {
        throughput::measure(&mut figures);
    }
    if wants("wakes") {
        wakes::measure(&mut figures);
    }
    if wants("storm") {
        storm::measure(&mut figures);
    }
    if wants("size") {
        size::measure(&mut figures);
    }
    if wants("agent") {
        agent::measure(&mut figures);
    }
    figures.write("bench");
}
