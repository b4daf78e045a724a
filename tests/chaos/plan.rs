//! What a burst is: its nodes, pods and faults, all drawn from one seed.
//!
//! A plan says what happens when, and for how long. How it falls together with what the processes
//! do at that moment is real time's; that a seed finds the same again is likely, never sure.

use std::fmt;
use std::time::Duration;

use filmgate::demo::random::Random;
use filmgate::engine::Bytes;

use super::support::replicas::Election;

pub use faults::{Fault, Harm, Illness, Orphans, Timed, Which, Who};
pub use nodes::{GpuPlan, NodePlan};
pub use pods::{Fate, PRIORITIES, PodPlan};

mod faults;
mod nodes;
mod pods;
mod waves;

/// Seeds in a row that are played in worlds of one kind: a world takes ten seconds to start.
pub const SEEDS_A_WORLD: u64 = 8;

/// Everything that is planned of a burst.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it is drawn from.
    pub seed: u64,
    /// The kind of world.
    pub election: Election,
    /// For how long pods arrive and faults happen.
    pub length: Duration,
    /// The nodes.
    pub nodes: Vec<NodePlan>,
    /// The pods, in the order in which they arrive.
    pub pods: Vec<PodPlan>,
    /// The faults, in the order in which they happen.
    pub faults: Vec<Timed>,
}

impl Plan {
    /// The plan of that seed for a burst of that length.
    pub fn draw(seed: u64, length: Duration) -> Self {
        // A stream for each part: what is added to one does not change the others.
        let part = |part: u64| Random::new(Random::new(seed ^ (part << 56)).bits());
        let election = election(seed);
        let nodes = nodes::draw(&mut part(1));
        let waves = waves::draw(&mut part(4), election, length);
        let pods = pods::draw(&mut part(2), &nodes, &waves, length);
        let faults = faults::draw(&mut part(3), nodes.len(), &waves, length);
        Self { seed, election, length, nodes, pods, faults }
    }
}

/// The kind of world that a seed is played in.
pub fn election(seed: u64) -> Election {
    match (seed / SEEDS_A_WORLD) % 3 {
        0 => Election::Off,
        1 => Election::Sibling,
        _ => Election::Own,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            to,
            "plan of seed {}: election {:?}, {:?}",
            self.seed, self.election, self.length
        )?;
        self.nodes.iter().try_for_each(|node| writeln!(to, "  {node}"))?;
        self.pods.iter().try_for_each(|pod| writeln!(to, "  {pod}"))?;
        self.faults.iter().try_for_each(|fault| writeln!(to, "  {fault}"))
    }
}

/// What every part draws.
trait Draw {
    /// From `least` to `most` milliseconds.
    fn millis(&mut self, least: u64, most: u64) -> Duration;
    /// From `least` to `most`, in whole MiB.
    fn mib(&mut self, least: Bytes, most: Bytes) -> Bytes;
    /// True in that part of all cases.
    fn chance(&mut self, part: f64) -> bool;
    /// One of them.
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T;
    /// One of them, each as often as its weight says.
    fn weighted<T: Copy>(&mut self, all: &[(u32, T)]) -> T;
}

impl Draw for Random {
    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below((most - least + 1) as usize) as u64)
    }

    fn mib(&mut self, least: Bytes, most: Bytes) -> Bytes {
        let (least, most) = (least.get() >> 20, most.get() >> 20);
        Bytes::mib(least + self.below((most.saturating_sub(least) + 1) as usize) as u64)
    }

    fn chance(&mut self, part: f64) -> bool {
        self.unit() < part
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn weighted<T: Copy>(&mut self, all: &[(u32, T)]) -> T {
        let mut left = self.below(all.iter().map(|(weight, _)| *weight as usize).sum());
        for (weight, one) in all {
            match left.checked_sub(*weight as usize) {
                None => return *one,
                Some(rest) => left = rest,
            }
        }
        unreachable!("less than the sum of all weights")
    }
}

/// Seconds, as a plan shows them.
fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests;
