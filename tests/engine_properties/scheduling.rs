//! What kube-scheduler and the extender do with a pod, and what becomes of its Binding.

use std::collections::BTreeSet;
use std::sync::Arc;

use filmgate::engine::{Bytes, Candidate, Decision, GpuUuid, NodeName, PodFacts, PodUid, Victim};

use crate::oracle::State;
use crate::world::{World, is_unbound};

/// A Binding on its way to the API server, or its reply on the way back.
pub(crate) struct Binding {
    pub(crate) pod: usize,
    pub(crate) node: usize,
    pub(crate) version: Arc<str>,
    pub(crate) decision: Option<Decision>,
    pub(crate) outcome: Option<bool>,
    /// Nobody waits for the reply any more.
    pub(crate) is_abandoned: bool,
}

/// What is nominated on a node.
#[derive(Default)]
struct Promises {
    bytes: Vec<(GpuUuid, Bytes)>,
    victims: BTreeSet<PodUid>,
}

impl World {
    /// One of the Bindings that `may`.
    fn pick_binding(&self, number: usize, may: impl Fn(&Binding) -> bool) -> Option<usize> {
        let bindings: Vec<_> =
            (0..self.bindings.len()).filter(|at| may(&self.bindings[*at])).collect();
        bindings.get(number % bindings.len().max(1)).copied()
    }

    /// Everything goes as it should, from the filter to the reply.
    pub(crate) fn schedule(&mut self, number: usize, node: usize) {
        self.with(number, is_unbound, |world, pod| {
            world.filter(pod);
            let before = world.bindings.len();
            world.bind(pod, node);
            if world.bindings.len() > before {
                world.commit(before);
                world.reply(before);
            }
        });
    }

    pub(crate) fn filter(&mut self, pod: usize) {
        let now = self.cluster.now;
        let facts = self.cluster.pods[pod].facts.clone();
        let uid = &facts.id.uid;
        let Ok(ask) = &facts.ask else { return };
        if self.ledger.is_binding(uid) || facts.node.is_some() || !self.cluster.pods[pod].exists {
            return;
        }
        let names: Vec<_> =
            self.cluster.machines.iter().map(|machine| machine.node.name.clone()).collect();
        let verdicts = self.ledger.judge(uid, ask, names.iter().map(NodeName::as_str), now);
        let scored =
            verdicts.iter().zip(&names).filter_map(|(verdict, name)| Some((verdict.ok()?, name)));
        match scored.max_by(|(left, _), (right, _)| left.total_cmp(right)) {
            Some((_, best)) => {
                self.ledger.stop_waiting(uid);
                let is_held = self.ledger.hold(&facts.id, ask, best.as_str(), now);
                // A pod that was bound or deleted meanwhile is past being held.
                let may_hold = self.policy.holds
                    && !self.ledger.is_nominated(uid)
                    && self.ledger.pod(uid).is_some_and(|known| known.node.is_none());
                assert!(is_held || !may_hold, "what was judged to fit could not be held");
            }
            None => self.ledger.wait(uid, ask, names.iter().map(NodeName::as_str), now),
        }
    }

    /// Devices are short everywhere: each node may be cleared of so many pods of lower priority.
    /// Whoever is answered is deleted. Nobody asks pods of an even number to leave on top.
    pub(crate) fn preempt(&mut self, pod: usize, count: usize) {
        let now = self.cluster.now;
        let facts = self.cluster.pods[pod].facts.clone();
        let Ok(ask) = &facts.ask else { return };
        let cleared: Vec<Vec<usize>> =
            (0..self.cluster.config.nodes).map(|node| self.victims(&facts, node, count)).collect();
        let candidates: Vec<Candidate> =
            cleared.iter().enumerate().map(|(node, pods)| self.candidate(node, pods)).collect();
        let spares = |other: &PodFacts| other.created_at % 2 == 0;
        let chosen = self.ledger.choose_candidate(&facts, ask, &candidates, &spares, now);
        let Some(chosen) = chosen else { return };
        let is_binding = self.ledger.is_binding(&facts.id.uid);
        if !self.ledger.nominate(&facts, ask, &chosen, now) {
            return;
        }
        assert!(!is_binding, "a pod on its way was nominated");
        let again = self.ledger.choose_candidate(&facts, ask, &candidates, &spares, now);
        assert_eq!(again, None, "a second set of victims");
        self.cluster.pods[pod].facts.nominated = Some(chosen.node.clone());
        self.cluster.changed(pod);
        let index = |victim: &Victim| self.cluster.index_of(&victim.uid);
        let victims: Vec<usize> = chosen.victims.iter().map(index).collect();
        let asked = candidates.iter().position(|one| one.node == chosen.node).expect("a candidate");
        for victim in &victims {
            let facts = &self.cluster.pods[*victim].facts;
            let is_added = !cleared[asked].contains(victim);
            assert!(!is_added || !spares(facts), "a protected pod was asked to leave");
        }
        let is_asked = |pod: &usize| victims.contains(pod);
        assert!(cleared[asked].iter().all(is_asked), "a victim of kube-scheduler's was left out");
        victims.iter().for_each(|victim| self.cluster.delete(*victim));
    }

