//! Whose turn it is when memory becomes free.

use crate::support::{Gate, Node, node, pod};
use filmgate::engine::Policy;

fn full(name: &str) -> Node {
    node(name).gpus(1).foreign(0, 20)
}

fn empty(name: &str) -> Node {
    node(name).gpus(1)
}

fn woken(pod: &str, node: &str) -> (String, String) {
    (pod.to_owned(), node.to_owned())
}

/// Nothing is left to be told.
fn calm(gate: &mut Gate) {
    gate.wakes();
}

#[test]
fn a_waiting_pod_is_woken_when_memory_becomes_free() {
    let mut gate = Gate::with(&[full("n0")]);
    gate.refuse(&pod("p0").vram(12), &["n0"]);
    assert_eq!(gate.wakes(), []);
    gate.read(&empty("n0"));
    assert_eq!(gate.wakes(), [woken("p0", "n0")]);
    assert_eq!(gate.wakes(), []);
}

#[test]
fn priority_goes_before_age_and_age_before_arrival() {
    let mut gate = Gate::with(&[full("n0")]);
    for (name, priority, created_at) in [("young", 0, 9), ("old", 0, 1), ("vip", 5, 99)] {
        gate.refuse(&pod(name).vram(5).priority(priority).created_at(created_at), &["n0"]);
    }
    gate.read(&empty("n0"));
    assert_eq!(gate.wakes(), [woken("vip", "n0"), woken("old", "n0"), woken("young", "n0")]);
}

#[test]
fn the_next_in_line_is_not_woken_for_the_same_memory() {
    let mut gate = Gate::with(&[full("n0")]);
    for (name, created_at) in [("first", 1), ("second", 2)] {
        gate.refuse(&pod(name).vram(16).created_at(created_at), &["n0"]);
    }
    gate.read(&empty("n0"));
    assert_eq!(gate.wakes(), [woken("first", "n0")]);
}

#[test]
fn a_pod_that_does_not_fit_lets_others_pass() {
    let mut gate = Gate::with(&[full("n0")]);
    gate.refuse(&pod("big").vram(22).created_at(1), &["n0"]);
    gate.refuse(&pod("small").vram(10).created_at(2), &["n0"]);
    gate.read(&node("n0").gpus(1).foreign(0, 10));
    assert_eq!(gate.wakes(), [woken("small", "n0")]);
}

#[test]
fn a_pod_is_woken_only_for_a_node_that_it_was_offered() {
    let mut gate = Gate::with(&[full("n0"), full("n1")]);
    gate.refuse(&pod("p0").vram(12), &["n1"]);
    gate.read(&empty("n0"));
    assert_eq!(gate.wakes(), []);
    gate.read(&empty("n1"));
    assert_eq!(gate.wakes(), [woken("p0", "n1")]);
}

#[test]
fn a_nodes_first_reading_wakes_though_kube_scheduler_knew_the_node_first() {
    let mut gate = Gate::with(&[]);
    gate.refuse(&pod("p0").vram(12), &["n0"]);
    gate.ledger.apply_node(empty("n0").facts, gate.now);
    assert_eq!(gate.wakes(), []);
    gate.read(&empty("n0"));
    assert_eq!(gate.wakes(), [woken("p0", "n0")]);
}

#[test]
fn a_refused_binding_an_expired_hold_and_evidence_wake() {
    let other = pod("other").vram(16);
    let free_by: [fn(&mut Gate); 3] = [
        |gate| gate.ledger.not_bound(pod("other").uid(), gate.now),
        |gate| gate.wait(30),
        |gate| {
            gate.sample_now(&empty("n0"));
        },
    ];
    for (case, free) in free_by.into_iter().enumerate() {
        let mut gate = Gate::with(&[empty("n0")]);
        match case {
            0 => drop(gate.admit(&other, "n0").unwrap()),
            1 => assert!(gate.hold(&other, "n0")),
            _ => {
                let ended = gate.bind(&other, "n0").ended();
                gate.add(&ended);
            }
        }
        calm(&mut gate);
        gate.refuse(&pod("p0").vram(16), &["n0"]);
        assert_eq!(gate.wakes(), [], "{case}");
        free(&mut gate);
        assert_eq!(gate.wakes(), [woken("p0", "n0")], "{case}");
    }
}

