//! When a charge ends.

use crate::support::{Gate, Node, Pod, less, node, pod};

fn empty() -> Node {
    node("n0").gpus(1)
}

fn bound() -> (Gate, Pod) {
    let mut gate = Gate::with(&[empty()]);
    let pod = gate.bind(&pod("p0").vram(12), "n0");
    gate.read(&empty().uses("p0", 0, 10));
    (gate, pod)
}

fn delete(gate: &mut Gate, pod: &Pod) {
    gate.ledger.delete_pod(pod.uid(), Some(pod.facts.clone()), gate.now);
}

#[test]
fn a_deleted_pod_stays_charged_until_a_sampling_that_began_later() {
    let (mut gate, pod) = bound();
    gate.pass(1);
    delete(&mut gate, &pod.ended());
    assert_eq!(gate.free("n0", 0), less(12));
    gate.pass(1);
    gate.sample_now(&empty());
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn a_reading_of_unknown_age_is_no_evidence() {
    let (mut gate, pod) = bound();
    delete(&mut gate, &pod.ended());
    gate.pass(60);
    gate.read(&empty());
    assert_eq!(gate.free("n0", 0), less(12));
}

#[test]
fn a_sampling_that_began_before_we_saw_the_pod_gone_is_no_evidence() {
    let (mut gate, pod) = bound();
    let asked_at = gate.now;
    gate.pass(1);
    delete(&mut gate, &pod.ended());
    gate.pass(1);
    gate.receive(&empty().sampling(50), Some(asked_at));
    assert_eq!(gate.free("n0", 0), less(12));
}

#[test]
fn what_its_processes_still_hold_counts_as_measured() {
    let (mut gate, pod) = bound();
    delete(&mut gate, &pod.ended());
    gate.sample_now(&empty().uses("p0", 0, 5));
    assert_eq!(gate.free("n0", 0), less(5));
}

#[test]
fn a_pod_in_a_terminal_phase_is_gone() {
    let (mut gate, pod) = bound();
    gate.add(&pod.ended());
    assert_eq!(gate.free("n0", 0), less(12));
    gate.sample_now(&empty());
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn later_words_about_a_pod_that_ended_do_not_charge_it_again() {
    let (mut gate, pod) = bound();
    let ended = pod.ended();
    gate.add(&ended);
    gate.sample_now(&empty());
    gate.add(&ended);
    assert_eq!(gate.free("n0", 0), less(0));
    gate.ledger.replace_pods(vec![ended.facts.clone()], gate.now);
    assert_eq!(gate.free("n0", 0), less(0));
    delete(&mut gate, &ended);
    assert!(!gate.has_claim(&ended));
}

#[test]
fn an_event_that_a_fence_has_overtaken_does_not_bring_the_past_back() {
    let (mut gate, bound) = bound();
    gate.add(&pod("p0").vram(12));
    assert_eq!(gate.ledger.pod(bound.uid()), Some(&bound.facts));
    gate.add(&bound.clone().ended());
    gate.add(&bound);
    gate.sample_now(&empty());
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn a_force_deleted_pod_stays_charged_for_half_a_minute_at_least() {
    let (mut gate, pod) = bound();
    delete(&mut gate, &pod);
    gate.pass(29);
    gate.sample_now(&empty());
    assert_eq!(gate.free("n0", 0), less(12));
    gate.pass(1);
    gate.sample_now(&empty());
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn a_deletion_that_the_watch_missed_may_have_been_a_force_delete() {
    let (mut gate, pod) = bound();
    gate.ledger.replace_pods(Vec::new(), gate.now);
    gate.pass(29);
    gate.sample_now(&empty());
    assert!(gate.has_claim(&pod));
    gate.pass(1);
    gate.sample_now(&empty());
    assert!(!gate.has_claim(&pod));
}

#[test]
fn a_late_word_of_a_deleted_pod_does_not_bring_it_back() {
    let (mut gate, pod) = bound();
    delete(&mut gate, &pod.clone().ended());
    gate.sample_now(&empty());
    gate.add(&pod);
    assert!(!gate.has_claim(&pod) && gate.ledger.pod(pod.uid()).is_none());
    assert!(!gate.hold(&pod, "n0"));
}

#[test]
fn a_pod_deleted_before_it_was_bound_ends_its_binding() {
    let mut gate = Gate::with(&[empty()]);
    let unbound = pod("p0").vram(12);
    gate.admit(&unbound, "n0").unwrap();
    delete(&mut gate, &unbound);
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn a_pod_that_vanished_during_its_binding_may_have_run() {
    let mut gate = Gate::with(&[empty()]);
    let unbound = pod("p0").vram(12);
    gate.admit(&unbound, "n0").unwrap();
    gate.ledger.delete_pod(unbound.uid(), None, gate.now);
    assert_eq!(gate.free("n0", 0), less(12));
    gate.ledger.not_bound(unbound.uid(), gate.now);
    assert_eq!(gate.free("n0", 0), less(12));
    gate.wait(30);
    gate.sample_now(&empty());
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn a_sampling_is_wanted_as_soon_as_it_can_be_evidence() {
    let (mut gate, pod) = bound();
    assert!(!gate.wants_sampling("n0"));
    delete(&mut gate, &pod);
    assert!(!gate.wants_sampling("n0"));
    gate.pass(30);
    assert!(gate.wants_sampling("n0"));
    gate.sample_now(&empty());
    assert!(!gate.wants_sampling("n0"));
}

#[test]
fn an_answer_that_the_stream_overtook_still_ends_a_gone_pods_charge() {
    let (mut gate, pod) = bound();
    let asked_before = gate.now;
    gate.pass(1);
    delete(&mut gate, &pod.ended());
    gate.receive(&empty().sampling(50), None);
    gate.receive(&empty().sampling(50), Some(asked_before));
    gate.receive(&empty().run("run-2").sampling(50), Some(asked_before));
    assert_eq!(gate.free("n0", 0), less(12));
    gate.receive(&empty().sampling(49), Some(gate.now));
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn an_answer_is_no_evidence_while_a_later_reading_is_impossible() {
    let (mut gate, pod) = bound();
    delete(&mut gate, &pod.ended());
    gate.receive(&empty().total(0).sampling(50), None);
    gate.receive(&empty().sampling(49), Some(gate.now));
    assert!(gate.wants_sampling("n0"));
}