    fn victims(&self, preemptor: &PodFacts, node: usize, count: usize) -> Vec<usize> {
        let name = &self.cluster.machines[node].node.name;
        let may_go = |pod: &usize| {
            let pod = &self.cluster.pods[*pod];
            let is_here = pod.facts.node.as_ref() == Some(name);
            pod.exists && is_here && pod.facts.priority < preemptor.priority
        };
        (0..self.cluster.pods.len()).filter(may_go).take(count).collect()
    }

    fn candidate(&self, node: usize, victims: &[usize]) -> Candidate {
        let victim = |pod: &usize| Victim {
            uid: self.cluster.pods[*pod].facts.id.uid.clone(),
            priority: None,
            started_at: None,
        };
        let victims = victims.iter().map(victim).collect();
        let node = self.cluster.machines[node].node.name.clone();
        Candidate { node, victims, pdb_violations: 0 }
    }

    pub(crate) fn wake(&mut self) {
        self.ledger.reserve(self.cluster.now);
        assert!(self.ledger.reservations() <= 1, "two places are reserved");
        for wake in self.ledger.take_wakes(self.cluster.now) {
            let known = self.ledger.pod(&wake.pod.uid).expect("only a known pod is woken");
            assert!(known.node.is_none() && !known.has_ended, "woken, though it does not wait");
        }
    }

    pub(crate) fn bind(&mut self, pod: usize, node: usize) {
        let facts = self.cluster.pods[pod].facts.clone();
        let mine =
            self.bindings.iter().filter(|binding| binding.node == node && !binding.is_abandoned);
        let on_their_way =
            mine.filter(|one| one.outcome.is_none()).map(|one| self.cluster.devices(one.pod)).sum();
        if !self.cluster.has_devices_left(node, self.cluster.devices(pod), on_their_way) {
            return;
        }
        let name = self.cluster.machines[node].node.name.clone();
        let known = self.ledger.pod(&facts.id.uid).cloned();
        let before = self.oracle.sums(&name);
        let promises = self.promises(&name, &facts.id.uid);
        let Ok(admission) = self.ledger.admit(&facts.id.uid, name.as_str(), self.cluster.now)
        else {
            return;
        };
        let known = known.expect("only a known pod is admitted");
        let decision = Decision::from_annotations(&admission.annotations.iter().cloned().collect());
        let planned = decision.clone().unwrap_or_default().charged;
        self.check_choice(&known, &planned);
        if self.cluster.config.is_honest {
            self.check_prediction(pod, node, &planned);
        }
        self.oracle.admitted(&known, &name, planned.clone());
        self.check_admission(&name, &before);
        self.check_promises(&name, &planned, &promises);
        let version = admission.resource_version;
        self.bindings.push(Binding {
            pod,
            node,
            version,
            decision,
            outcome: None,
            is_abandoned: false,
        });
    }

    /// What the pod must leave to pods of its own priority or a higher one: nominated and reserved
    /// bytes, and the victims whose memory the former will be.
    fn promises(&self, node: &NodeName, pod: &PodUid) -> Promises {
        let priority = self.ledger.pod(pod).map_or(i32::MIN, |known| known.priority);
        let mut promises = Promises::default();
        for (at, claim) in self.ledger.claims() {
            let Some(precedence) = claim.precedence() else { continue };
            let is_over = claim.is_over(self.cluster.now);
            if at == node && claim.pod.uid != *pod && precedence >= priority && !is_over {
                promises.bytes.extend(claim.planned.iter().cloned());
                let victims = claim.nominated().into_iter().flat_map(|one| &one.victims);
                promises.victims.extend(victims.cloned());
            }
        }
        promises
    }

    /// When the victims are gone, the nominated pods fit beside the one that was admitted.
    fn check_promises(&self, node: &NodeName, planned: &[(GpuUuid, Bytes)], promises: &Promises) {
        let last = self.oracle.nodes[node].last.as_ref().expect("the node was read");
        for (gpu, _) in planned {
            let reading = last.reading.gpu(gpu).expect("planned for a GPU that is there");
            let promised = promises.bytes.iter().filter(|(at, _)| at == gpu);
            let promised: Bytes = promised.map(|(_, bytes)| *bytes).sum();
            let sum = self.oracle.sum_without(node, reading, &promises.victims) + promised;
            let limit = reading.total - reading.reserved - self.policy.headroom;
            assert!(sum <= limit, "{gpu}: {promised} of {limit} were promised, {sum} are needed");
        }
    }

    /// A steered pod gets as many distinct GPUs as it asked for; any pod gets that many or more.
    fn check_choice(&self, facts: &PodFacts, planned: &[(GpuUuid, Bytes)]) {
        let ask = facts.ask.as_ref().expect("only a good request is admitted");
        let distinct: BTreeSet<_> = planned.iter().map(|(gpu, _)| gpu).collect();
        let wanted = ask.devices() as usize;
        assert!(
            distinct.len() == planned.len() && distinct.len() >= wanted,
            "{planned:?} for {ask:?}"
        );
        assert!(!ask.is_steered() || distinct.len() == wanted, "{planned:?} for {ask:?}");
    }

