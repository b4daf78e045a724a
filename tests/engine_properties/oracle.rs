//! A second, naive opinion about charges: DESIGN's words, no caches, nothing of the ledger's code.
//!
//! What the two must agree on after every step:
//!
//! - *Claims.* Each claim beyond a hold is one that the oracle expects, in the expected state, and
//!   none is missing; only the end of a *leaving* claim is the ledger's to tell, and is then checked
//!   against the truth: a sampling that really began after the pod was known to be gone.
//! - *Figures.* `foreign` and `charged` of each GPU, computed here from the last reading taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use filmgate::engine::{
    Attribution, Bytes, DeviceAssignment, GpuAsk, GpuReading, GpuUuid, NodeName, PodFacts, PodUid,
    Policy, Reading, Time,
};

use crate::cluster::Sampled;

#[derive(Debug)]
pub(crate) struct Oracle {
    policy: Policy,
    pub(crate) claims: BTreeMap<PodUid, Claim>,
    pub(crate) nodes: BTreeMap<NodeName, Seen>,
    facts: BTreeMap<PodUid, PodFacts>,
    deleted: BTreeSet<PodUid>,
}

/// What is known of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) uid: Option<String>,
    pub(crate) generation: u32,
    is_gone: bool,
    /// The last reading taken.
    pub(crate) last: Option<Sampled>,
    /// Number of the newest sampling told of in that reading's run.
    pub(crate) told: u64,
    pub(crate) is_impossible: bool,
    number: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) node: NodeName,
    pub(crate) state: State,
    pub(crate) planned: Vec<(GpuUuid, Bytes)>,
    pub(crate) ask: Option<GpuAsk>,
    is_confirmed: bool,
    is_book_current: bool,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Binding,
    Bound { since: Time },
    Leaving { not_before: Time },
}

