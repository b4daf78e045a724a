//! Refusals of pods that the watch has not shown yet.
//!
//! kube-scheduler's watch may be a moment ahead of ours. A pod that is refused in that moment
//! cannot wait in the ledger's line, and kube-scheduler does not try it again by itself: it would
//! sleep through the memory that becomes free for it. So the refusal is kept until the watch
//! shows the pod.

use std::collections::HashMap;
use std::time::Duration;

use crate::engine::{GpuAsk, NodeName, PodUid, Time};

/// A watch that is further behind is broken, and its relist wakes nobody either.
const LONGEST_LAG: Duration = Duration::from_secs(60);
/// More than that many pods in one lag: the rest is found by kube-scheduler's own flush.
const MOST: usize = 4096;

/// Refusals by pod.
#[derive(Debug, Default)]
pub(super) struct EarlyRefusals(HashMap<PodUid, EarlyRefusal>);

/// What a pod was offered when it was refused.
#[derive(Debug)]
pub(super) struct EarlyRefusal {
    pub(super) ask: GpuAsk,
    pub(super) offered: Vec<NodeName>,
    at: Time,
}

impl EarlyRefusals {
    pub(super) fn insert(&mut self, pod: &PodUid, ask: &GpuAsk, offered: &[&str], now: Time) {
        if self.0.len() >= MOST {
            self.0.retain(|_, refusal| now.since(refusal.at) < LONGEST_LAG);
        }
        if self.0.len() < MOST {
            let offered = offered.iter().map(NodeName::from).collect();
            self.0.insert(pod.clone(), EarlyRefusal { ask: ask.clone(), offered, at: now });
        }
    }

    /// The pod was tried again, or has come to light.
    pub(super) fn take(&mut self, pod: &PodUid) -> Option<EarlyRefusal> {
        if self.0.is_empty() { None } else { self.0.remove(pod) }
    }
}