    /// Where nobody acts behind our back: an unsteered pod has room on every GPU that the plugin
    /// could give it now, and nobody who is on the way before it, or overtakes it, can change that.
    fn check_prediction(&self, pod: usize, node: usize, planned: &[(GpuUuid, Bytes)]) {
        let is_unsteered = |pod: &usize| !self.cluster.is_steered(*pod);
        let name = &self.cluster.machines[node].node.name;
        let on_the_wire = (0..self.cluster.pods.len()).filter(|other| {
            let claim = self.oracle.claims.get(&self.cluster.pods[*other].facts.id.uid);
            claim.is_some_and(|claim| claim.node == *name && claim.state == State::Binding)
        });
        let on_their_way: Vec<_> = on_the_wire.chain(self.cluster.unplaced(node)).collect();
        let overtaken = on_their_way.iter().find(|other| is_unsteered(other));
        assert_eq!(overtaken, None, "overtaken by {pod}");
        if is_unsteered(&pod) {
            assert!(on_their_way.is_empty(), "{on_their_way:?} are in flight");
            for gpu in self.cluster.next_gpus(node) {
                let gpu = &self.cluster.machines[node].gpus[gpu];
                let is_planned = planned.iter().any(|(planned, _)| planned == gpu);
                assert!(is_planned, "the plugin may take {gpu}, planned were {planned:?}");
            }
        }
    }

    /// The invariant.
    fn check_admission(&self, node: &NodeName, before: &[(GpuUuid, Bytes)]) {
        let seen = self.oracle.nodes.get(node).expect("an unknown node took a pod");
        let last = seen.last.as_ref().expect("a node that was not read took a pod");
        assert!(!seen.is_impossible, "a node with an impossible reading took a pod");
        for ((gpu, after), (_, before)) in self.oracle.sums(node).iter().zip(before) {
            let reading = last.reading.gpu(gpu).expect("the sums are of this reading");
            let limit = reading.total - reading.reserved - self.policy.headroom;
            assert!(
                after <= before || *after <= limit,
                "{gpu}: {before} became {after} of {limit}"
            );
        }
    }

    pub(crate) fn commit(&mut self, number: usize) {
        let Some(at) = self.pick_binding(number, |one| one.outcome.is_none()) else { return };
        let binding = &mut self.bindings[at];
        let (pod, node, version) = (binding.pod, binding.node, binding.version.clone());
        binding.outcome = Some(self.cluster.commit(pod, node, &version, binding.decision.clone()));
    }

    pub(crate) fn reply(&mut self, number: usize) {
        let now = self.cluster.now;
        let Some(at) = self.pick_binding(number, |one| one.outcome.is_some()) else { return };
        let binding = self.bindings.remove(at);
        let uid = &self.cluster.pods[binding.pod].facts.id.uid;
        if binding.is_abandoned {
            return;
        }
        if binding.outcome == Some(true) {
            self.ledger.bound(uid, now);
            self.oracle.bound(uid, now);
        } else {
            self.ledger.not_bound(uid, now);
            self.oracle.not_bound(uid);
        }
    }

    pub(crate) fn time_out(&mut self, number: usize) {
        let Some(at) = self.pick_binding(number, |one| !one.is_abandoned) else { return };
        self.bindings[at].is_abandoned = true;
        self.ledger.doubt(&self.cluster.pods[self.bindings[at].pod].facts.id.uid);
    }

    pub(crate) fn lose(&mut self, number: usize) {
        if let Some(at) = self.pick_binding(number, |one| one.is_abandoned) {
            self.bindings.remove(at);
        }
    }

    /// No reply comes any more: every Binding is in doubt, and fenced.
    pub(crate) fn give_up_bindings(&mut self) {
        (0..self.bindings.len()).for_each(|_| self.time_out(0));
        self.bindings.clear();
        self.fence();
        while !self.cluster.pod_events.is_empty() {
            self.watch_pod();
        }
    }

    /// Each doubt is ended by moving the pod's version.
    pub(crate) fn fence(&mut self) {
        let now = self.cluster.now;
        let doubtful: Vec<PodUid> = self.ledger.in_doubt().map(|pod| pod.uid.clone()).collect();
        for uid in doubtful {
            let pod = self.cluster.pods.iter().position(|pod| pod.facts.id.uid == uid);
            let Some(pod) = pod.filter(|pod| self.cluster.pods[*pod].exists) else {
                self.oracle.deleted(&uid, None, now);
                self.ledger.delete_pod(&uid, None, now);
                continue;
            };
            self.cluster.changed(pod);
            let facts = self.cluster.pods[pod].facts.clone();
            let is_bound = facts.node.is_some();
            self.apply(facts);
            if !is_bound {
                self.oracle.not_bound(&uid);
                self.ledger.not_bound(&uid, now);
            }
        }
    }
}
