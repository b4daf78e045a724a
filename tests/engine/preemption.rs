//! Preemption: nobody leaves for nothing.

use filmgate::engine::{Candidate, NodeName, PodFacts, Reason, Spares, Victim};

use crate::support::{Gate, Node, Pod, gpu, node, pod};

/// kube-scheduler would clear the node of these; only UIDs are told.
pub(crate) fn clear(node: &str, victims: &[&Pod]) -> Candidate {
    let victim = |pod: &&Pod| Victim { uid: pod.uid().clone(), priority: None, started_at: None };
    let victims = victims.iter().map(victim).collect();
    Candidate { node: node.into(), victims, pdb_violations: 0 }
}

/// Nobody may be added to the victims.
pub(crate) fn everyone(_: &PodFacts) -> bool {
    true
}

impl Gate {
    pub(crate) fn chosen(&self, pod: &Pod, candidates: &[Candidate]) -> Option<String> {
        self.choice(pod, candidates, &everyone).map(|choice| choice.node.to_string())
    }

    pub(crate) fn choice(
        &self,
        pod: &Pod,
        candidates: &[Candidate],
        spares: Spares<'_>,
    ) -> Option<Candidate> {
        self.ledger.choose_candidate(&pod.facts, pod.ask(), candidates, spares, self.now)
    }

    /// The node that is cleared for the pod.
    pub(crate) fn preempt(&mut self, pod: &Pod, candidates: &[Candidate]) -> Option<String> {
        self.add(pod);
        let choice = self.choice(pod, candidates, &everyone)?;
        let is_kept = self.ledger.nominate(&pod.facts, pod.ask(), &choice, self.now);
        is_kept.then(|| choice.node.to_string())
    }

    /// The pod has ended and is deleted; a sampling shows the node as it is now.
    pub(crate) fn leave(&mut self, bound: &Pod, node: &Node) {
        let last = bound.clone().ended().facts;
        self.ledger.delete_pod(bound.uid(), Some(last), self.now);
        self.wait(1);
        self.sample_now(node);
    }

    pub(crate) fn is_nominated(&self, pod: &Pod) -> bool {
        self.ledger.is_nominated(pod.uid())
    }
}

pub(crate) fn low(name: &str) -> Pod {
    pod(name).priority(1)
}

pub(crate) fn high(name: &str) -> Pod {
    pod(name).priority(1000)
}

#[test]
fn a_node_is_chosen_where_the_vram_fits_with_the_victims_gone() {
    let mut gate = Gate::with(&[node("n0").gpus(1), node("n1").gpus(1).foreign(0, 10)]);
    let (a, b) = (gate.bind(&low("a").vram(20), "n0"), gate.bind(&low("b").vram(8), "n1"));
    let asker = high("asker").vram(16);
    assert_eq!(gate.chosen(&asker, &[clear("n1", &[&b]), clear("n0", &[&a])]), Some("n0".into()));
    assert_eq!(gate.chosen(&asker, &[clear("n1", &[&b])]), None, "foreign memory stays");
}

#[test]
fn everyone_else_stays() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(4)]);
    let victim = gate.bind(&low("victim").vram(10), "n0");
    let other = gate.bind(&low("other").vram(10), "n0");
    let asker = high("asker").vram(16);
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&victim])]), None);
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&victim, &other])]), Some("n0".into()));
    gate.hold(&pod("held").vram(3), "n0");
    assert_eq!(gate.chosen(&high("asker").vram(22), &[clear("n0", &[&victim, &other])]), None);
}

#[test]
fn what_victims_measurably_hold_goes_with_them() {
    let n0 = node("n0").gpus(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(4), "n0");
    gate.read(&n0.clone().used_to_use("victim", 0, 18, 22));
    let asker = high("asker").vram(23);
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&victim])]), Some("n0".into()));
    // A pod whose need nobody knows finds an empty GPU.
    assert_eq!(gate.chosen(&high("whole"), &[clear("n0", &[&victim])]), Some("n0".into()));
    gate.read(&n0.uses("victim", 0, 18).uses("stranger", 0, 2));
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&victim])]), None);
    assert_eq!(gate.chosen(&high("whole"), &[clear("n0", &[&victim])]), None);
}

#[test]
fn victims_give_their_devices_back() {
    let n0 = node("n0").gpus(2).replicas(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let other = gate.bind(&low("other").vram(20), "n0");
    let on =
        |pod: &Pod| u32::from(pod.facts.decision.as_ref().unwrap().charged[0].0 != gpu("n0", 0));
    gate.sample_now(&n0.lists("victim", on(&victim)).lists("other", on(&other)));
    let asker = high("asker").vram(20).unsteered();
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&victim])]), Some("n0".into()));
}

#[test]
fn a_steered_pod_need_not_wait_until_others_have_arrived() {
    let n0 = node("n0").gpus(1).replicas(4);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(10), "n0");
    gate.sample_now(&n0.lists("victim", 0));
    gate.bind(&low("predicted").vram(4).unsteered(), "n0");
    let asker = high("asker").vram(16);
    assert_eq!(gate.refusal(&asker, "n0"), Some(Reason::PlacementInFlight));
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&victim])]), Some("n0".into()));
    let unsteered = high("unsteered").vram(16).unsteered();
    assert_eq!(gate.chosen(&unsteered, &[clear("n0", &[&victim])]), None, "who knows where");
    assert_eq!(gate.chosen(&high("big").vram(20), &[clear("n0", &[&victim])]), None);
}

