//! Pods that wait to be bound, and what would have to be added for them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Outlook;
use super::room::Room;
use super::survey::Survey;
use crate::engine::request::GpuAsk;
use crate::engine::{Bytes, PodFacts, Reason};

/// The pending pods of one namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// How many.
    pub pods: usize,
    /// What they ask over all their GPUs, as far as it is known: a pod that declares nothing and
    /// has no default counts as nothing.
    pub vram: Bytes,
}

impl Pending {
    /// Counts one more.
    pub(super) fn add(&mut self, facts: &PodFacts) {
        self.pods += 1;
        if let Ok(ask) = &facts.ask {
            self.vram += ask.total();
        }
    }
}

/// What would have to be added so that all pending pods run which an empty fleet could take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shortage {
    /// GPUs.
    pub gpus: u64,
    /// Nodes: more than the GPUs need where one pod wants several on one node.
    pub nodes: u64,
    /// Balloons: pods of which each holds the devices of one node, so that somebody adds as many
    /// nodes as are needed. None while one of them is where a pending pod would fit: then all make
    /// way at once, since whose controller lets go of one chooses which. One more for each that
    /// is on a node where it helps nobody.
    pub balloons: u64,
}

/// All that is pending.
pub(super) struct Demand<'a> {
    pub(super) pending: BTreeMap<Arc<str>, Pending>,
    /// How many pods ask the same, and how many of them have no place that they fit on.
    asks: BTreeMap<&'a GpuAsk, (usize, usize)>,
    bad_requests: usize,
}

/// Pods that ask the same and have no place yet.
pub(super) struct Homeless<'a> {
    ask: &'a GpuAsk,
    pods: usize,
    /// The most common kind of node that takes one.
    kind: &'a Room,
}

impl<'a> Demand<'a> {
    pub(super) fn of(survey: &'a Survey) -> Self {
        let namespaces = survey.living().map(|facts| facts.id.namespace.clone());
        let pending = namespaces.map(|namespace| (namespace, Pending::default())).collect();
        let mut demand = Self { pending, asks: BTreeMap::new(), bad_requests: 0 };
        for facts in survey.pending() {
            demand.pending.entry(facts.id.namespace.clone()).or_default().add(facts);
            let Ok(ask) = &facts.ask else {
                demand.bad_requests += 1;
                continue;
            };
            // Who waits for a reserved place to come free is helped by a node as well.
            let claim = survey.claimed.get(&facts.id.uid);
            let is_homeless = claim.is_none_or(|claim| claim.is_reserved);
            let (all, homeless) = demand.asks.entry(ask).or_default();
            *all += 1;
            *homeless += usize::from(is_homeless);
        }
        demand
    }

    /// Those that some kind of node could take, and the number of the others by reason.
    pub(super) fn sort_out<'k>(
        &self,
        kinds: &'k [Room],
    ) -> (Vec<Homeless<'k>>, Vec<(Reason, usize)>)
    where
        'a: 'k,
    {
        let mut unplaceable = Outlook::UNPLACEABLE.map(|reason| (reason, 0));
        let mut count = |reason, pods| {
            let entry = unplaceable.iter_mut().find(|(known, _)| *known == reason);
            entry.into_iter().for_each(|(_, count)| *count += pods);
        };
        count(Reason::BadRequest, self.bad_requests);
        let mut homeless = Vec::new();
        for (ask, (all, pods)) in &self.asks {
            match kinds.iter().find(|kind| (*kind).clone().take(ask)) {
                Some(kind) => homeless.push(Homeless { ask, pods: *pods, kind }),
                None => count(nearest(kinds, ask), *all),
            }
        }
        (homeless, unplaceable.into())
    }
}

/// Of the kinds' refusals the one that came nearest to fitting.
fn nearest(kinds: &[Room], ask: &GpuAsk) -> Reason {
    let rank = |reason: &Reason| Outlook::UNPLACEABLE.iter().position(|one| one == reason);
    let refusals = kinds.iter().map(|kind| kind.refusal(ask));
    refusals.max_by_key(rank).unwrap_or(Reason::NoSuchGpu)
}

impl Shortage {
    /// First fit, the largest first: into what is free now, then into new nodes, each of the most
    /// common kind that takes the pod.
    pub(super) fn of(
        mut homeless: Vec<Homeless<'_>>,
        mut rooms: Vec<Room>,
        ballooned: &[usize],
    ) -> Self {
        homeless.sort_by_key(|one| Reverse((size(one.ask), one.ask.most_gpus())));
        let present = rooms.len();
        let mut is_landed = false;
        for Homeless { ask, pods, kind } in homeless {
            let mut left = pods;
            // Pods that ask the same: what refused one refuses the next.
            for (at, room) in rooms.iter_mut().enumerate() {
                let taken = fill(room, ask, left);
                is_landed |= taken > 0 && ballooned.contains(&at);
                left -= taken;
            }
            while left > 0 {
                let mut room = kind.clone().capped_by_replicas();
                let taken = fill(&mut room, ask, left);
                rooms.push(room);
                left -= taken;
                if taken == 0 {
                    break;
                }
            }
        }
        let added = &rooms[present..];
        let gpus = added.iter().flat_map(Room::slots).filter(|slot| !slot.is_empty).count();
        let nodes = added.len() as u64;
        let is_idle = nodes == 0 || is_landed;
        let balloons = if is_idle { 0 } else { nodes + ballooned.len() as u64 };
        Self { gpus: gpus as u64, nodes, balloons }
    }
}

/// How many of so many pods that ask the same the room takes.
fn fill(room: &mut Room, ask: &GpuAsk, pods: usize) -> usize {
    (0..pods).take_while(|_| room.take(ask)).count()
}

/// What the pod asks over all its GPUs; of whole GPUs more than of anything.
fn size(ask: &GpuAsk) -> Bytes {
    if ask.most_per_gpu().is_none() { Bytes::new(u64::MAX) } else { ask.total() }
}
