//! What the ledger is told: nodes, pods, readings, the passing of time.

use std::sync::Arc;

use super::{Ledger, NodeIndex};
use crate::engine::claim::{Claim, ClaimState};
use crate::engine::reading::{Attribution, ImpossibleReading};
use crate::engine::{AgentRun, NodeName, NodeUid, PodFacts, PodRef, PodUid, Reading, Time};

/// A node as far as the ledger needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: NodeName,
    /// Its UID.
    pub uid: NodeUid,
    /// Its GPUs are shared through the MPS daemon (`nvidia.com/gpu.sharing-strategy=mps`).
    pub is_mps: bool,
}

/// What became of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It is the node's newest.
    Taken,
    /// It came late or twice: nothing changed but what an answer to a question proves.
    Outdated,
    /// Its figures cannot be true: the node is refused until a better one comes.
    Impossible(ImpossibleReading),
}

impl Ledger {
    /// A node was added or changed.
    pub fn apply_node(&mut self, facts: NodeFacts, now: Time) {
        let index = self.intern(&facts.name);
        let node = &mut self.nodes[index];
        let was_usable = node.uid.as_ref() == Some(&facts.uid);
        if node.uid.as_ref().is_some_and(|uid| *uid != facts.uid) {
            node.forget_reading();
        }
        node.uid = Some(facts.uid);
        node.is_mps = facts.is_mps;
        self.refresh(index, now);
        if !was_usable {
            self.freed.insert(index);
        }
    }

    /// A node is no longer in the cluster. Pods bound to it stay charged until they are gone too.
    pub fn delete_node(&mut self, name: &NodeName) {
        let Some(index) = self.node_index(name.as_str()) else { return };
        let node = &mut self.nodes[index];
        node.uid = None;
        node.forget_reading();
        let over = |claim: &Claim| {
            matches!(claim.state, ClaimState::Leaving { .. } | ClaimState::Held { .. })
        };
        for claim in node.claims.extract_if(.., |claim| over(claim)) {
            self.claim_at.remove(&claim.pod.uid);
        }
    }

    /// A whole new list of nodes: those that it lacks are no longer in the cluster.
    pub fn replace_nodes(&mut self, nodes: Vec<NodeFacts>, now: Time) {
        let listed: std::collections::HashSet<_> = nodes.iter().map(|node| &node.name).collect();
        let gone = self.node_names().filter(|name| !listed.contains(name)).cloned();
        for name in gone.collect::<Vec<_>>() {
            self.delete_node(&name);
        }
        for node in nodes {
            self.apply_node(node, now);
        }
    }

    /// A pod with a GPU request was added or changed.
    pub fn apply_pod(&mut self, facts: PodFacts, now: Time) {
        let uid = facts.id.uid.clone();
        if self.deleted.known.contains(&uid) {
            return;
        }
        match &facts.node {
            Some(node) => {
                let node = self.intern(&node.clone());
                self.settle_bound(&facts, node, now);
                self.waiting.remove(&uid);
            }
            None if facts.has_ended => self.drop_advice(&uid, now),
            None => {}
        }
        if facts.has_ended && facts.node.is_some() {
            self.start_leaving(&uid, now, now);
        }
        self.pods.insert(uid, facts);
    }

    /// A pod is no longer in the cluster; `last` is its last state where it was seen.
    pub fn delete_pod(&mut self, pod: &PodUid, last: Option<PodFacts>, now: Time) {
        let was_seen = last.is_some();
        if let Some(last) = last {
            self.apply_pod(last, now);
        }
        self.deleted.remember(pod.clone());
        self.waiting.remove(pod);
        let known = self.pods.remove(pod);
        match self.claim_mut(pod).map(|(_, claim)| claim.state) {
            Some(ClaimState::Held { .. }) => self.drop_advice(pod, now),
            // Its last state had no node and there is no pod any more: no Binding can commit.
            Some(ClaimState::Binding { .. }) if was_seen => {
                self.remove_claim(pod, now);
            }
            Some(ClaimState::Binding { .. } | ClaimState::Bound { .. }) => {
                // Nothing says that its containers ended: a force delete, or a deletion that the
                // watch missed.
                let ended = was_seen && known.is_some_and(|facts| facts.has_ended);
                let grace =
                    if ended { std::time::Duration::ZERO } else { self.policy.force_delete_grace };
                self.start_leaving(pod, now + grace, now);
            }
            Some(ClaimState::Leaving { .. }) | None => {}
        }
    }

    /// A whole new list of pods: those that it lacks are gone.
    pub fn replace_pods(&mut self, pods: Vec<PodFacts>, now: Time) {
        let listed: std::collections::HashSet<_> =
            pods.iter().map(|pod| pod.id.uid.clone()).collect();
        let known = self.pods.keys().chain(self.claim_at.keys());
        let gone: std::collections::HashSet<_> =
            known.filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in gone {
            self.delete_pod(&uid, None, now);
        }
        for pod in pods {
            self.apply_pod(pod, now);
        }
    }

