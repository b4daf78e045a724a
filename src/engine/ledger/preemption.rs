//! Preemption: who would have to leave a node, whether the pod fits then, and the place that is
//! kept for it.
//!
//! kube-scheduler preempts when *device counts* are short, and knows nothing of VRAM. Of its
//! candidates one is answered: the best by its own rules among those where the VRAM fits with the
//! victims gone. Their charges and measurements go; foreign memory and everyone else stay. Where
//! memory cannot be told apart by pod, what victims use counts as foreign, so nobody is evicted
//! there unless the GPU is idle.
//!
//! Victims are kube-scheduler's, all of them; where these free devices but not enough VRAM on any
//! candidate, others are asked to leave with them: see [`victims`](super::victims).
//!
//! A balloon is left alone for a while (`balloon_patience`): its autoscaler takes it away as soon as
//! the node can be used. One that is evicted is replaced at once, and the new one, which another
//! scheduler places, races with the pod for the devices.
//!
//! The *nominated* claim is advice, like a hold: [`Ledger::admit`] alone decides. It lives until
//! the preemptor is bound or deleted, or for a while after the last victim is gone. Where none of
//! them has even begun to leave in that time, kube-scheduler did not follow, and it ends too.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::admission::claim;
use super::{Ledger, NodeIndex};
use crate::engine::accounting::Asker;
use crate::engine::claim::{Claim, ClaimState, Nomination};
use crate::engine::placement::Placement;
use crate::engine::{GpuAsk, NodeName, PodFacts, PodUid, Time};

/// A node that kube-scheduler would clear for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeName,
    /// Who would have to leave it.
    pub victims: Vec<Victim>,
    /// How many of those a `PodDisruptionBudget` protects.
    pub pdb_violations: i64,
}

/// A pod that would have to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// The pod.
    pub uid: PodUid,
    /// Its priority, where the call says it; else the ledger's word counts.
    pub priority: Option<i32>,
    /// Its start, seconds since 1970, where the call says it; else the ledger's word counts.
    pub started_at: Option<i64>,
}

impl Candidate {
    /// Who would have to leave.
    pub(super) fn uids(&self) -> Vec<PodUid> {
        self.victims.iter().map(|victim| victim.uid.clone()).collect()
    }
}

/// Says of a pod that filmgate must not ask it to leave: whom a `PodDisruptionBudget` may protect.
/// kube-scheduler has looked at its own victims; at those that are added nobody else looks.
pub type Spares<'a> = &'a dyn Fn(&PodFacts) -> bool;

/// kube-scheduler's order of candidates (`pickOneNodeForPreemption`): fewest violations, lowest
/// highest priority, smallest sum of priorities, fewest victims, latest start of the earliest among
/// those of the highest priority. The smallest is best.
pub(super) type Rank = (i64, i32, i64, usize, Reverse<i64>);

impl Ledger {
    /// Whether a place is kept for the pod, for which others were asked to leave.
    #[must_use]
    pub fn is_nominated(&self, pod: &PodUid) -> bool {
        self.claim(pod).is_some_and(|(_, claim)| claim.nominated().is_some())
    }

    /// Places kept for pods for which others were asked to leave.
    #[must_use]
    pub fn nominations(&self) -> usize {
        self.claims().filter(|(_, claim)| claim.nominated().is_some()).count()
    }

    /// What if the victims were gone? The best candidate where the pod fits then, as it is or with
    /// more victims, none of whom `spares` names; `None` where it fits nowhere, or where victims
    /// were asked to leave for it already: one set is enough.
    #[must_use]
    pub fn choose_candidate(
        &self,
        pod: &PodFacts,
        ask: &GpuAsk,
        candidates: &[Candidate],
        spares: Spares<'_>,
        now: Time,
    ) -> Option<Candidate> {
        if self.is_nominated(&pod.id.uid) {
            return None;
        }
        let usable = candidates.iter().enumerate();
        let usable = usable.filter(|(_, candidate)| {
            self.may_clear(pod, candidate) && !self.is_deflating(candidate, now)
        });
        let mut ranked: Vec<_> = usable
            .map(|(at, candidate)| (self.rank(pod, candidate), &candidate.node, at))
            .collect();
        ranked.sort_unstable();
        let mut ranked = ranked.into_iter().map(|(_, _, at)| &candidates[at]);
        let fits =
            |one: &&Candidate| self.place_without(pod, ask, &one.node, &one.uids(), now).is_some();
        let as_it_is = ranked.clone().find(fits).cloned();
        as_it_is.or_else(|| self.enlarge_best(pod, ask, &mut ranked, spares, now))
    }

