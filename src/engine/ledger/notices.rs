//! What the ledger sees of bound pods that people should know. No decision depends on it.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Ledger, NodeIndex};
use crate::engine::claim::{Claim, ClaimState, Landing};
use crate::engine::marks;
use crate::engine::notice::Notice;
use crate::engine::{Bytes, GpuAsk, GpuUuid, NodeName, PodFacts, PodUid, Reading, Time};

/// What could not be told in this time is old: whoever can tell now was not there.
const NEWS_LASTS: Duration = Duration::from_secs(60);
/// Notices that wait to be told.
const MOST: usize = 1024;

/// Notices in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Notices(VecDeque<(Time, Notice)>);

impl Notices {
    pub(super) fn push(&mut self, notice: Notice, now: Time) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((now, notice));
    }
}

/// A bound pod's memory on one GPU, above its charge.
#[derive(Debug, Clone, PartialEq)]
pub struct OverCharge<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// Its node.
    pub node: &'a NodeName,
    /// NVML's index.
    pub gpu: u32,
    /// How much above.
    pub bytes: Bytes,
}

impl Ledger {
    /// What came up since the last call.
    pub fn take_notices(&mut self, now: Time) -> Vec<Notice> {
        let waiting = std::mem::take(&mut self.notices.0).into_iter();
        waiting.filter(|(at, _)| now.since(*at) < NEWS_LASTS).map(|(_, notice)| notice).collect()
    }

    /// Whether anything came up.
    #[must_use]
    pub fn has_notices(&self) -> bool {
        !self.notices.0.is_empty()
    }

    /// Every bound pod that holds more than it is charged, by GPU.
    pub fn over_charges(&self) -> impl Iterator<Item = OverCharge<'_>> {
        let nodes = self.nodes.iter().filter_map(|node| Some((node, node.reading.as_ref()?)));
        nodes.flat_map(|(node, reading)| {
            let grown = node.claims.iter().filter(|claim| !claim.grown.is_empty());
            grown.flat_map(move |claim| {
                let over = reading.gpus.iter().map(move |gpu| OverCharge {
                    claim,
                    node: &node.name,
                    gpu: gpu.index,
                    bytes: claim.over_charge_on(gpu),
                });
                over.filter(|over| over.bytes > Bytes::ZERO)
            })
        })
    }

    /// Pods with a GPU on each node that exists which were bound without a decision of ours.
    pub fn unmanaged_pods(&self) -> impl Iterator<Item = (&NodeName, usize)> {
        let is_there = |claim: &&Claim| {
            matches!(claim.state, ClaimState::Bound { .. }) && claim.is_unmanaged()
        };
        let nodes = self.nodes.iter().filter(|node| node.uid.is_some());
        nodes.map(move |node| (&node.name, node.claims.iter().filter(is_there).count()))
    }

    /// Notes what somebody else wrote on the pod in filmgate's name.
    pub(super) fn note_forged(&mut self, facts: &PodFacts, now: Time) {
        let before = self.pod(&facts.id.uid);
        let keys = marks::forged(facts, before, self.is_our_decision(facts));
        if !keys.is_empty() {
            self.notices.push(Notice::Forged { pod: facts.id.clone(), keys }, now);
        }
    }

    /// Notes that a pod which waited is bound, and that no Binding of this process did it.
    pub(super) fn note_bound_by_another(&mut self, facts: &PodFacts, now: Time) {
        let waited = self.pod(&facts.id.uid).is_some_and(|before| before.node.is_none());
        if let (Some(node), true, None) = (&facts.node, waited, self.sent(&facts.id.uid)) {
            let (pod, node) = (facts.id.clone(), node.clone());
            let scheduler = facts.scheduler.clone();
            self.notices.push(Notice::BoundByAnother { pod, node, scheduler }, now);
        }
    }

    /// Looks where the node's pods have come to and how much they hold.
    pub(super) fn watch_pods(&mut self, index: NodeIndex, now: Time) {
        let node = &mut self.nodes[index];
        let Some(reading) = &node.reading else { return };
        for claim in &mut node.claims {
            if matches!(claim.state, ClaimState::Bound { .. }) {
                let notices = &mut self.notices;
                landing(claim, &node.name, reading)
                    .into_iter()
                    .for_each(|one| notices.push(one, now));
                growth(claim, &node.name, reading, |one| notices.push(one, now));
            }
        }
    }

    /// The decision on a bound pod as far as it can be believed; else the pod is charged as one
    /// that someone else bound. Our own Binding is believed. What an earlier process or another
    /// leader may have decided is believed unless it shows that a Binding did not write it, or
    /// names fewer GPUs than a container of the pod has. Its amounts need no belief: the charge is
    /// never below what the pod declares or holds.
    pub(super) fn believed(&self, facts: &PodFacts) -> Vec<(GpuUuid, Bytes)> {
        let Some(decision) = &facts.decision else { return Vec::new() };
        let before = self.pod(&facts.id.uid);
        let gpus: std::collections::HashSet<_> =
            decision.charged.iter().map(|(gpu, _)| gpu).collect();
        let wanted = facts.ask.as_ref().map_or(0, |ask| ask.most_gpus() as usize);
        let is_credible = !marks::is_decision_forged(facts, before) && gpus.len() >= wanted;
        let is_believed = self.is_our_decision(facts) || is_credible;
        if is_believed { decision.charged.clone() } else { Vec::new() }
    }

    /// The bound pod carries what a Binding of this process was to write on it.
    fn is_our_decision(&self, facts: &PodFacts) -> bool {
        let (Some(at), Some(decision)) = (&facts.node, &facts.decision) else { return false };
        self.sent(&facts.id.uid).is_some_and(|(node, claim)| {
            node == at && !claim.is_confirmed && claim.planned == decision.charged
        })
    }

    /// The claim for which a Binding was sent.
    fn sent(&self, uid: &PodUid) -> Option<(&NodeName, &Claim)> {
        self.claim(uid).filter(|(_, claim)| !claim.is_advice())
    }
}

