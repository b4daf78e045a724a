//! Where a bound pod is charged: where it was sent, where the kubelet lists it, where it runs.

use crate::support::{Gate, Node, less, node, pod};

fn n0() -> Node {
    node("n0").gpus(2).replicas(4)
}

fn free(gate: &Gate) -> (u64, u64) {
    (gate.free("n0", 0), gate.free("n0", 1))
}

/// A steered pod of 12 GiB, sent to GPU 0.
fn sent_to_gpu_0() -> Gate {
    let mut gate = Gate::with(&[n0().foreign(1, 20)]);
    gate.bind(&pod("p0").vram(12), "n0");
    gate.read(&n0());
    gate
}

#[test]
fn a_steered_pod_is_charged_where_it_was_sent_and_where_it_is_listed() {
    let mut gate = sent_to_gpu_0();
    assert_eq!(free(&gate), (less(12), less(0)));
    gate.read(&n0().lists("p0", 1));
    assert_eq!(free(&gate), (less(12), less(12)));
}

#[test]
fn a_process_that_is_seen_ends_the_double_charge_of_a_steered_pod() {
    let mut gate = sent_to_gpu_0();
    gate.read(&n0().lists("p0", 1).uses("p0", 0, 1));
    assert_eq!(free(&gate), (less(12), less(0)));
    gate.read(&n0().lists("p0", 1).uses("p0", 1, 1));
    assert_eq!(free(&gate), (less(0), less(12)));
}

#[test]
fn an_unsteered_pod_is_charged_where_it_is_listed() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&pod("p0").vram(12).unsteered(), "n0");
    assert_eq!(free(&gate), (less(12), less(12)));
    gate.read(&n0().lists("p0", 1));
    assert_eq!(free(&gate), (less(0), less(12)));
}

#[test]
fn a_pod_that_someone_else_bound_is_charged_on_sight_wherever_it_may_be() {
    let mut gate = Gate::with(&[n0()]);
    gate.add(&pod("p0").vram(12).on("n0"));
    assert_eq!(free(&gate), (less(12), less(12)));
    gate.read(&n0().lists("p0", 1));
    assert_eq!(free(&gate), (less(0), less(12)));
}

#[test]
fn where_the_kubelet_tells_no_uid_its_book_counts_from_the_first_sampling_after_the_bind() {
    let mut gate = Gate::with(&[n0().foreign(1, 20)]);
    gate.bind(&pod("p0").vram(12), "n0");
    gate.pass(1);
    gate.read(&n0().lists_name("p0", 1));
    assert_eq!(free(&gate), (less(12), less(0)));
    gate.sample_now(&n0().lists_name("p0", 1));
    assert_eq!(free(&gate), (less(12), less(12)));
}

#[test]
fn a_book_of_before_the_bind_does_not_count_because_the_kubelet_hangs() {
    let mut gate = Gate::with(&[n0().foreign(1, 20)]);
    gate.bind(&pod("p0").vram(12), "n0");
    gate.pass(1);
    gate.sample_now(&n0().lists_name("p0", 1).by_an_old_book());
    assert_eq!(free(&gate), (less(12), less(0)), "it may be an earlier pod's entry");
    gate.sample_now(&n0().lists_name("p0", 1));
    gate.sample_now(&n0().lists_name("p0", 1).by_an_old_book());
    assert_eq!(free(&gate), (less(12), less(12)), "the book was current once");
}

#[test]
fn a_namesakes_entry_with_another_uid_is_not_the_pods() {
    let mut gate = sent_to_gpu_0();
    let mut book = n0().lists("p0", 1);
    book.reading.devices[0].uid = Some("earlier".into());
    gate.read(&book);
    assert_eq!(free(&gate), (less(12), less(0)));
}

#[test]
fn the_pods_own_word_tells_which_binding_took_place() {
    let mut gate = Gate::with(&[n0()]);
    let by_another_leader = pod("p0").vram(12).on("n0").decided("n0", 1, 12);
    gate.admit(&pod("p0").vram(12), "n0").unwrap();
    assert_eq!(free(&gate), (less(12), less(0)));
    gate.add(&by_another_leader);
    assert_eq!(free(&gate), (less(0), less(12)));
}

#[test]
fn also_after_our_binding_seemed_to_succeed() {
    let mut gate = Gate::with(&[n0()]);
    gate.admit(&pod("p0").vram(12), "n0").unwrap();
    gate.ledger.bound(pod("p0").uid(), gate.now);
    gate.add(&pod("p0").vram(12).on("n0").decided("n0", 1, 12));
    assert_eq!(free(&gate), (less(0), less(12)));
}

#[test]
fn also_when_it_was_only_held_there() {
    let mut gate = Gate::with(&[n0()]);
    assert!(gate.hold(&pod("p0").vram(12), "n0"));
    gate.add(&pod("p0").vram(12).on("n0"));
    assert_eq!(free(&gate), (less(12), less(12)));
}

#[test]
fn a_decision_edited_on_a_running_pod_changes_nothing() {
    let mut gate = Gate::with(&[n0()]);
    let mut bound = gate.bind(&pod("p0").vram(12), "n0");
    bound.facts.decision = None;
    gate.add(&bound.decided("n0", 1, 1));
    assert_eq!(free(&gate), (less(12), less(0)));
}

#[test]
fn a_pod_whose_annotations_became_unreadable_keeps_what_was_decided() {
    let mut gate = sent_to_gpu_0();
    gate.add(&pod("p0").unreadable().on("n0").decided("n0", 0, 12));
    assert_eq!(free(&gate), (less(12), less(0)));
    gate.read(&n0().lists("p0", 1));
    assert_eq!(free(&gate), (less(12), less(12)));
}

#[test]
fn a_pod_that_stopped_its_process_is_charged_by_the_other_books_again() {
    let mut gate = sent_to_gpu_0();
    gate.read(&n0().lists("p0", 1).uses("p0", 0, 1));
    gate.read(&n0().lists("p0", 1));
    assert_eq!(free(&gate), (less(12), less(12)));
}
