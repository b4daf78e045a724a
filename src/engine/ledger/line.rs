//! The ledger's waiting line: who is refused everywhere, and whose turn it is when memory is free.

use std::sync::Arc;

use super::Ledger;
use crate::engine::request::GpuAsk;
use crate::engine::waiting::NodeSet;
use crate::engine::{NodeName, PodFacts, PodRef, PodUid, Time};

/// A waiting pod that fits now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wake {
    /// The pod.
    pub pod: PodRef,
    /// Where it fits.
    pub node: NodeName,
}

/// A pod in the line, for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingPod<'a> {
    /// The pod.
    pub pod: &'a PodRef,
    /// What it asks.
    pub ask: &'a GpuAsk,
    /// Since when it waits.
    pub since: Time,
}

impl Ledger {
    /// The pod was refused on every node that it was offered: it holds nothing, and waits. The
    /// ledger must know the pod; one that it does not know is tried again by kube-scheduler.
    pub fn wait<'n>(
        &mut self,
        pod: &PodUid,
        ask: &GpuAsk,
        offered: impl IntoIterator<Item = &'n str>,
        now: Time,
    ) {
        self.release_hold(pod, now);
        // For a nominated pod its victims' memory is what it waits for.
        let is_firm = self.claim(pod).is_some_and(|(_, claim)| !claim.is_advice());
        let may_wait =
            |facts: &&Arc<PodFacts>| facts.node.is_none() && !facts.has_ended && !is_firm;
        let Some(facts) = self.pods.get(pod).filter(may_wait) else { return };
        let mut nodes = NodeSet::default();
        let mut lookups = self.directory.lookups();
        for name in offered {
            nodes.insert(name, lookups.next(name));
        }
        self.waiting.insert(facts, ask, nodes, now);
    }

    /// Some node took the pod: it does not wait any more.
    pub fn stop_waiting(&mut self, pod: &PodUid) {
        self.waiting.remove(pod);
    }

    /// Whether the pod is in the line.
    #[must_use]
    pub fn is_waiting(&self, pod: &PodUid) -> bool {
        self.waiting.contains(pod)
    }

    /// The line, first in line first.
    pub fn waiting(&self) -> impl Iterator<Item = WaitingPod<'_>> {
        self.waiting.iter().map(|one| WaitingPod { pod: &one.pod, ask: &one.ask, since: one.since })
    }

    /// Pods whose turn has come: each fits a node where memory became free, and gets a short hold
    /// there, so that the next in line is not woken for the same memory.
    pub fn take_wakes(&mut self, now: Time) -> Vec<Wake> {
        if self.freed.is_empty() {
            return Vec::new();
        }
        let mut freed = std::mem::take(&mut self.freed);
        // Holds change nodes and not the line, which is long.
        let mut line = std::mem::take(&mut self.waiting);
        let mut wakes = Vec::new();
        for one in line.iter_mut() {
            let asker = self.asker(&one.pod.uid, &one.ask, now);
            let fits = |index: &usize| {
                one.offered.contains(*index, &self.nodes[*index].name)
                    && self.fits_at(*index, asker).is_ok()
            };
            let Some(index) = freed.iter().copied().find(fits) else { continue };
            if !one.may_wake(now) {
                self.freed.insert(index);
                continue;
            }
            let node = self.nodes[index].name.clone();
            let is_held =
                self.hold_until(&one.pod, &one.ask, node.as_str(), now + self.policy.wake_ttl, now);
            if !is_held {
                // Without a hold the next in line would be woken for the same memory: later.
                freed.remove(&index);
                self.freed.insert(index);
            }
            one.woken(now);
            wakes.push(Wake { pod: one.pod.clone(), node });
        }
        self.waiting = line;
        wakes
    }
}
