//! `make bench`: what a decision costs, side by side with an extender that decides nothing.
//!
//! Every figure is a ratio of two measurements of one run, or comes with its machine's load: the
//! machines are shared. Written to `target/figures/bench.json`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod decisions;
mod http;
mod no_op;
mod processor;
mod throughput;

use support::figures::Figures;

fn main() {
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
    figures.write("bench");
}