impl Oracle {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            claims: BTreeMap::new(),
            nodes: BTreeMap::new(),
            facts: BTreeMap::new(),
            deleted: BTreeSet::new(),
        }
    }

    pub(crate) fn admitted(
        &mut self,
        facts: &PodFacts,
        node: &NodeName,
        planned: Vec<(GpuUuid, Bytes)>,
    ) {
        let claim = Claim {
            node: node.clone(),
            state: State::Binding,
            planned,
            ask: facts.ask.clone().ok(),
            is_confirmed: false,
            is_book_current: false,
            name: facts.id.name.to_string(),
        };
        let before = self.claims.insert(facts.id.uid.clone(), claim);
        assert!(before.is_none(), "a pod was admitted twice");
    }

    pub(crate) fn bound(&mut self, uid: &PodUid, now: Time) {
        if let Some(claim) = self.claims.get_mut(uid)
            && claim.state == State::Binding
        {
            claim.state = State::Bound { since: now };
        }
    }

    pub(crate) fn not_bound(&mut self, uid: &PodUid) {
        if self.claims.get(uid).is_some_and(|claim| claim.state == State::Binding) {
            self.claims.remove(uid);
        }
    }

    pub(crate) fn applied(&mut self, facts: &PodFacts, now: Time) {
        let uid = &facts.id.uid;
        if self.deleted.contains(uid) {
            return;
        }
        let known = self.facts.get(uid);
        if known
            .is_some_and(|known| known.node.is_some() && (known.has_ended || facts.node.is_none()))
        {
            return;
        }
        self.facts.insert(uid.clone(), facts.clone());
        let Some(node) = facts.node.clone() else { return };
        let decided = facts.decision.clone().unwrap_or_default().charged;
        let fresh = Claim {
            node: node.clone(),
            state: State::Bound { since: now },
            planned: decided.clone(),
            ask: None,
            is_confirmed: true,
            is_book_current: false,
            name: facts.id.name.to_string(),
        };
        let claim = self.claims.entry(uid.clone()).or_insert(fresh.clone());
        if claim.state == State::Binding {
            *claim = fresh;
        } else if !claim.is_confirmed {
            claim.planned = decided;
            claim.is_confirmed = true;
        }
        // A list lacked it, and it is there after all.
        if matches!(claim.state, State::Leaving { .. }) && !facts.has_ended {
            claim.state = State::Bound { since: now };
        }
        claim.ask = facts.ask.clone().ok();
        if facts.has_ended {
            self.left(uid, now);
        }
    }

    /// The pod is no longer in the API server; `last` where a watch event said so.
    pub(crate) fn deleted(&mut self, uid: &PodUid, last: Option<&PodFacts>, now: Time) {
        if let Some(last) = last {
            self.applied(last, now);
        }
        self.deleted.insert(uid.clone());
        self.gone(uid, last, now);
    }

    fn gone(&mut self, uid: &PodUid, last: Option<&PodFacts>, now: Time) {
        self.facts.remove(uid);
        let never_bound = last.is_some_and(|last| last.node.is_none());
        if never_bound {
            self.not_bound(uid);
        }
        let ended = last.is_some_and(|last| last.has_ended);
        let grace = if ended { Duration::ZERO } else { self.policy.force_delete_grace };
        self.left(uid, now + grace);
    }

    pub(crate) fn relisted(&mut self, pods: &[PodFacts], now: Time) {
        let listed: BTreeSet<_> = pods.iter().map(|pod| &pod.id.uid).collect();
        let gone: Vec<_> = self.facts.keys().filter(|uid| !listed.contains(uid)).cloned().collect();
        for uid in gone {
            self.gone(&uid, None, now);
        }
        for pod in pods {
            self.applied(pod, now);
        }
    }

    fn left(&mut self, uid: &PodUid, not_before: Time) {
        if let Some(claim) = self.claims.get_mut(uid)
            && !matches!(claim.state, State::Leaving { .. })
        {
            claim.state = State::Leaving { not_before };
        }
    }

    /// A node was added or changed: another one under the name has not been read.
    pub(crate) fn node_applied(&mut self, name: &NodeName, uid: &str, generation: u32) {
        let seen = self.nodes.entry(name.clone()).or_default();
        if seen.is_gone || seen.uid.as_deref().is_some_and(|before| before != uid) {
            seen.last = None;
        }
        seen.is_gone = false;
        seen.uid = Some(uid.to_owned());
        seen.generation = generation;
    }

    pub(crate) fn node_deleted(&mut self, name: &NodeName) {
        let seen = self.nodes.entry(name.clone()).or_default();
        seen.is_gone = true;
        seen.last = None;
    }

    /// The ledger took a reading: it must be newer than all it had, and of this machine or a later.
    pub(crate) fn taken(&mut self, sampled: &Sampled) {
        let seen = self.nodes.entry(sampled.reading.node.clone()).or_default();
        assert!(sampled.number > seen.number, "a late reading was taken");
        assert!(sampled.generation >= seen.generation, "a former machine's reading was taken");
        seen.number = sampled.number;
        seen.told = sampled.reading.sampling;
        seen.last = Some(sampled.clone());
        seen.is_impossible = false;
    }

    /// A question asked at that moment was answered by a reading that was taken, or by one that
    /// shows no more than what was taken: the kubelet's book means the pods bound before.
    pub(crate) fn answered(&mut self, reading: &Reading, asked_at: Time) {
        let Some(seen) = self.nodes.get(&reading.node) else { return };
        let shown = seen.last.as_ref().is_some_and(|last| {
            last.reading.agent == reading.agent
                && reading.sampling <= seen.told
                && !seen.is_impossible
        });
        if !shown {
            return;
        }
        for claim in self.claims.values_mut().filter(|claim| claim.node == reading.node) {
            claim.is_book_current |=
                matches!(claim.state, State::Bound { since } if since <= asked_at);
        }
    }

    /// The ledger has ended a leaving claim: with right?
    pub(crate) fn ended(&mut self, uid: &PodUid, now: Time) {
        let claim = self.claims.remove(uid).expect("only an expected claim ends");
        let State::Leaving { not_before } = claim.state else {
            panic!("{uid} lost its claim while {:?}", claim.state)
        };
        let seen = self.nodes.get(&claim.node).filter(|seen| !seen.is_gone);
        let Some(last) = seen.and_then(|seen| seen.last.as_ref()) else { return };
        let is_shown = last.reading.attribution == Attribution::Full && last.at >= not_before;
        let told_later = seen.is_some_and(|seen| seen.told > last.reading.sampling);
        let grace_is_over = last.reading.attribution != Attribution::Full
            && not_before + self.policy.unattributed_grace <= now;
        assert!(is_shown || told_later || grace_is_over, "{uid} was released without evidence");
    }

    /// Foreign memory and the sum over all pods on the GPU, as of the last reading taken.
    pub(crate) fn figures(&self, node: &NodeName, gpu: &GpuReading) -> (Bytes, Bytes) {
        let measured: Bytes = gpu.pods.iter().map(|pod| pod.used).sum();
        let foreign = gpu.used - measured;
        (foreign, self.by_pod(node, gpu).into_values().sum())
    }

    /// The GPU's sum when those are gone.
    pub(crate) fn sum_without(
        &self,
        node: &NodeName,
        gpu: &GpuReading,
        gone: &BTreeSet<PodUid>,
    ) -> Bytes {
        let (foreign, _) = self.figures(node, gpu);
        let stay = self.by_pod(node, gpu).into_iter().filter(|(uid, _)| !gone.contains(*uid));
        foreign + stay.map(|(_, bytes)| bytes).sum()
    }

    fn by_pod<'a>(&'a self, node: &NodeName, gpu: &'a GpuReading) -> BTreeMap<&'a PodUid, Bytes> {
        let claims = self.claims.iter().filter(|(_, claim)| claim.node == *node);
        let mut by_pod: BTreeMap<_, _> = gpu.pods.iter().map(|pod| (&pod.uid, pod.used)).collect();
        for (uid, claim) in claims {
            if let Some(charge) = self.charge(uid, claim, gpu) {
                let of_pod = by_pod.entry(uid).or_insert(Bytes::ZERO);
                *of_pod = (*of_pod).max(charge);
            }
        }
        by_pod
    }

    /// `foreign + Σ max(charge, measured)` of each GPU of the node.
    pub(crate) fn sums(&self, node: &NodeName) -> Vec<(GpuUuid, Bytes)> {
        let Some(last) = self.nodes.get(node).and_then(|seen| seen.last.as_ref()) else {
            return Vec::new();
        };
        let sum = |gpu: &GpuReading| {
            let (foreign, pods) = self.figures(node, gpu);
            (gpu.uuid.clone(), foreign + pods)
        };
        last.reading.gpus.iter().map(sum).collect()
    }

    fn charge(&self, uid: &PodUid, claim: &Claim, gpu: &GpuReading) -> Option<Bytes> {
        let reading = &self.nodes[&claim.node].last.as_ref()?.reading;
        if !places(uid, claim, reading).contains(&gpu.uuid) {
            return None;
        }
        let own = gpu.pods.iter().find(|pod| pod.uid == *uid);
        let measured = own.map_or(Bytes::ZERO, |own| own.used.max(own.peak));
        let decided = claim.planned.iter().find(|(planned, _)| *planned == gpu.uuid);
        let most_decided = claim.planned.iter().map(|(_, bytes)| *bytes).max();
        let decided = decided.map(|(_, bytes)| *bytes).or(most_decided).unwrap_or(Bytes::ZERO);
        let declared = claim.ask.as_ref().and_then(GpuAsk::most_per_gpu);
        Some(declared.unwrap_or(Bytes::ZERO).max(decided).max(measured))
    }
}