    /// A reading came in. `began_after`: its sampling began after that moment of our clock, known
    /// where we asked for it; only such a reading ends the charge of a pod that is gone.
    pub fn apply_reading(
        &mut self,
        reading: Arc<Reading>,
        received_at: Time,
        began_after: Option<Time>,
    ) -> Arrival {
        let index = self.intern(&reading.node.clone());
        let node = &mut self.nodes[index];
        if node.is_outdated(&reading.agent, reading.sampling) {
            let is_same_run = node.is_of_run(&reading.agent);
            if let Some(began_after) = began_after.filter(|_| is_same_run) {
                // The stream was faster than the answer. The reading that we have was sampled no
                // earlier, so it proves the same; without this, streams that are always faster
                // would keep a gone pod charged for ever.
                self.take_evidence(index, began_after);
                self.refresh(index, received_at);
            }
            return Arrival::Outdated;
        }
        if let Err(impossible) = reading.validate() {
            node.impossible = Some(impossible.clone());
            return Arrival::Impossible(impossible);
        }
        let was_usable = node.check_usable(&self.policy, received_at).is_ok();
        node.take_reading(reading, received_at);
        if let Some(began_after) = began_after {
            self.take_evidence(index, began_after);
        }
        self.refresh(index, received_at);
        if !was_usable {
            self.freed.insert(index);
        }
        Arrival::Taken
    }

    /// The agent sampled again and nothing had moved since the reading we have.
    pub fn apply_heartbeat(
        &mut self,
        node: &NodeName,
        run: &AgentRun,
        sampling: u64,
        received_at: Time,
    ) {
        let Some(index) = self.node_index(node.as_str()) else { return };
        let was_usable = self.nodes[index].check_usable(&self.policy, received_at).is_ok();
        if self.nodes[index].take_heartbeat(run, sampling, received_at) && !was_usable {
            self.freed.insert(index);
        }
    }

