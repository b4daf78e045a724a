//! The ledger in simulated clusters where anything happens in any order.
//!
//! After every step:
//! - no admission has raised `foreign + Σ max(charge, measured)` of a GPU above
//!   `total − reserved − headroom`, by the oracle's count;
//! - where pods keep to their declaration and nobody else is there, no GPU is over-committed in the
//!   simulated truth;
//! - the ledger's claims and figures are the oracle's ([`oracle`]), and those of a ledger rebuilt
//!   from the pods and readings ([`invariants::check_rebuilt`]);
//!
//! and when all pods are gone, nothing is left of them.
//!
//! `FILMGATE_LONG=1` tries 100,000 interleavings.

#![allow(clippy::expect_used, clippy::panic)]

mod cluster;
mod invariants;
mod machine;
mod oracle;
mod scheduling;
mod steps;
mod world;

use proptest::prelude::*;
use proptest::test_runner::Config as ProptestConfig;

use cluster::Config;
use steps::Step;
use world::World;

const LONGEST: usize = 160;

fn cases() -> u32 {
    if std::env::var("FILMGATE_LONG").is_ok_and(|long| long == "1") { 100_000 } else { 1_000 }
}

/// Takes the steps and checks after each; then everybody leaves.
fn play(config: Config, steps: &[Step]) {
    let mut world = World::new(config);
    for step in steps {
        world.take(step);
        invariants::check(&mut world);
    }
    invariants::check_end(world);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 200_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_order_of_events_keeps_the_invariant_and_leaks_nothing(
        config in steps::config(),
        steps in steps::steps(LONGEST),
    ) {
        play(config, &steps);
    }
}
