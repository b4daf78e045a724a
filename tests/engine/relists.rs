//! A whole new list of pods.

use crate::support::{Gate, less, node, pod};

#[test]
fn a_pod_that_the_list_lacks_is_gone() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let bound = gate.bind(&pod("p0").vram(12), "n0");
    gate.ledger.replace_pods(Vec::new(), gate.now);
    assert!(gate.ledger.pod(bound.uid()).is_none());
    assert_eq!(gate.free("n0", 0), less(12));
}

#[test]
fn a_pod_younger_than_the_list_keeps_its_hold_and_is_known_when_its_event_comes() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let young = pod("young").vram(12);
    assert!(gate.hold(&young, "n0"));
    gate.ledger.replace_pods(Vec::new(), gate.now);
    assert!(gate.has_claim(&young));
    assert!(gate.admit(&young, "n0").is_ok());
}

#[test]
fn a_list_says_what_became_of_bindings() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    gate.admit(&pod("p0").vram(12), "n0").unwrap();
    gate.ledger.doubt(pod("p0").uid());
    let bound = pod("p0").vram(12).on("n0").decided("n0", 0, 12);
    gate.ledger.replace_pods(vec![bound.facts], gate.now);
    assert!(!gate.ledger.is_binding(pod("p0").uid()));
    assert_eq!(gate.free("n0", 0), less(12));
}

#[test]
fn an_unbound_pod_in_the_list_does_not_end_its_binding() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    gate.admit(&pod("p0").vram(12), "n0").unwrap();
    gate.ledger.replace_pods(vec![pod("p0").vram(12).facts], gate.now);
    assert!(gate.ledger.is_binding(pod("p0").uid()));
}

#[test]
fn a_waiting_pod_that_the_list_lacks_waits_no_more() {
    let mut gate = Gate::with(&[node("n0").gpus(1).foreign(0, 20)]);
    gate.refuse(&pod("p0").vram(12), &["n0"]);
    gate.ledger.replace_pods(Vec::new(), gate.now);
    assert_eq!(gate.ledger.waiting().count(), 0);
}

#[test]
fn a_pod_that_an_older_list_lacked_is_charged_again_when_its_event_comes() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let young = gate.bind(&pod("young").vram(12), "n0");
    gate.ledger.replace_pods(Vec::new(), gate.now);
    gate.ledger.apply_pod(young.on("n0").decided("n0", 0, 12).facts, gate.now);
    gate.pass(120);
    gate.sample_now(&node("n0").gpus(1));
    assert_eq!(gate.free("n0", 0), less(12));
}