    /// Keeps the place that the victims will leave, in the stead of any hold. Nothing happens, and
    /// nobody must be evicted, where the pod does not fit there (any more), is past being held, or
    /// has a place already.
    pub fn nominate(
        &mut self,
        pod: &PodFacts,
        ask: &GpuAsk,
        candidate: &Candidate,
        now: Time,
    ) -> bool {
        let uid = &pod.id.uid;
        let is_past = self.claim(uid).is_some_and(|(_, claim)| !claim.is_held())
            || self.pods.get(uid).is_some_and(|known| known.node.is_some() || known.has_ended)
            || self.deleted.known.contains(uid);
        let Some(index) = self.node_index(candidate.node.as_str()) else { return false };
        if is_past || !self.may_clear(pod, candidate) {
            return false;
        }
        let victims = candidate.uids();
        let placement = self.place_without(pod, ask, &candidate.node, &victims, now);
        let Some(placement) = placement else { return false };
        self.remove_claim(uid, now);
        let mut claim = claim(&pod.id, ask, &placement, ClaimState::Nominated);
        let nomination = Nomination { priority: pod.priority, victims, since: now, until: None };
        claim.nomination = Some(Box::new(nomination));
        self.insert_claim(index, claim, now);
        true
    }

    /// Nobody was asked to leave. Where that is for now only, since a node was not read yet or a
    /// balloon on it may go by itself, the pod waits for that node too.
    pub fn wait_for_candidates(
        &mut self,
        pod: &PodFacts,
        ask: &GpuAsk,
        candidates: &[Candidate],
        now: Time,
    ) {
        let uid = &pod.id.uid;
        let is_unbound = |facts: &&Arc<PodFacts>| facts.node.is_none() && !facts.has_ended;
        let Some(facts) = self.pods.get(uid).filter(is_unbound) else { return };
        if self.is_nominated(uid) {
            return;
        }
        let clearable = candidates.iter().filter(|one| self.may_clear(pod, one));
        let index_of = |one: &Candidate| self.node_index(one.node.as_str());
        let is_unusable =
            |index: &NodeIndex| self.nodes[*index].check_usable(&self.policy, now).is_err();
        let (deflating, others): (Vec<_>, Vec<_>) =
            clearable.partition(|one| self.is_deflating(one, now));
        let deflating: Vec<_> = deflating.into_iter().filter_map(index_of).collect();
        let unusable = others.into_iter().filter_map(index_of).filter(is_unusable);
        let expected: Vec<_> = unusable.chain(deflating.iter().copied()).collect();
        if expected.is_empty() {
            return;
        }
        let known = self.waiting.get(uid);
        let mut offered = known.map(|one| one.offered.clone()).unwrap_or_default();
        for index in expected {
            offered.insert(self.nodes[index].name.as_str(), Some(index));
        }
        self.waiting.insert(facts, ask, offered, now);
        self.freed.extend(deflating);
    }

    /// A pod was judged before its priority was known, so that it did not pass around nominations
    /// that it may pass around: those nodes are looked at again.
    pub fn reconsider_nominations(&mut self) {
        let is_kept = |index: &&NodeIndex| {
            self.nodes[**index].claims.iter().any(|claim| claim.precedence().is_some())
        };
        self.freed.extend(self.restless.iter().filter(is_kept));
    }

    /// There is someone to evict; each has a lower priority, and none is known to be elsewhere.
    fn may_clear(&self, pod: &PodFacts, candidate: &Candidate) -> bool {
        let may_go = |victim: &Victim| {
            let known = self.pods.get(&victim.uid);
            let place = self.claim(&victim.uid).filter(|(_, claim)| claim.was_bound());
            let place = known.and_then(|known| known.node.as_ref()).or(place.map(|(at, _)| at));
            let is_here = known.is_none() || place == Some(&candidate.node);
            let priority = victim.priority.or(known.map(|known| known.priority));
            is_here && priority.is_none_or(|priority| priority < pod.priority)
        };
        !candidate.victims.is_empty() && candidate.victims.iter().all(may_go)
    }

