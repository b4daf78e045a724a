//! Victims beyond kube-scheduler's.
//!
//! It picks as few as free the devices; the VRAM that these hold may be too little. Then others of
//! the node leave with them: bound pods with GPUs and of a lower priority than the preemptor, and
//! as few as it takes. All that may go are taken for gone, and then as many as possible are spared,
//! the most important first: so kube-scheduler reprieves its own.

use std::cmp::Reverse;

use super::preemption::Spares;
use super::{Candidate, Ledger, Victim};
use crate::engine::claim::ClaimState;
use crate::engine::{GpuAsk, PodFacts, PodUid, Time};

/// Of so many candidates that can be enlarged the best is taken. kube-scheduler itself, by default,
/// looks no further than at a hundred (`minCandidateNodesAbsolute`).
const MOST_ENLARGED: usize = 100;

impl Ledger {
    /// The best of these candidates with as many more victims as it takes.
    pub(super) fn enlarge_best(
        &self,
        pod: &PodFacts,
        ask: &GpuAsk,
        candidates: &mut dyn Iterator<Item = &Candidate>,
        spares: Spares<'_>,
        now: Time,
    ) -> Option<Candidate> {
        let enlarged = candidates.filter_map(|one| self.enlarge(pod, ask, one, spares, now));
        let ranked = enlarged.take(MOST_ENLARGED).map(|one| (self.rank(pod, &one), one));
        let best = ranked.min_by(|(left, one), (right, other)| {
            left.cmp(right).then_with(|| one.node.cmp(&other.node))
        });
        best.map(|(_, candidate)| candidate)
    }

    fn enlarge(
        &self,
        pod: &PodFacts,
        ask: &GpuAsk,
        candidate: &Candidate,
        spares: Spares<'_>,
        now: Time,
    ) -> Option<Candidate> {
        let asked = candidate.uids();
        let fits_without = |added: &[&PodFacts]| {
            let added = added.iter().map(|pod| pod.id.uid.clone());
            let gone: Vec<PodUid> = asked.iter().cloned().chain(added).collect();
            self.place_without(pod, ask, &candidate.node, &gone, now).is_some()
        };
        let mut added = self.addable(pod, candidate, spares);
        if !fits_without(&added) {
            return None;
        }
        let mut next = 0;
        while next < added.len() {
            let spared = added.remove(next);
            let fits = fits_without(&added);
            if !fits {
                added.insert(next, spared);
                next += 1;
            }
        }
        Some(self.with_victims(pod, candidate, &added))
    }

    /// Who may leave the node besides the candidate's victims, the most important first.
    fn addable(&self, pod: &PodFacts, candidate: &Candidate, spares: Spares<'_>) -> Vec<&PodFacts> {
        let claims = self.node(candidate.node.as_str()).map_or(&[][..], |node| &node.claims);
        let bound = claims.iter().filter(|claim| matches!(claim.state, ClaimState::Bound { .. }));
        let known = bound.filter_map(|claim| self.pod(&claim.pod.uid));
        let may_go = |other: &&PodFacts| {
            let is_here = other.node.as_ref() == Some(&candidate.node);
            let is_asked = candidate.victims.iter().any(|victim| victim.uid == other.id.uid);
            let stays = is_here && !other.has_ended && !other.is_deleting;
            stays && !is_asked && other.priority < pod.priority && !spares(other)
        };
        let mut addable: Vec<_> = known.filter(may_go).collect();
        addable.sort_by_key(|other| importance(other.priority, other.started_at));
        addable
    }

    /// All victims, the most important first, as kube-scheduler hands them over.
    fn with_victims(
        &self,
        pod: &PodFacts,
        candidate: &Candidate,
        added: &[&PodFacts],
    ) -> Candidate {
        let added = added.iter().map(|other| Victim {
            uid: other.id.uid.clone(),
            priority: Some(other.priority),
            started_at: other.started_at,
        });
        let mut victims: Vec<_> = candidate.victims.iter().cloned().chain(added).collect();
        victims.sort_by_key(|victim| {
            let (priority, started_at) = self.standing(pod, victim);
            importance(priority, Some(started_at))
        });
        Candidate { victims, ..candidate.clone() }
    }
}

/// The smaller, the more important: a higher priority, then an earlier start.
fn importance(priority: i32, started_at: Option<i64>) -> (Reverse<i32>, i64) {
    (Reverse(priority), started_at.unwrap_or(i64::MAX))
}