fn landing(claim: &mut Claim, node: &NodeName, reading: &Reading) -> Option<Notice> {
    if matches!(claim.landing, Landing::Unwatched | Landing::Miss) {
        return None;
    }
    let found = claim.found_on(reading)?;
    if !claim.has_strayed_to(&found) {
        let before = std::mem::replace(&mut claim.landing, Landing::Hit);
        return (before == Landing::Awaited).then_some(Notice::Landed);
    }
    let notice = Notice::Strayed {
        pod: claim.pod.clone(),
        node: node.clone(),
        sent_to: indices(reading, claim.planned.iter().map(|(gpu, _)| gpu)),
        found_on: indices(reading, found),
        is_steered: claim.ask.as_ref().is_some_and(GpuAsk::is_steered),
    };
    claim.landing = Landing::Miss;
    Some(notice)
}

fn indices<'a>(reading: &Reading, gpus: impl IntoIterator<Item = &'a GpuUuid>) -> Vec<u32> {
    gpus.into_iter().filter_map(|gpu| Some(reading.gpu(gpu)?.index)).collect()
}

fn growth(claim: &mut Claim, node: &NodeName, reading: &Reading, mut tell: impl FnMut(Notice)) {
    for gpu in &reading.gpus {
        let over = claim.over_charge_on(gpu);
        let told = claim.grown.iter().position(|(grown, _)| *grown == gpu.uuid);
        match told {
            None if over == Bytes::ZERO => continue,
            Some(at) if over == Bytes::ZERO => drop(claim.grown.swap_remove(at)),
            Some(at) if over < claim.grown[at].1 + claim.grown[at].1 => {}
            _ => {
                claim.grown.retain(|(grown, _)| *grown != gpu.uuid);
                claim.grown.push((gpu.uuid.clone(), over));
                let charged = claim.expected_on(&gpu.uuid);
                tell(Notice::Grown {
                    pod: claim.pod.clone(),
                    node: node.clone(),
                    gpu: gpu.index,
                    measured: charged + over,
                    charged,
                });
            }
        }
    }
}