#[test]
fn a_pod_that_did_not_use_its_turn_loses_it_to_the_next_and_gets_another() {
    let mut gate = Gate::with(&[full("n0")]);
    gate.refuse(&pod("first").vram(16).created_at(1), &["n0"]);
    gate.refuse(&pod("second").vram(16).created_at(2), &["n0"]);
    gate.read(&empty("n0"));
    assert_eq!(gate.wakes(), [woken("first", "n0")]);
    gate.wait(5);
    assert_eq!(gate.wakes(), [woken("first", "n0")]);
    gate.refuse(&pod("first").vram(16).created_at(1), &["n0"]);
    assert_eq!(gate.wakes(), [woken("second", "n0")]);
}

#[test]
fn a_pod_refused_again_and_again_is_woken_ever_more_seldom() {
    let mut gate = Gate::with(&[full("n0")]);
    gate.refuse(&pod("p0").vram(12), &["n0"]);
    gate.read(&empty("n0"));
    let mut wakes = 0;
    for _ in 0..60 {
        wakes += gate.wakes().len();
        gate.refuse(&pod("p0").vram(12), &["n0"]);
        gate.wait(1);
    }
    assert_eq!(wakes, 6);
}

#[test]
fn without_holds_each_waiting_pod_is_woken_in_the_end() {
    let policy = Policy { holds: false, ..Policy::default() };
    let mut gate = Gate::under(policy, &[full("n0")]);
    gate.refuse(&pod("first").vram(8).created_at(1), &["n0"]);
    gate.refuse(&pod("second").vram(8).created_at(2), &["n0"]);
    gate.read(&empty("n0"));
    assert_eq!(gate.wakes(), [woken("first", "n0")]);
    assert_eq!(gate.wakes(), [woken("second", "n0")]);
}

#[test]
fn a_pod_with_a_binding_on_its_way_does_not_wait() {
    let mut gate = Gate::with(&[empty("n0")]);
    gate.admit(&pod("p0").vram(12), "n0").unwrap();
    gate.refuse(&pod("p0").vram(12), &["n0"]);
    assert_eq!(gate.ledger.waiting().count(), 0);
}

#[test]
fn a_pod_that_the_ledger_does_not_know_or_that_is_bound_or_over_does_not_wait() {
    let mut gate = Gate::with(&[full("n0")]);
    let unknown = pod("unknown").vram(12);
    gate.ledger.wait(unknown.uid(), unknown.ask(), ["n0"], gate.now);
    gate.refuse(&pod("bound").vram(12).on("n0"), &["n0"]);
    gate.refuse(&pod("over").vram(12).ended(), &["n0"]);
    assert_eq!(gate.ledger.waiting().count(), 0);
}

#[test]
fn a_placement_that_is_no_longer_in_flight_wakes() {
    let shared = || node("n0").gpus(2).replicas(4);
    let unsteered = |name| pod(name).vram(4).unsteered();
    let mut gate = Gate::with(&[shared()]);
    gate.bind(&unsteered("p0"), "n0");
    calm(&mut gate);
    gate.refuse(&unsteered("p1"), &["n0"]);
    gate.read(&shared().lists("p0", 0));
    assert_eq!(gate.wakes(), [woken("p1", "n0")]);
}

#[test]
fn a_node_that_leaves_mps_wakes() {
    let shared = || node("n0").gpus(1).replicas(4);
    let mut gate = Gate::with(&[shared().mps()]);
    calm(&mut gate);
    gate.refuse(&pod("p0").vram(12), &["n0"]);
    gate.ledger.apply_node(shared().facts, gate.now);
    assert_eq!(gate.wakes(), [woken("p0", "n0")]);
}
