//! `filmgate demo`: a day of a diffusion service on simulated GPUs, under the real extender.
//!
//! ```text
//!  generator or trace ──▶ Workload ──┬──▶ blind policies ──▶ Truth ──▶ Outcome
//!                                    └──▶ Driver ──▶ Truth ──▶ Outcome
//!                    filter, prioritize, bind │ ▲ Binding, wakes
//!                                    (HTTP)   ▼ │
//!  SimulatedFleet ──▶ agents' server ══▶ streams ──▶ Gate ──▶ MemoryCluster
//! ```
//!
//! Only machines, kubelet and API server are simulated; the extender, its protocol and the agents'
//! streams are those of a cluster, over loopback. Time is virtual. Every figure is counted by
//! [`truth::Truth`] from what pods hold, in the same way for each policy.

use std::time::Duration;

use self::blind::Blind;
use self::fleet::Fleet;
use self::progress::Progress;
use self::report::Report;
use self::stack::Stack;
use self::workload::{TICK, Workload};
use crate::engine::{Bytes, NodeName};

pub mod blind;
pub mod cluster;
pub mod driver;
pub mod fleet;
pub mod generator;
pub mod progress;
pub mod random;
pub mod report;
pub mod scheduler;
pub mod stack;
pub mod trace;
pub mod truth;
pub mod workload;

/// What is played.
#[derive(Debug, Clone)]
pub struct Options {
    /// The pods.
    pub day: Workload,
    /// The generator's seed, where it was used.
    pub seed: Option<u64>,
    /// The machines.
    pub fleet: Fleet,
    /// What each pod declares to filmgate.
    pub declared: Bytes,
    /// Pods obey the cap that filmgate writes on them, as those of the shipped template do.
    pub is_capped: bool,
    /// Least real time that a tick takes.
    pub tick_takes: Duration,
}

/// Why a demo ends early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A loopback port or task failed.
    #[error("the demo's own services: {0}")]
    Io(#[from] std::io::Error),
    /// An HTTP client cannot be made.
    #[error("the demo's own HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    /// The agents' client cannot be made.
    #[error("the demo's own agents: {0}")]
    Agents(#[from] crate::tls::TlsError),
    /// A service has an address that is none.
    #[error("the demo's own addresses: {0}")]
    Address(String),
    /// The extender did not answer as it should.
    #[error(transparent)]
    Call(#[from] scheduler::CallError),
    /// A simulated machine cannot do what it was told.
    #[error(transparent)]
    Machine(#[from] crate::agent::simulated::FleetError),
    /// An agent did not answer.
    #[error("the agent of {node} does not answer: {why}")]
    Agent {
        /// Its node.
        node: NodeName,
        /// Why.
        why: String,
    },
    /// A pod of the demo is not one.
    #[error("the demo's own pods: {0}")]
    Pod(String),
}

/// Plays the day under every policy.
///
/// # Errors
/// When one of the demo's own parts fails.
pub async fn run(
    options: &Options,
    stack: &Stack,
    progress: &mut dyn Progress,
) -> Result<Report, DemoError> {
    let (fleet, day) = (&options.fleet, &options.day);
    let mut policies = Vec::new();
    for policy in [Blind::Exclusive, Blind::TimeSlicing(3)] {
        progress.note(&format!("{}: the day without filmgate", policy.name()));
        policies.push(policy.run(fleet, day));
    }
    progress.note("filmgate: the same day, through the extender");
    let driven = driver::Driver::new(options, stack)?.run(progress).await?;
    policies.push(driven.outcome);
    Ok(Report {
        seed: options.seed,
        source: day.source.clone(),
        pods: day.pods.len(),
        hours: hours(day.ticks),
        fleet_gpus: fleet.len(),
        gpu_memory_bytes: fleet.total(),
        gpu_usable_bytes: fleet.usable(),
        declared_bytes: options.declared,
        capped: options.is_capped,
        bind_conflicts: driven.conflicts,
        policies,
    })
}

/// Length of a day of that many ticks, to a tenth of an hour.
fn hours(ticks: usize) -> f64 {
    let steps = ticks.saturating_sub(1) as f64;
    (steps * TICK.as_secs_f64() / 360.0).round() / 10.0
}
