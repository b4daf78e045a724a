//! A ledger and a clock that the test turns.

use std::sync::Arc;
use std::time::Duration;

use filmgate::engine::{
    Admission, AdmitError, Arrival, Decision, Ledger, NodeName, Outlook, Policy, Reason, Time,
};

use super::{Node, Pod};

/// A ledger and a clock that the test turns.
pub(crate) struct Gate {
    pub(crate) ledger: Ledger,
    pub(crate) now: Time,
    sampling: u64,
}

impl Gate {
    /// A ledger that knows these nodes and has read each.
    pub(crate) fn with(nodes: &[Node]) -> Self {
        Self::under(Policy::default(), nodes)
    }

    pub(crate) fn under(policy: Policy, nodes: &[Node]) -> Self {
        let now = Time::from_secs(1000);
        let mut gate = Self { ledger: Ledger::new(policy), now, sampling: 0 };
        for node in nodes {
            gate.ledger.apply_node(node.facts.clone(), now);
            gate.read(node);
        }
        gate
    }

    /// Time passes, and the ledger is told.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.pass(seconds);
        self.ledger.tick(self.now);
    }

    /// Time passes, and the ledger is not told yet.
    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// A newer reading, from the stream.
    pub(crate) fn read(&mut self, node: &Node) -> Arrival {
        self.sampling += 1;
        self.receive(&node.clone().sampling(self.sampling), None)
    }

    /// A newer reading, sampled on demand now.
    pub(crate) fn sample_now(&mut self, node: &Node) -> Arrival {
        self.sampling += 1;
        self.receive(&node.clone().sampling(self.sampling), Some(self.now))
    }

    /// That very reading.
    pub(crate) fn receive(&mut self, node: &Node, began_after: Option<Time>) -> Arrival {
        self.ledger.apply_reading(Arc::new(node.reading.clone()), self.now, began_after)
    }

    pub(crate) fn add(&mut self, pod: &Pod) {
        self.ledger.apply_pod(pod.facts.clone(), self.now);
    }

    pub(crate) fn admit(&mut self, pod: &Pod, node: &str) -> Result<Admission, AdmitError> {
        self.add(pod);
        self.ledger.admit(pod.uid(), node, self.now)
    }

    /// Admits, and the Binding takes place; the pod as the API server then has it.
    pub(crate) fn bind(&mut self, pod: &Pod, node: &str) -> Pod {
        let admission = self.admit(pod, node).expect("the pod fits");
        self.ledger.bound(pod.uid(), self.now);
        let mut bound = pod.clone().on(node);
        bound.facts.decision =
            Decision::from_annotations(&admission.annotations.into_iter().collect());
        self.add(&bound);
        bound
    }

    pub(crate) fn hold(&mut self, pod: &Pod, node: &str) -> bool {
        self.ledger.hold(&pod.facts.id, pod.ask(), node, self.now)
    }

    /// kube-scheduler offered these nodes and all refused.
    pub(crate) fn refuse(&mut self, pod: &Pod, offered: &[&str]) {
        self.add(pod);
        self.ledger.wait(pod.uid(), pod.ask(), offered.iter().copied(), self.now);
    }

    pub(crate) fn outlook(&self) -> Outlook {
        Outlook::of(&self.ledger.survey(&"filmgate".into(), self.now))
    }

    /// Names of the pods woken, with the nodes they are woken for.
    pub(crate) fn wakes(&mut self) -> Vec<(String, String)> {
        let wakes = self.ledger.take_wakes(self.now).into_iter();
        wakes.map(|wake| (wake.pod.name.to_string(), wake.node.to_string())).collect()
    }

    /// Why the node refuses the pod; `None` where it fits.
    pub(crate) fn refusal(&self, pod: &Pod, node: &str) -> Option<Reason> {
        let verdicts = self.ledger.judge(pod.uid(), pod.ask(), [node], self.now);
        verdicts.into_iter().next().and_then(Result::err)
    }

    /// What a newcomer may have of the GPU, in MiB.
    pub(crate) fn free(&self, node: &str, index: u32) -> u64 {
        let mut free = None;
        self.ledger.for_each_gpu(|name, state| {
            if name.as_str() == node && state.index == index {
                free = Some(state.open_bytes().get() >> 20);
            }
        });
        free.expect("the node has that GPU")
    }

    /// GiB charged on the GPU.
    pub(crate) fn charged(&self, node: &str, index: u32) -> u64 {
        let mut charged = None;
        self.ledger.for_each_gpu(|name, state| {
            if name.as_str() == node && state.index == index {
                charged = Some(state.charged.get() >> 30);
            }
        });
        charged.expect("the node has that GPU")
    }

    /// Whether the node is to be asked for a sampling.
    pub(crate) fn wants_sampling(&self, node: &str) -> bool {
        self.ledger.samplings_wanted(self.now).any(|name| *name == NodeName::from(node))
    }

    /// Whether the pod has a claim.
    pub(crate) fn has_claim(&self, pod: &Pod) -> bool {
        self.ledger.claim(pod.uid()).is_some()
    }
}

/// Free MiB of a GPU of 24 GiB with headroom, less so many GiB.
pub(crate) const fn less(gib: u64) -> u64 {
    24 * 1024 - 512 - gib * 1024
}
