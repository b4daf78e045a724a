//! The place that is reserved for the first pod in line that has waited too long.
//!
//! A stream of small pods can keep a GPU from ever being as empty as a large one needs it. So after
//! `starvationAfter` what becomes free on one GPU is kept for that pod: the GPU nearest to fitting,
//! among nodes that its last filter call offered and where it would fit if the GPU were empty. Pods
//! of the same or a lower priority pass around it; nobody is evicted. One reservation at a time,
//! and after another `starvationAfter` it is decided anew: what was nearest may not drain at all.
//!
//! It is advice: [`Ledger::admit`] alone decides.

use std::time::Duration;

use super::admission::claim;
use super::{Ledger, Node, NodeIndex};
use crate::engine::accounting::{self, GpuState, NodeView};
use crate::engine::claim::{Claim, ClaimState};
use crate::engine::notice::Notice;
use crate::engine::placement::Placement;
use crate::engine::waiting::Waiting;
use crate::engine::{Bytes, GpuAsk, PodUid, Time};

/// Minutes are waited for: nobody needs an answer sooner.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// Of so many nodes, the nearest first, one will do if any does.
const MOST_NODES: usize = 256;

/// Who has the one reservation, and when it is looked at next.
#[derive(Debug, Default)]
pub(super) struct Reservation {
    holder: Option<PodUid>,
    next_look: Time,
}

impl Ledger {
    /// Keeps a place for whoever has waited too long, or lets the one that is kept stand.
    pub fn reserve(&mut self, now: Time) {
        if now < self.reservation.next_look {
            return;
        }
        self.reservation.next_look = now + LEAST_INTERVAL;
        if let Some(holder) = self.reservation.holder.clone() {
            if self.stands(&holder, now) {
                return;
            }
            self.end_reservation(&holder, now);
        }
        let Some(starved) = self.waiting.first_starved(self.policy.starvation_after, now).cloned()
        else {
            return;
        };
        match self.nearest_to_fit(&starved, now) {
            Some((index, placement)) => self.keep_for(&starved, index, &placement, now),
            // Nothing that drains would help, or it fits already and is about to be tried.
            None => {
                let again_at = now + self.policy.starvation_after;
                self.waiting.pass_over(&starved.pod.uid, again_at);
            }
        }
    }

    /// Places that are reserved now: one or none.
    #[must_use]
    pub fn reservations(&self) -> usize {
        self.claims().filter(|(_, claim)| claim.is_reserved()).count()
    }

    /// The pod still waits for the place, which may still come free, and its time is not over.
    fn stands(&self, holder: &PodUid, now: Time) -> bool {
        let Some(index) = self.claim_at.get(holder) else { return false };
        let node = &self.nodes[*index];
        let Some((_, claim)) = self.claim(holder) else { return false };
        let ClaimState::Reserved { since, .. } = claim.state else { return false };
        now.since(since) < self.policy.starvation_after
            && node.check_usable(&self.policy, now).is_ok()
            && self.waiting.get(holder).is_some_and(|one| one.offered.contains(*index, &node.name))
    }

    fn end_reservation(&mut self, holder: &PodUid, now: Time) {
        self.reservation.holder = None;
        if self.claim(holder).is_some_and(|(_, claim)| claim.is_reserved()) {
            self.remove_claim(holder, now);
        }
    }

    fn keep_for(&mut self, one: &Waiting, index: NodeIndex, placement: &Placement, now: Time) {
        let uid = &one.pod.uid;
        let Some(priority) = self.pods.get(uid).map(|facts| facts.priority) else { return };
        // A pod that has a claim already, as the nominated have, has its place.
        if self.claim(uid).is_some() {
            return self.waiting.pass_over(uid, now + self.policy.starvation_after);
        }
        let state = ClaimState::Reserved { priority, since: now };
        let claim = claim(&one.pod, &one.ask, placement, state);
        self.notices.push(self.nodes[index].reserved(&claim), now);
        self.insert_claim(index, claim, now);
        self.reservation.holder = Some(uid.clone());
    }

