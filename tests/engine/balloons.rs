//! Balloons: pods that hold a node's devices, so that somebody adds a node.

use filmgate::engine::{Candidate, Victim};

use crate::support::{Gate, Node, Pod, node, pod};

/// How many balloons there should be.
fn wanted(gate: &Gate) -> u64 {
    gate.outlook().shortage.balloons
}

fn nodes_needed(gate: &Gate) -> u64 {
    gate.outlook().shortage.nodes
}

fn shared(name: &str) -> Node {
    node(name).gpus(1).replicas(8)
}

/// One full node, and pods that wait for others.
fn full(waiting: &[&str]) -> Gate {
    let mut gate = Gate::with(&[shared("n0")]);
    gate.bind(&pod("resident").vram(20), "n0");
    for name in waiting {
        gate.refuse(&pod(name).vram(20), &["n0"]);
    }
    gate
}

fn join(gate: &mut Gate, node: &Node) {
    gate.ledger.apply_node(node.facts.clone(), gate.now);
}

fn balloon(gate: &mut Gate, name: &str, node: &str) -> Pod {
    let balloon = pod(name).balloon(8).on(node);
    gate.add(&balloon);
    balloon
}

/// kube-scheduler would evict the balloon from that node; whether filmgate would.
fn is_evicted(gate: &Gate, waiting: &Pod, balloon: &Pod) -> bool {
    let candidates = [candidate(balloon)];
    let nobody_spared = |_: &_| false;
    let chosen = gate.ledger.choose_candidate(
        &waiting.facts,
        waiting.ask(),
        &candidates,
        &nobody_spared,
        gate.now,
    );
    chosen.is_some()
}

fn candidate(balloon: &Pod) -> Candidate {
    let victim = Victim { uid: balloon.uid().clone(), priority: Some(-10), started_at: None };
    let node = balloon.facts.node.clone().expect("it is bound");
    Candidate { node, victims: vec![victim], pdb_violations: 0 }
}

#[test]
fn as_many_are_wanted_as_nodes_are_needed() {
    let mut gate = full(&[]);
    assert_eq!(wanted(&gate), 0);
    gate.refuse(&pod("first").vram(20), &["n0"]);
    assert_eq!(wanted(&gate), 1);
    gate.refuse(&pod("second").vram(20), &["n0"]);
    assert_eq!(wanted(&gate), 2);
}

#[test]
fn one_on_a_node_that_was_not_read_yet_stays() {
    let mut gate = full(&["first"]);
    join(&mut gate, &shared("n1"));
    balloon(&mut gate, "balloon", "n1");
    assert_eq!((nodes_needed(&gate), wanted(&gate)), (1, 1));
}

#[test]
fn all_make_way_where_one_of_them_has_a_place_for_who_waits() {
    let mut gate = full(&["first", "second"]);
    let n1 = shared("n1");
    join(&mut gate, &n1);
    balloon(&mut gate, "balloon", "n1");
    gate.read(&n1.lists("balloon", 0));
    assert_eq!((nodes_needed(&gate), wanted(&gate)), (1, 0), "the second needs a node still");
}

#[test]
fn one_that_helps_nobody_does_not_count() {
    let mut gate = full(&["first"]);
    let small = shared("n1").total(12);
    join(&mut gate, &small);
    balloon(&mut gate, "balloon", "n1");
    gate.read(&small.lists("balloon", 0));
    assert_eq!((nodes_needed(&gate), wanted(&gate)), (1, 2));
}

#[test]
fn none_are_wanted_when_nobody_waits() {
    let mut gate = full(&[]);
    let n1 = shared("n1");
    join(&mut gate, &n1);
    balloon(&mut gate, "balloon", "n1");
    gate.read(&n1.lists("balloon", 0));
    assert_eq!(wanted(&gate), 0);
}

#[test]
fn who_waits_for_a_reserved_place_is_helped_by_a_node() {
    let mut gate = full(&["first"]);
    gate.wait(121);
    gate.read(&shared("n0"));
    gate.ledger.reserve(gate.now);
    assert_eq!(gate.ledger.reservations(), 1);
    assert_eq!((nodes_needed(&gate), wanted(&gate)), (1, 1));
}

#[test]
fn it_is_evicted_only_where_it_did_not_go_by_itself() {
    let (mut gate, first, n1) = (full(&["first"]), pod("first").vram(20), shared("n1"));
    join(&mut gate, &n1);
    let balloon = balloon(&mut gate, "balloon", "n1");
    let read = n1.lists("balloon", 0);
    assert!(!is_evicted(&gate, &first, &balloon), "nobody knows what is on the node");
    gate.wait(300);
    gate.read(&read);
    assert!(!is_evicted(&gate, &first, &balloon), "the node can be used only now");
    gate.wait(39);
    gate.read(&read);
    assert!(!is_evicted(&gate, &first, &balloon));
    gate.wait(1);
    assert!(is_evicted(&gate, &first, &balloon));
}

#[test]
fn who_would_evict_it_is_tried_again_when_the_node_is_read() {
    let (mut gate, first, n1) = (full(&["first"]), pod("first").vram(20), shared("n1"));
    join(&mut gate, &n1);
    let balloon = balloon(&mut gate, "balloon", "n1");
    gate.wakes();
    gate.ledger.wait_for_candidates(&first.facts, first.ask(), &[candidate(&balloon)], gate.now);
    assert_eq!(gate.wakes(), []);
    gate.read(&n1.lists("balloon", 0));
    assert_eq!(gate.wakes(), [("first".to_owned(), "n1".to_owned())]);
}

#[test]
fn who_may_not_evict_it_yet_is_tried_again_and_again_more_and_more_rarely() {
    let (mut gate, first, n1) = (full(&["first"]), pod("first").vram(20), shared("n1"));
    join(&mut gate, &n1);
    let balloon = balloon(&mut gate, "balloon", "n1");
    let read = n1.lists("balloon", 0);
    gate.read(&read);
    let mut woken_at = Vec::new();
    for second in 0..40 {
        // Refused by device counts, before filmgate is asked about that node.
        gate.ledger.wait(first.uid(), first.ask(), ["n0"], gate.now);
        gate.ledger.wait_for_candidates(
            &first.facts,
            first.ask(),
            &[candidate(&balloon)],
            gate.now,
        );
        if !gate.wakes().is_empty() {
            woken_at.push(second);
        }
        gate.wait(1);
        gate.read(&read);
    }
    assert_eq!(woken_at, [0, 1, 3, 7, 15, 31]);
}

#[test]
fn nobody_waits_for_a_node_where_only_vram_is_short() {
    let (mut gate, first) = (full(&["first"]), pod("first").vram(20));
    let small = shared("n1").total(12);
    join(&mut gate, &small);
    gate.read(&small);
    let low = pod("low").vram(4).priority(-5);
    let low = gate.bind(&low, "n1");
    gate.wakes();
    gate.ledger.wait_for_candidates(&first.facts, first.ask(), &[candidate(&low)], gate.now);
    gate.ledger.delete_pod(low.uid(), Some(low.clone().ended().facts), gate.now);
    gate.sample_now(&small);
    assert_eq!(gate.wakes(), []);
}
