//! The gate's counters, and the text that Prometheus reads.
//!
//! What can be computed from the ledger is computed at the scrape (`extender::gate::gauges`), so
//! that no series outlives its GPU; here are counters and histograms.

pub mod catalogue;
pub(crate) mod exposition;

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Registry, TextEncoder};

use self::catalogue::{Metric, replica};
use crate::comfyui;
use crate::engine::notice::Notice;
use crate::engine::{AdmitError, Reason};
use crate::extender::writer::BindOutcome;

/// From 100 µs, where a decision should lie, to the 5 s of kube-scheduler's HTTP timeout.
const BUCKETS: [f64; 15] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
const CONFLICTS: [&str; 4] = ["no_room", "in_flight", "already_bound", "superseded"];
const LANDINGS: [&str; 2] = ["hit", "miss"];
const OUTCOMES: [&str; 4] = ["bound", "refused", "superseded", "unknown"];

/// Counters and histograms of one gate.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    requests: HistogramVec,
    refusals: IntCounterVec,
    observed_refusals: IntCounterVec,
    conflicts: IntCounterVec,
    binds: IntCounterVec,
    wakes: IntCounter,
    victims: IntCounter,
    takeovers: IntCounter,
    forged_annotations: IntCounter,
    bound_by_another: IntCounter,
    growths: IntCounter,
    predictions: IntCounterVec,
    comfyui_polls: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::new(),
            requests: histogram(&replica::REQUESTS),
            refusals: counters(&replica::REFUSALS),
            observed_refusals: counters(&replica::OBSERVED_REFUSALS),
            conflicts: counters(&replica::CONFLICTS),
            binds: counters(&replica::BINDS),
            wakes: counter(&replica::WAKES),
            victims: counter(&replica::VICTIMS),
            takeovers: counter(&replica::TAKEOVERS),
            forged_annotations: counter(&replica::FORGED),
            bound_by_another: counter(&replica::BOUND_BY_ANOTHER),
            growths: counter(&replica::GROWTHS),
            predictions: counters(&replica::PREDICTIONS),
            comfyui_polls: counters(&replica::COMFYUI_POLLS),
        };
        metrics.register();
        metrics.start_at_zero();
        metrics
    }

    fn register(&self) {
        let all: [Box<dyn prometheus::core::Collector>; 13] = [
            Box::new(self.requests.clone()),
            Box::new(self.refusals.clone()),
            Box::new(self.observed_refusals.clone()),
            Box::new(self.conflicts.clone()),
            Box::new(self.binds.clone()),
            Box::new(self.wakes.clone()),
            Box::new(self.victims.clone()),
            Box::new(self.takeovers.clone()),
            Box::new(self.forged_annotations.clone()),
            Box::new(self.bound_by_another.clone()),
            Box::new(self.growths.clone()),
            Box::new(self.predictions.clone()),
            Box::new(self.comfyui_polls.clone()),
        ];
        for one in all {
            let registered = self.registry.register(one);
            debug_assert!(registered.is_ok(), "names are distinct: {registered:?}");
        }
    }

    fn start_at_zero(&self) {
        for reason in Reason::ALL {
            self.refusals.with_label_values(&[reason.label()]);
            self.observed_refusals.with_label_values(&[reason.label()]);
        }
        CONFLICTS.iter().for_each(|kind| drop(self.conflicts.with_label_values(&[kind])));
        LANDINGS.iter().for_each(|result| drop(self.predictions.with_label_values(&[result])));
        OUTCOMES.iter().for_each(|outcome| drop(self.binds.with_label_values(&[outcome])));
        comfyui::OUTCOMES.iter().for_each(|outcome| {
            drop(self.comfyui_polls.with_label_values(&[outcome]));
        });
    }

    /// A call was answered. `outcome` is `ok` or an error's fixed word.
    pub fn request(&self, verb: &str, outcome: &str, took: Duration) {
        self.requests.with_label_values(&[verb, outcome]).observe(took.as_secs_f64());
    }

    /// Filter refused these nodes.
    pub fn refusals(&self, verdicts: &[Option<Reason>]) {
        add(&self.refusals, verdicts);
    }

    /// In mode enforce these would have been refused.
    pub fn observed_refusals(&self, verdicts: &[Option<Reason>]) {
        add(&self.observed_refusals, verdicts);
    }

    /// A bind was not admitted.
    pub fn bind_conflict(&self, error: &AdmitError) {
        let kind = match error {
            AdmitError::Refused(_) => "no_room",
            AdmitError::InFlight => "in_flight",
            AdmitError::AlreadyBound(_) => "already_bound",
            AdmitError::UnknownPod | AdmitError::BadRequest(_) => return,
        };
        self.conflicts.with_label_values(&[kind]).inc();
    }

    /// What became of a Binding.
    pub fn bind_outcome(&self, outcome: &BindOutcome) {
        let label = match outcome {
            BindOutcome::Bound => "bound",
            BindOutcome::Refused(_) => "refused",
            BindOutcome::Superseded(_) => "superseded",
            BindOutcome::Unknown(_) => "unknown",
        };
        self.binds.with_label_values(&[label]).inc();
        if label == "superseded" {
            self.conflicts.with_label_values(&[label]).inc();
        }
    }

    /// Waiting pods were woken.
    pub fn wakes(&self, count: usize) {
        self.wakes.inc_by(count as u64);
    }

    /// kube-scheduler was asked to evict so many.
    pub fn victims(&self, count: usize) {
        self.victims.inc_by(count as u64);
    }

    /// This replica has taken over.
    pub fn takeover(&self) {
        self.takeovers.inc();
    }

    /// A ComfyUI was asked. `outcome` is one of [`comfyui::OUTCOMES`].
    pub fn comfyui_poll(&self, outcome: &str) {
        self.comfyui_polls.with_label_values(&[outcome]).inc();
    }

    /// The ledger noticed something of a pod.
    pub fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Forged { keys, .. } => self.forged_annotations.inc_by(keys.len() as u64),
            Notice::Grown { .. } => self.growths.inc(),
            Notice::Landed => self.predictions.with_label_values(&["hit"]).inc(),
            Notice::Strayed { .. } => self.predictions.with_label_values(&["miss"]).inc(),
            Notice::BoundByAnother { .. } => self.bound_by_another.inc(),
            Notice::Reserved { .. } => {}
        }
    }

    /// The exposition of the counters.
    #[must_use]
    pub fn render(&self) -> String {
        let families = self.registry.gather();
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

/// Adds up first: a filter call refuses thousands of nodes for a handful of reasons.
fn add(counters: &IntCounterVec, verdicts: &[Option<Reason>]) {
    let mut counts = [0_u64; Reason::ALL.len()];
    for reason in verdicts.iter().flatten() {
        counts[*reason as usize] += 1;
    }
    for (reason, count) in Reason::ALL.iter().zip(counts).filter(|(_, count)| *count > 0) {
        counters.with_label_values(&[reason.label()]).inc_by(count);
    }
}

fn histogram(metric: &Metric) -> HistogramVec {
    let opts = HistogramOpts::from(metric.opts()).buckets(BUCKETS.to_vec());
    valid(HistogramVec::new(opts, metric.labels))
}

fn counters(metric: &Metric) -> IntCounterVec {
    valid(IntCounterVec::new(metric.opts(), metric.labels))
}

fn counter(metric: &Metric) -> IntCounter {
    valid(IntCounter::with_opts(metric.opts()))
}

#[expect(
    clippy::expect_used,
    reason = "the catalogue's names and labels, and the buckets, are constants"
)]
fn valid<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a metric's description is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_there_before_it_happens() {
        let text = Metrics::new().render();
        for reason in Reason::ALL {
            let line = format!("filmgate_refusals_total{{reason=\"{}\"}} 0\n", reason.label());
            assert!(text.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_reason_is_counted_under_its_own_name() {
        let metrics = Metrics::new();
        for reason in Reason::ALL {
            metrics.refusals(&[Some(reason), None, Some(reason)]);
        }
        let text = metrics.render();
        for reason in Reason::ALL {
            let line = format!("filmgate_refusals_total{{reason=\"{}\"}} 2\n", reason.label());
            assert!(text.contains(&line), "{line}");
        }
    }
}