#[test]
fn asking_changes_nothing() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let before = format!("{:?}", gate.ledger);
    gate.chosen(&high("asker").vram(16), &[clear("n0", &[&victim])]);
    assert_eq!(format!("{:?}", gate.ledger), before);
}

#[test]
fn where_memory_is_nobodys_by_measurement_nobody_leaves() {
    let n0 = node("n0").gpus(1).degraded();
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(8), "n0");
    let asker = high("asker").vram(8);
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&victim])]), Some("n0".into()), "idle");
    gate.read(&n0.foreign(0, 8));
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&victim])]), None);
}

#[test]
fn a_candidate_is_never_answered_without_victims_of_lower_priority_on_that_node() {
    let nodes = ["n0", "n1", "n2"].map(|name| node(name).gpus(1));
    let mut gate = Gate::with(&nodes);
    let equal = gate.bind(&pod("equal").priority(1000).vram(20), "n0");
    let asker = high("asker").vram(16);
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&equal])]), None, "not lower");
    assert_eq!(gate.chosen(&asker, &[clear("n1", &[])]), None, "nobody to evict");
    let lower = gate.bind(&low("lower").vram(20), "n1");
    let elsewhere = clear("n2", &[&lower]);
    assert_eq!(gate.chosen(&asker, &[elsewhere]), None, "it is on another node");
    assert_eq!(gate.chosen(&asker, &[clear("nowhere", &[&low("unknown")])]), None);
    let told = low("told").vram(2);
    gate.admit(&told, "n1").unwrap();
    let being_bound = clear("n1", &[&lower, &told]);
    assert_eq!(gate.chosen(&asker, std::slice::from_ref(&being_bound)), None, "being bound");
    gate.ledger.bound(told.uid(), gate.now);
    assert_eq!(gate.chosen(&asker, &[being_bound]), Some("n1".into()), "by the API server's reply");
    // Without a GPU a pod is unknown here, and kube-scheduler's to judge.
    let both = clear("n1", &[&lower, &low("unknown")]);
    assert_eq!(gate.chosen(&asker, &[both]), Some("n1".into()));
}

/// Violations, and each victim's priority and start.
type Cleared<'a> = (i64, &'a [(i32, Option<i64>)]);

/// The winner among nodes that are cleared so.
fn winner(nodes: &[Cleared<'_>]) -> usize {
    let names: Vec<_> = (0..nodes.len()).map(|at| format!("n{at}")).collect();
    let made: Vec<_> = names.iter().map(|name| node(name).gpus(1)).collect();
    let gate = Gate::with(&made);
    let candidate = |(at, (violations, victims)): (usize, &Cleared<'_>)| {
        let victim = |(number, (priority, started_at)): (usize, &(i32, Option<i64>))| Victim {
            uid: format!("v{at}-{number}").into(),
            priority: Some(*priority),
            started_at: *started_at,
        };
        let victims = victims.iter().enumerate().map(victim).collect();
        let node = NodeName::from(names[at].as_str());
        Candidate { node, victims, pdb_violations: *violations }
    };
    let candidates: Vec<_> = nodes.iter().enumerate().map(candidate).collect();
    let asker = high("asker").vram(16);
    let chosen = gate.chosen(&asker, &candidates).expect("it fits everywhere");
    names.iter().position(|name| *name == chosen).expect("one of them")
}

#[test]
fn candidates_are_ranked_as_kube_scheduler_does() {
    let (old, young) = (Some(100), Some(200));
    assert_eq!(winner(&[(1, &[(1, old)]), (0, &[(9, old), (9, old)])]), 1, "violations first");
    assert_eq!(winner(&[(0, &[(9, old)]), (0, &[(8, old), (8, old)])]), 1, "highest priority");
    assert_eq!(winner(&[(0, &[(9, old), (5, old)]), (0, &[(9, old), (4, old)])]), 1, "the sum");
    assert_eq!(winner(&[(0, &[(-9, old), (-9, old)]), (0, &[(-9, old)])]), 1, "few below zero");
    // Only the highest priority's starts count.
    assert_eq!(winner(&[(0, &[(9, old), (5, young)]), (0, &[(9, young), (5, old)])]), 1);
    assert_eq!(winner(&[(0, &[(9, young), (9, old)]), (0, &[(9, young), (9, young)])]), 1);
    assert_eq!(winner(&[(0, &[(9, old)]), (0, &[(9, None)])]), 1, "it has not started");
    assert_eq!(winner(&[(0, &[(9, old)]), (0, &[(9, old)])]), 0, "else the first name");
}

#[test]
fn of_victims_told_by_uid_the_ledger_knows_priority_and_start() {
    let mut gate = Gate::with(&[node("n0").gpus(1), node("n1").gpus(1), node("n2").gpus(1)]);
    let a = gate.bind(&pod("a").priority(9).started_at(100).vram(8), "n0");
    let b = gate.bind(&pod("b").priority(9).started_at(200).vram(8), "n1");
    let asker = high("asker").vram(16);
    assert_eq!(gate.chosen(&asker, &[clear("n0", &[&a]), clear("n1", &[&b])]), Some("n1".into()));
    // Nothing is known of it: the worst.
    let unknown = clear("n2", &[&pod("unknown")]);
    assert_eq!(gate.chosen(&asker, &[unknown, clear("n0", &[&a])]), Some("n0".into()));
}