    /// Time passed: holds end, and charges where memory is not attributable.
    pub fn tick(&mut self, now: Time) {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let over = node.expire_holds(now);
            let left = self.end_unattributed(index, now);
            if over.is_empty() && !left {
                continue;
            }
            self.expired_holds += over.len() as u64;
            for uid in &over {
                self.claim_at.remove(uid);
            }
            self.refresh(index, now);
        }
    }

    /// Nodes to ask for a sampling now: a pod is gone and its memory may be free, or a pod was
    /// bound and its GPU is not known yet.
    pub fn samplings_wanted(&self, now: Time) -> impl Iterator<Item = &NodeName> {
        let wants = move |claim: &Claim, reading: &Reading| match claim.state {
            ClaimState::Leaving { not_before } => not_before <= now,
            ClaimState::Bound { .. } => claim.is_placing(reading),
            _ => false,
        };
        let nodes = self.nodes.iter().filter(move |node| {
            let reading = node.reading.as_ref();
            reading.is_some_and(|reading| node.claims.iter().any(|claim| wants(claim, reading)))
        });
        nodes.map(|node| &node.name)
    }

    /// The API server says that the pod is bound to that node, whatever we had planned.
    fn settle_bound(&mut self, facts: &PodFacts, index: NodeIndex, now: Time) {
        let uid = &facts.id.uid;
        let state = ClaimState::Bound { since: now };
        match self.claim_mut(uid) {
            Some((at, claim)) if at == index => {
                claim.ask = facts.ask.clone().ok().or(claim.ask.take());
                if !matches!(claim.state, ClaimState::Bound { .. } | ClaimState::Leaving { .. }) {
                    claim.state = state;
                }
                self.refresh(index, now);
            }
            Some((_, claim))
                if matches!(claim.state, ClaimState::Bound { .. } | ClaimState::Leaving { .. }) => {
            }
            Some(_) | None => {
                self.remove_claim(uid, now);
                let planned = facts.decision.clone().unwrap_or_default().charged;
                let ask = facts.ask.clone().ok();
                let claim =
                    Claim { pod: facts.id.clone(), state, planned, ask, is_book_current: false };
                self.insert_claim(index, claim, now);
            }
        }
    }

    fn start_leaving(&mut self, uid: &PodUid, not_before: Time, now: Time) {
        let Some((index, claim)) = self.claim_mut(uid) else { return };
        if !matches!(claim.state, ClaimState::Leaving { .. }) {
            claim.state = ClaimState::Leaving { not_before };
            self.refresh(index, now);
        }
    }

    /// Ends a hold; anything firmer stays.
    fn drop_advice(&mut self, uid: &PodUid, now: Time) {
        self.waiting.remove(uid);
        if self.claim_mut(uid).is_some_and(|(_, claim)| claim.is_held()) {
            self.remove_claim(uid, now);
        }
    }

    /// A sampling that began after `began_after` shows what gone pods left behind, and which
    /// devices bound pods have.
    fn take_evidence(&mut self, index: NodeIndex, began_after: Time) {
        let node = &mut self.nodes[index];
        let is_full =
            node.reading.as_ref().is_some_and(|reading| reading.attribution == Attribution::Full);
        let released = |claim: &Claim| matches!(claim.state, ClaimState::Leaving { not_before } if is_full && not_before <= began_after);
        for claim in node.claims.extract_if(.., |claim| released(claim)) {
            self.claim_at.remove(&claim.pod.uid);
        }
        for claim in &mut node.claims {
            claim.is_book_current |=
                matches!(claim.state, ClaimState::Bound { since } if since <= began_after);
        }
    }

    /// Where memory is not attributable no sampling shows a pod gone: a grace time does.
    fn end_unattributed(&mut self, index: NodeIndex, now: Time) -> bool {
        let grace = self.policy.unattributed_grace;
        let node = &mut self.nodes[index];
        let is_degraded =
            node.reading.as_ref().is_some_and(|reading| reading.attribution != Attribution::Full);
        let over = |claim: &Claim| matches!(claim.state, ClaimState::Leaving { not_before } if is_degraded && not_before + grace <= now);
        let over: Vec<PodRef> =
            node.claims.extract_if(.., |claim| over(claim)).map(|claim| claim.pod).collect();
        for pod in &over {
            self.claim_at.remove(&pod.uid);
        }
        !over.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::reading::{Attribution, GpuReading, Health};
    use crate::engine::{Bytes, Decision, GpuAsk, Policy, Vram};

    const LATER: Time = Time::from_secs(20);

    fn reading(run: &str, sampling: u64) -> Arc<Reading> {
        let gpu = GpuReading {
            index: 0,
            uuid: "GPU-0".into(),
            model: "test".into(),
            resource: "nvidia.com/gpu".into(),
            replicas: 1,
            total: Bytes::gib(24),
            used: Bytes::ZERO,
            reserved: Bytes::ZERO,
            utilization_ratio: None,
            temperature_celsius: None,
            health: Health::Healthy,
            pods: Vec::new(),
        };
        Arc::new(Reading {
            node: "n0".into(),
            agent: run.into(),
            sampling,
            peaks_cover: Duration::from_secs(600),
            attribution: Attribution::Full,
            gpus: vec![gpu],
            devices: Vec::new(),
        })
    }

    /// A pod ended at 20 s; sampling 2 came by the stream, without a question, after that.
    fn ledger_with_an_ended_pod() -> Ledger {
        let mut ledger = Ledger::new(Policy::default());
        let node = NodeFacts { name: "n0".into(), uid: "node".into(), is_mps: false };
        ledger.apply_node(node, Time::ZERO);
        ledger.apply_reading(reading("run", 1), Time::ZERO, None);
        let pod = PodFacts {
            id: PodRef { namespace: "ns".into(), name: "pod".into(), uid: "uid".into() },
            node: Some("n0".into()),
            ask: Ok(GpuAsk::steered(1, Vram::Declared(Bytes::gib(12)))),
            decision: Some(Decision { charged: vec![("GPU-0".into(), Bytes::gib(12))] }),
            has_ended: true,
            priority: 0,
            created_at: 0,
            resource_version: "1".into(),
        };
        ledger.delete_pod(&"uid".into(), Some(pod), LATER);
        ledger.apply_reading(reading("run", 2), LATER, None);
        assert_eq!(ledger.claims().count(), 1, "a reading that answers nothing proves nothing");
        ledger
    }

    #[test]
    fn an_answer_that_the_stream_overtook_still_ends_a_gone_pods_charge() {
        let mut ledger = ledger_with_an_ended_pod();
        assert_eq!(ledger.apply_reading(reading("run", 2), LATER, Some(LATER)), Arrival::Outdated);
        assert_eq!(ledger.claims().count(), 0);
    }

    #[test]
    fn an_answer_proves_nothing_about_what_came_after_its_question_or_by_another_run() {
        let mut ledger = ledger_with_an_ended_pod();
        ledger.apply_reading(reading("run", 2), LATER, Some(Time::from_secs(19)));
        assert_eq!(ledger.claims().count(), 1);
        ledger.apply_reading(reading("next run", 1), LATER, None);
        ledger.apply_reading(reading("run", 3), LATER, Some(LATER));
        assert_eq!(ledger.claims().count(), 1);
    }
}