    /// Some victim is a balloon that is to have time to go by itself.
    fn is_deflating(&self, candidate: &Candidate, now: Time) -> bool {
        candidate.victims.iter().any(|victim| {
            let Some(index) = self.claim_at.get(&victim.uid) else { return false };
            let Some((_, claim)) = self.claim(&victim.uid) else { return false };
            let ClaimState::Bound { since } = claim.state else { return false };
            let since = since.max(self.nodes[*index].readable_since);
            let is_balloon = self.pods.get(&victim.uid).is_some_and(|facts| facts.is_balloon());
            is_balloon && now.since(since) < self.policy.balloon_patience
        })
    }

    /// Where the pod would go on that node if those were gone.
    pub(super) fn place_without(
        &self,
        pod: &PodFacts,
        ask: &GpuAsk,
        node: &NodeName,
        gone: &[PodUid],
        now: Time,
    ) -> Option<Placement> {
        let node = self.node(node.as_str())?;
        let asker = Asker { pod: Some(&pod.id.uid), priority: pod.priority, gone };
        node.place(asker, ask, &self.policy, now).ok()
    }

    pub(super) fn rank(&self, pod: &PodFacts, candidate: &Candidate) -> Rank {
        let victims: Vec<(i32, i64)> =
            candidate.victims.iter().map(|victim| self.standing(pod, victim)).collect();
        let highest = victims.iter().map(|(priority, _)| *priority).max().unwrap_or(i32::MIN);
        // As kube-scheduler does, so that few pods of negative priority count less than many.
        let above_zero = |priority: i32| i64::from(priority) + i64::from(i32::MAX) + 1;
        let sum = victims.iter().map(|(priority, _)| above_zero(*priority)).sum();
        let first = victims.iter().filter(|(priority, _)| *priority == highest);
        let earliest = first.map(|(_, started_at)| *started_at).min().unwrap_or(i64::MAX);
        (candidate.pdb_violations, highest, sum, victims.len(), Reverse(earliest))
    }

    /// Priority and start. Of a pod without a GPU a call by UIDs tells neither: the worst that
    /// kube-scheduler could have chosen is assumed. A pod that has not started starts now.
    pub(super) fn standing(&self, pod: &PodFacts, victim: &Victim) -> (i32, i64) {
        let known = self.pods.get(&victim.uid);
        let priority = victim.priority.or(known.map(|known| known.priority));
        let started_at = victim.started_at.or(known.and_then(|known| known.started_at));
        (priority.unwrap_or(pod.priority.saturating_sub(1)), started_at.unwrap_or(i64::MAX))
    }

    /// Notes which nominations run out, and renews holds that kube-scheduler stands by; whether
    /// anything changed.
    pub(super) fn follow_nominations(&mut self, index: NodeIndex, now: Time) -> bool {
        let Self { nodes, pods, policy, .. } = self;
        let node = &mut nodes[index];
        let mut has_changed = false;
        for claim in &mut node.claims {
            let known = pods.get(&claim.pod.uid);
            let stands_by = known.and_then(|facts| facts.nominated.as_ref()) == Some(&node.name);
            has_changed |= (stands_by && renew(claim, policy.hold_ttl, now))
                || run_out(claim, policy.nomination_ttl, now, |uid| {
                    pods.get(uid).map(|facts| &**facts)
                });
        }
        has_changed
    }
}

/// A hold lives on while `status.nominatedNodeName` names its node: kube-scheduler writes it before
/// PreBind, which may wait minutes for volumes.
fn renew(claim: &mut Claim, ttl: Duration, now: Time) -> bool {
    match &mut claim.state {
        ClaimState::Held { until } if *until <= now + ttl / 2 => {
            *until = now + ttl;
            true
        }
        _ => false,
    }
}

fn run_out<'a>(
    claim: &mut Claim,
    ttl: Duration,
    now: Time,
    facts: impl Fn(&PodUid) -> Option<&'a PodFacts>,
) -> bool {
    if claim.state != ClaimState::Nominated {
        return false;
    }
    let Some(nomination) = claim.nomination.as_mut().filter(|one| one.until.is_none()) else {
        return false;
    };
    let there = nomination.victims.iter().filter_map(facts).filter(|facts| !facts.has_ended);
    let there: Vec<_> = there.collect();
    let has_begun = there.len() < nomination.victims.len();
    if there.is_empty() {
        nomination.until = Some(now + ttl);
    } else if !has_begun && !there.iter().any(|facts| facts.is_deleting) {
        let gave_up = nomination.since + ttl <= now;
        nomination.until = gave_up.then_some(now);
    }
    nomination.until.is_some()
}