    /// The node where least is missing, and the place there once that has drained.
    fn nearest_to_fit(&self, one: &Waiting, now: Time) -> Option<(NodeIndex, Placement)> {
        let offered = self.nodes.iter().enumerate().filter(|(index, node)| {
            one.offered.contains(*index, &node.name) && node.check_usable(&self.policy, now).is_ok()
        });
        let eyes = self.eyes_of(&one.pod.uid);
        let missing = |(index, node): (NodeIndex, &Node)| {
            let view = node.view_for(eyes, &self.policy, now);
            Some((missing(&view, &one.ask)?, index))
        };
        let mut ranked: Vec<(Bytes, NodeIndex)> = offered.filter_map(missing).collect();
        ranked.sort_unstable();
        let fits_now =
            |index: NodeIndex| self.nodes[index].place(eyes, &one.ask, &self.policy, now).is_ok();
        let mut nearest = ranked.into_iter().take(MOST_NODES).map(|(_, index)| index);
        let (index, placement) = nearest
            .find_map(|index| Some((index, self.nodes[index].place_drained(self, one, now)?)))?;
        (!fits_now(index)).then_some((index, placement))
    }
}

impl Node {
    /// Where the pod would go once the GPU that is nearest to fitting has drained, or as many of
    /// them as it takes.
    fn place_drained(&self, ledger: &Ledger, one: &Waiting, now: Time) -> Option<Placement> {
        let (eyes, policy) = (ledger.eyes_of(&one.pod.uid), &ledger.policy);
        let view = self.view_for(eyes, policy, now);
        let mut gone: Vec<PodUid> = Vec::new();
        by_distance(&view, &one.ask).into_iter().find_map(|(_, position)| {
            gone.extend(self.pods_on(position));
            self.place(eyes.without(&gone), &one.ask, policy, now).ok()
        })
    }

    /// Pods that are charged or measured on the GPU at that position.
    fn pods_on(&self, position: usize) -> Vec<PodUid> {
        let Some(reading) = &self.reading else { return Vec::new() };
        let is_here = |claim: &&Claim| {
            accounting::charges(claim, reading).iter().any(|charge| charge.gpu == position)
        };
        let claimed = self.claims.iter().filter(is_here).map(|claim| claim.pod.uid.clone());
        let measured = reading.gpus[position].pods.iter().map(|memory| memory.uid.clone());
        claimed.chain(measured).collect()
    }

    fn reserved(&self, claim: &Claim) -> Notice {
        let index = |(gpu, _): &(_, _)| Some(self.reading.as_ref()?.gpu(gpu)?.index);
        Notice::Reserved {
            pod: claim.pod.clone(),
            node: self.name.clone(),
            gpus: claim.planned.iter().filter_map(index).collect(),
        }
    }
}

/// What is missing on as many of the node's GPUs as the pod has devices; `None` where there are
/// fewer.
fn missing(view: &NodeView, ask: &GpuAsk) -> Option<Bytes> {
    let wanted = ask.most_gpus() as usize;
    let nearest = by_distance(view, ask);
    (nearest.len() >= wanted)
        .then(|| nearest.iter().take(wanted).map(|(missing, _)| *missing).sum())
}

/// What is missing on each GPU that the pod could have, and its position; the nearest first.
fn by_distance(view: &NodeView, ask: &GpuAsk) -> Vec<(Bytes, usize)> {
    let is_asked = |gpu: &GpuState| ask.devices_of(&gpu.resource) > 0;
    let missing = |gpu: &GpuState| match ask.most_per_gpu() {
        Some(bytes) => bytes - gpu.open_bytes(),
        // It needs the GPU empty: all that pods have of it is missing.
        None => gpu.charged + gpu.held + gpu.kept,
    };
    let gpus = view.gpus.iter().enumerate().filter(|(_, gpu)| is_asked(gpu));
    let mut distances: Vec<_> = gpus.map(|(position, gpu)| (missing(gpu), position)).collect();
    distances.sort_unstable();
    distances
}
