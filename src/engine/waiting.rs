//! Pods that were refused everywhere, in the order in which freed memory is theirs: by priority,
//! then by age.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{GpuAsk, NodeName, PodFacts, PodRef, PodUid, Time};

/// A woken pod that is refused again is woken for the same node at most this often: its backoff
/// in kube-scheduler, or another plugin, kept it from the memory that we see.
const LEAST_WAKE_INTERVAL: Duration = Duration::from_secs(1);
const MOST_WAKE_INTERVAL: Duration = Duration::from_secs(60);

/// Place in the line: the smallest is first.
type Rank = (Reverse<i32>, i64, PodUid);

/// The waiting line.
#[derive(Debug, Default)]
pub(super) struct WaitingLine {
    line: BTreeMap<Rank, Waiting>,
    ranks: HashMap<PodUid, Rank>,
}

/// A pod in the line.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) pod: PodRef,
    pub(super) ask: GpuAsk,
    /// Nodes that kube-scheduler offered in the last filter call.
    pub(super) offered: NodeSet,
    /// Since when it waits.
    pub(super) since: Time,
    wake: Wake,
    /// Nothing was to be reserved for it: until when it is not looked at again.
    passed_over_until: Time,
}

#[derive(Debug, Clone, Copy)]
struct Wake {
    not_before: Time,
    interval: Duration,
}

/// A set of nodes by their position in the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeSet {
    positions: Vec<u64>,
    /// Those that the ledger did not know yet: kube-scheduler's watch may be ahead of ours.
    unknown: Vec<NodeName>,
}

impl NodeSet {
    pub(super) fn insert(&mut self, name: &str, position: Option<usize>) {
        let Some(position) = position else { return self.unknown.push(NodeName::from(name)) };
        let word = position / 64;
        if self.positions.len() <= word {
            self.positions.resize(word + 1, 0);
        }
        self.positions[word] |= 1 << (position % 64);
    }

    pub(super) fn contains(&self, position: usize, name: &NodeName) -> bool {
        let word = self.positions.get(position / 64);
        word.is_some_and(|word| word & (1 << (position % 64)) != 0) || self.unknown.contains(name)
    }
}

impl WaitingLine {
    /// Puts the pod in the line, or notes what it was offered this time.
    pub(super) fn insert(&mut self, facts: &PodFacts, ask: &GpuAsk, offered: NodeSet, now: Time) {
        let rank = (Reverse(facts.priority), facts.created_at, facts.id.uid.clone());
        let before = self.remove(&facts.id.uid);
        let wake = before
            .as_ref()
            .map_or(Wake { not_before: now, interval: LEAST_WAKE_INTERVAL }, |one| one.wake);
        let since = before.as_ref().map_or(now, |one| one.since);
        let passed_over_until = before.map_or(Time::ZERO, |one| one.passed_over_until);
        let (pod, ask) = (facts.id.clone(), ask.clone());
        let waiting = Waiting { pod, ask, offered, since, wake, passed_over_until };
        self.ranks.insert(facts.id.uid.clone(), rank.clone());
        self.line.insert(rank, waiting);
    }

    /// Takes the pod out of the line.
    pub(super) fn remove(&mut self, pod: &PodUid) -> Option<Waiting> {
        self.line.remove(&self.ranks.remove(pod)?)
    }

    /// Whether the pod is in the line.
    pub(super) fn contains(&self, pod: &PodUid) -> bool {
        self.ranks.contains_key(pod)
    }

    /// The pod's place in the line.
    pub(super) fn get(&self, pod: &PodUid) -> Option<&Waiting> {
        self.line.get(self.ranks.get(pod)?)
    }

    /// The first that has waited for so long, and is not passed over.
    pub(super) fn first_starved(&self, after: Duration, now: Time) -> Option<&Waiting> {
        self.iter().find(|one| now.since(one.since) >= after && one.passed_over_until <= now)
    }

    /// Passes the pod over until then, in the search for one that starves.
    pub(super) fn pass_over(&mut self, pod: &PodUid, until: Time) {
        if let Some(one) = self.ranks.get(pod).and_then(|rank| self.line.get_mut(rank)) {
            one.passed_over_until = until;
        }
    }

    /// The line, first in line first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.line.values()
    }

    /// The same, to note who is woken.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Waiting> {
        self.line.values_mut()
    }
}

impl Waiting {
    pub(super) fn may_wake(&self, now: Time) -> bool {
        self.wake.not_before <= now
    }

    /// Notes that the pod was woken; the next time is later and later.
    pub(super) fn woken(&mut self, now: Time) {
        self.wake.not_before = now + self.wake.interval;
        self.wake.interval = (self.wake.interval * 2).min(MOST_WAKE_INTERVAL);
    }
}
