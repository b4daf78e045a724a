//! What the ledger is told: nodes, pods, readings, the passing of time.

use std::sync::Arc;

use super::{Ledger, NodeIndex};
use crate::engine::claim::{Claim, ClaimState, Landing};
use crate::engine::reading::{Attribution, ImpossibleReading};
use crate::engine::{AgentRun, NodeName, NodeUid, PodFacts, PodUid, Reading, Time};

/// A node as far as the ledger needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: NodeName,
    /// Its UID.
    pub uid: NodeUid,
    /// Its GPUs are shared through the MPS daemon (`nvidia.com/gpu.sharing-strategy=mps`).
    pub is_mps: bool,
    /// It has the annotation that says that nobody uses it (`filmgate.dev/idle-since`).
    pub is_marked_idle: bool,
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
        let is_as_before = node.uid.as_ref() == Some(&facts.uid) && node.is_mps == facts.is_mps;
        let is_another = node.appear(facts.uid, now);
        node.is_mps = facts.is_mps;
        node.is_marked_idle = facts.is_marked_idle;
        if is_another {
            self.end_with_node(index);
        }
        self.refresh(index, now);
        if !is_as_before {
            self.freed.insert(index);
        }
    }

    /// A node is no longer in the cluster. Pods bound to it stay charged until they are gone too.
    pub fn delete_node(&mut self, name: &NodeName) {
        let Some(index) = self.node_index(name.as_str()) else { return };
        self.nodes[index].disappear();
        self.end_with_node(index);
        self.note_change(index);
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
        if self.pods.get(&uid).is_some_and(|known| is_late(&facts, known)) {
            return;
        }
        self.note_forged(&facts, now);
        self.note_bound_by_another(&facts, now);
        match &facts.node {
            Some(node) => {
                let node = self.intern(&node.clone());
                self.settle_bound(&facts, node, now);
                self.waiting.remove(&uid);
                if facts.has_ended {
                    self.start_leaving(&uid, now, now);
                }
            }
            None if facts.has_ended => self.drop_advice(&uid, now),
            None => {}
        }
        self.pods.insert(uid, Arc::new(facts));
    }

    /// A pod is no longer in the cluster; `last` is its last state where it was seen.
    pub fn delete_pod(&mut self, pod: &PodUid, last: Option<PodFacts>, now: Time) {
        let was_seen = last.is_some();
        if let Some(last) = last {
            self.apply_pod(last, now);
        }
        self.deleted.remember(pod.clone());
        self.end_pod(pod, was_seen, now);
    }

    /// The pod is not there (any more): advice ends at once, charges when a sampling shows it.
    fn end_pod(&mut self, pod: &PodUid, was_seen: bool, now: Time) {
        let known = self.pods.remove(pod);
        self.drop_advice(pod, now);
        match self.claim_mut(pod).map(|(_, claim)| claim.state) {
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
            _ => {}
        }
    }

    /// A whole new list of pods: those that it lacks are gone, or younger than the list (known by
    /// a fence or a look). So their deletion is not remembered: an event may yet bring one back.
    pub fn replace_pods(&mut self, pods: Vec<PodFacts>, now: Time) {
        let listed: std::collections::HashSet<_> =
            pods.iter().map(|pod| pod.id.uid.clone()).collect();
        // Not those that are only held: a pod may be younger than the list.
        let known = self.pods.keys().filter(|uid| !listed.contains(*uid));
        let gone: Vec<_> = known.cloned().collect();
        for uid in gone {
            self.end_pod(&uid, false, now);
        }
        for pod in pods {
            self.apply_pod(pod, now);
        }
    }

    /// A reading came in. `began_after`: its sampling began after that moment of our clock, known
    /// where we asked for it; only such a reading ends the charge of a pod that is gone, or is
    /// taken from another run of the agent than the last one.
    pub fn apply_reading(
        &mut self,
        reading: Arc<Reading>,
        received_at: Time,
        began_after: Option<Time>,
    ) -> Arrival {
        let index = self.intern(&reading.node.clone());
        let node = &mut self.nodes[index];
        if !node.is_news(&reading, began_after) {
            let is_shown = node.has_shown(&reading);
            if let Some(began_after) = began_after.filter(|_| is_shown) {
                // The stream was faster than the answer. The reading that we have was sampled no
                // earlier, so it proves the same; without this, streams that are always faster
                // would keep a gone pod charged for ever.
                self.take_evidence(index, began_after);
                self.refresh(index, received_at);
            } else {
                self.note_change(index);
            }
            return Arrival::Outdated;
        }
        if let Err(impossible) = reading.validate() {
            node.refuse_reading(&reading, received_at, impossible.clone());
            self.note_change(index);
            return Arrival::Impossible(impossible);
        }
        let was_usable = node.check_usable(&self.policy, received_at).is_ok();
        node.take_reading(reading, received_at);
        if let Some(began_after) = began_after {
            self.take_evidence(index, began_after);
        }
        self.refresh(index, received_at);
        self.watch_pods(index, received_at);
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
        let node = &mut self.nodes[index];
        let was_usable = node.check_usable(&self.policy, received_at).is_ok();
        if node.take_heartbeat(run, sampling, received_at) {
            self.digests[index].read_again(node, &self.policy);
            if !was_usable {
                self.freed.insert(index);
            }
        }
    }

    /// What was read may be older than what another leader did: a pod that it bound, and that was
    /// deleted before we saw it, may have processes that no reading of ours shows. Until a sampling
    /// begins from now on, each node is as if it had never been read.
    pub fn distrust_readings(&mut self, now: Time) {
        for index in 0..self.nodes.len() {
            self.nodes[index].distrust_reading(now);
            self.note_change(index);
        }
    }

    /// Nodes whose readings are distrusted and that were not read again yet.
    #[must_use]
    pub fn distrusted(&self) -> usize {
        self.nodes.iter().filter(|node| node.reading.is_none() && node.is_disputed).count()
    }

    /// Time passed: holds and nominations end, and charges where memory is not attributable.
    pub fn tick(&mut self, now: Time) {
        for index in Vec::from_iter(self.restless.iter().copied()) {
            let moved = self.follow_nominations(index, now);
            let over = self.nodes[index].expire_advice(now);
            self.expired_holds += over.iter().filter(|claim| claim.is_held()).count() as u64;
            for claim in &over {
                self.claim_at.remove(&claim.pod.uid);
            }
            let left = self.end_unattributed(index, now) | self.end_unread(index, now);
            if left || moved || !over.is_empty() {
                self.refresh(index, now);
            }
        }
    }

    /// Nodes to ask for a sampling now: a pod is gone and its memory may be free, a pod was bound
    /// and its GPU is not known yet, or nothing tells whether what came is newer than what we have.
    pub fn samplings_wanted(&self, now: Time) -> impl Iterator<Item = &NodeName> {
        let wants = move |claim: &Claim, reading: &Reading| match claim.state {
            ClaimState::Leaving { not_before } => not_before <= now,
            ClaimState::Bound { .. } => claim.is_placing(reading),
            _ => false,
        };
        let nodes = self.restless.iter().map(|index| &self.nodes[*index]).filter(move |node| {
            let reading = node.reading.as_ref();
            node.is_disputed
                || reading
                    .is_some_and(|reading| node.claims.iter().any(|claim| wants(claim, reading)))
        });
        nodes.map(|node| &node.name)
    }

    /// The API server says that the pod is bound to that node, whatever we had planned.
    fn settle_bound(&mut self, facts: &PodFacts, index: NodeIndex, now: Time) {
        let uid = &facts.id.uid;
        let planned = self.believed(facts);
        // A decision that we did not send is not ours to watch.
        let sent = self.claim(uid).filter(|(_, claim)| claim.planned == planned);
        let landing = sent.map_or(Landing::Unwatched, |(_, claim)| claim.landing);
        let mut claim = Claim {
            pod: facts.id.clone(),
            state: ClaimState::Bound { since: now },
            planned,
            is_confirmed: true,
            ask: facts.ask.clone().ok(),
            is_book_current: false,
            landing,
            grown: Vec::new(),
            nomination: None,
        };
        if let Some((at, known)) = self.claim_mut(uid)
            && known.was_bound()
            && (at == index || known.is_confirmed)
        {
            // One that was leaving since a list lacked it, and is there after all, is charged on.
            if matches!(known.state, ClaimState::Bound { .. }) || facts.has_ended {
                claim.state = known.state;
            }
            claim.is_book_current = known.is_book_current;
            claim.grown = std::mem::take(&mut known.grown);
            if known.is_confirmed {
                claim.planned = std::mem::take(&mut known.planned);
                claim.landing = known.landing;
            }
            *known = claim;
            self.refresh(at, now);
            return self.watch_pods(at, now);
        }
        self.remove_claim(uid, now);
        self.insert_claim(index, claim, now);
        self.watch_pods(index, now);
    }

    fn start_leaving(&mut self, uid: &PodUid, not_before: Time, now: Time) {
        let Some((index, claim)) = self.claim_mut(uid) else { return };
        if !matches!(claim.state, ClaimState::Leaving { .. }) {
            claim.state = ClaimState::Leaving { not_before };
        }
        if self.nodes[index].is_gone() {
            self.end_with_node(index);
        }
        self.refresh(index, now);
    }

    /// Ends a hold; anything firmer stays.
    fn drop_advice(&mut self, uid: &PodUid, now: Time) {
        self.waiting.remove(uid);
        if self.claim_mut(uid).is_some_and(|(_, claim)| claim.is_advice()) {
            self.remove_claim(uid, now);
        }
    }

    /// A sampling that began after `began_after` shows what gone pods left behind, and which
    /// devices bound pods have.
    fn take_evidence(&mut self, index: NodeIndex, began_after: Time) {
        let node = &mut self.nodes[index];
        let reading = node.reading.as_ref();
        let is_full = reading.is_some_and(|reading| reading.attribution == Attribution::Full);
        let is_book_new = reading.is_some_and(|reading| !reading.is_book_old);
        let released = |claim: &Claim| matches!(claim.state, ClaimState::Leaving { not_before } if is_full && not_before <= began_after);
        for claim in node.claims.extract_if(.., |claim| released(claim)) {
            self.claim_at.remove(&claim.pod.uid);
        }
        for claim in &mut node.claims {
            claim.is_book_current |= is_book_new
                && matches!(claim.state, ClaimState::Bound { since } if since <= began_after);
        }
    }

    /// Where memory is not attributable no sampling shows a pod gone: a grace time does.
    fn end_unattributed(&mut self, index: NodeIndex, now: Time) -> bool {
        let grace = self.policy.unattributed_grace;
        let reading = self.nodes[index].reading.as_ref();
        let is_degraded = reading.is_some_and(|reading| reading.attribution != Attribution::Full);
        is_degraded && self.end_leaving(index, |not_before| not_before + grace <= now)
    }

    /// Where there is no reading, a gone pod needs no charge: nobody is admitted before the first
    /// reading, and only one that began after the pod was gone will be taken.
    fn end_unread(&mut self, index: NodeIndex, now: Time) -> bool {
        let has_reading = self.nodes[index].reading.is_some();
        !has_reading && self.end_leaving(index, |not_before| not_before <= now)
    }

    /// The node is gone, or another: so are its holds, and what gone pods may have left on it.
    fn end_with_node(&mut self, index: NodeIndex) {
        self.end_leaving(index, |_| true);
        let node = &mut self.nodes[index];
        for claim in node.claims.extract_if(.., |claim| claim.is_advice()) {
            self.claim_at.remove(&claim.pod.uid);
        }
    }

    fn end_leaving(&mut self, index: NodeIndex, is_over: impl Fn(Time) -> bool) -> bool {
        let node = &mut self.nodes[index];
        let over = |claim: &mut Claim| matches!(claim.state, ClaimState::Leaving { not_before } if is_over(not_before));
        let over: Vec<_> = node.claims.extract_if(.., over).collect();
        for claim in &over {
            self.claim_at.remove(&claim.pod.uid);
            if let (ClaimState::Leaving { not_before }, None) = (claim.state, &node.reading) {
                node.demand_proof(not_before);
            }
        }
        !over.is_empty()
    }
}

/// A bound pod stays bound, and one that has ended runs no more and is charged once: what comes
/// afterwards is no news, or an event that a fence's reply has overtaken.
fn is_late(facts: &PodFacts, known: &PodFacts) -> bool {
    known.node.is_some() && (known.has_ended || facts.node.is_none())
}