/// The book that is real: processes, then the kubelet's list, then the plan.
fn places(uid: &PodUid, claim: &Claim, reading: &Reading) -> BTreeSet<GpuUuid> {
    let all = || reading.gpus.iter().map(|gpu| gpu.uuid.clone());
    let is_there = |gpu: &GpuUuid| reading.gpus.iter().any(|other| other.uuid == *gpu);
    let planned = claim.planned.iter().map(|(gpu, _)| gpu.clone()).filter(is_there);
    let planned: BTreeSet<_> = planned.collect();
    let runs = |gpu: &&GpuReading| {
        gpu.pods.iter().any(|pod| pod.uid == *uid && pod.used.max(pod.peak) > Bytes::ZERO)
    };
    let seen: BTreeSet<_> = reading.gpus.iter().filter(runs).map(|gpu| gpu.uuid.clone()).collect();
    let is_own = |device: &&DeviceAssignment| match &device.uid {
        Some(of) => of == uid,
        None => claim.is_book_current && *device.pod == *claim.name,
    };
    let listed: BTreeSet<_> =
        reading.devices.iter().filter(is_own).map(|device| device.gpu.clone()).collect();
    let devices = claim.ask.as_ref().map_or(1, GpuAsk::devices) as usize;
    let is_steered = claim.ask.as_ref().is_some_and(GpuAsk::is_steered);
    let places: BTreeSet<_> = match claim.state {
        State::Binding => planned,
        _ if reading.attribution == Attribution::Full && seen.len() >= devices => seen,
        _ if !is_steered && !listed.is_empty() => &listed | &seen,
        _ => &(&planned | &listed) | &seen,
    };
    if places.is_empty() { all().collect() } else { places }
}
