//! What the adapters tell the gate: thin entries that lock, tell the ledger, and wake the loop.

use std::sync::Arc;

use super::Gate;
use crate::cluster::pod::DefaultVram;
use crate::cluster::watch::ClusterEvents;
use crate::engine::{
    AgentRun, Arrival, Ledger, NodeFacts, NodeName, PodFacts, PodUid, Reading, Time,
};

impl Gate {
    /// A node was added or changed.
    pub fn apply_node(&self, facts: NodeFacts) {
        self.tell(|ledger, now| ledger.apply_node(facts, now));
    }

    /// A node is no longer in the cluster.
    pub fn delete_node(&self, name: &NodeName) {
        self.tell(|ledger, _| ledger.delete_node(name));
    }

    /// A pod with a GPU request was added or changed.
    pub fn apply_pod(&self, facts: PodFacts) {
        self.tell(|ledger, now| {
            let uid = facts.id.uid.clone();
            ledger.apply_pod(facts, now);
            if let Some(early) = self.early.lock().take(&uid) {
                let offered = early.offered.iter().map(NodeName::as_str);
                ledger.wait(&uid, &early.ask, offered, now);
                ledger.reconsider_nominations();
            }
        });
    }

    /// A pod is no longer in the cluster; `last` is its last state where it was seen.
    pub fn delete_pod(&self, pod: &PodUid, last: Option<PodFacts>) {
        self.tell(|ledger, now| {
            self.early.lock().take(pod);
            ledger.delete_pod(pod, last, now);
        });
    }

    /// A whole new list of pods.
    pub fn replace_pods(&self, pods: Vec<PodFacts>) {
        self.tell(|ledger, now| ledger.replace_pods(pods, now));
    }

    /// A whole new list of nodes.
    pub fn replace_nodes(&self, nodes: Vec<NodeFacts>) {
        self.tell(|ledger, now| ledger.replace_nodes(nodes, now));
    }

    /// A reading came in, stamped by the gate's clock.
    pub fn apply_reading(
        &self,
        reading: Arc<Reading>,
        received_at: Time,
        began_after: Option<Time>,
    ) -> Arrival {
        let node = reading.node.clone();
        let arrival =
            self.tell(|ledger, _| ledger.apply_reading(reading, received_at, began_after));
        if let Arrival::Impossible(why) = &arrival {
            tracing::warn!(%node, %why, "a reading that cannot be true: the node is refused");
        }
        arrival
    }

    /// An agent sampled again and nothing had moved.
    pub fn apply_heartbeat(
        &self,
        node: &NodeName,
        run: &AgentRun,
        sampling: u64,
        received_at: Time,
    ) {
        self.tell(|ledger, _| ledger.apply_heartbeat(node, run, sampling, received_at));
    }

    pub(super) fn tell<T>(&self, tell: impl FnOnce(&mut Ledger, Time) -> T) -> T {
        let told = {
            let mut ledger = self.write();
            let now = self.clock.now();
            tell(&mut ledger, now)
        };
        self.changed.notify_one();
        told
    }
}

impl ClusterEvents for Gate {
    fn pods_listed(&self, pods: Vec<PodFacts>) {
        self.replace_pods(pods);
    }

    fn pod(&self, pod: PodFacts) {
        self.apply_pod(pod);
    }

    fn pod_deleted(&self, pod: PodUid, last: Option<PodFacts>) {
        self.delete_pod(&pod, last);
    }

    fn nodes_listed(&self, nodes: Vec<NodeFacts>) {
        self.replace_nodes(nodes);
    }

    fn node(&self, node: NodeFacts) {
        self.apply_node(node);
    }

    fn node_deleted(&self, node: NodeName) {
        self.delete_node(&node);
    }

    /// The gate reads pods under the same defaults as the watches.
    fn namespace_default(&self, _: &str, _: Option<DefaultVram>) {}
}
