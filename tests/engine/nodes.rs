//! Nodes that come, go and come again.

use crate::support::{Gate, Node, less, node, pod};
use filmgate::engine::{Arrival, GpuUuid, NodeName, Reason};

fn n0() -> Node {
    node("n0").gpus(1)
}

/// Another machine under the same name.
fn another() -> Node {
    n0().uid("other").run("run-2").gpu(0, |gpu| gpu.uuid = "GPU-new".into())
}

fn replace_node(gate: &mut Gate) {
    gate.pass(1);
    gate.ledger.apply_node(another().facts, gate.now);
}

#[test]
fn a_node_made_again_is_refused_until_it_is_read() {
    let mut gate = Gate::with(&[n0()]);
    replace_node(&mut gate);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::NeverRead));
    gate.sample_now(&another());
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), None);
}

#[test]
fn a_late_reading_of_the_former_machine_is_not_the_new_ones() {
    let mut gate = Gate::with(&[n0()]);
    let asked_at = gate.now;
    replace_node(&mut gate);
    assert_eq!(gate.receive(&n0().sampling(50), None), Arrival::Outdated);
    assert_eq!(gate.receive(&n0().sampling(51), Some(asked_at)), Arrival::Outdated);
    assert!(gate.wants_sampling("n0"));
}

#[test]
fn a_reading_that_came_while_there_was_no_node_is_not_the_next_ones() {
    let mut gate = Gate::with(&[n0()]);
    gate.ledger.delete_node(&NodeName::from("n0"));
    gate.pass(1);
    gate.sample_now(&n0());
    replace_node(&mut gate);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::NeverRead));
}

#[test]
fn a_pod_bound_to_the_name_may_be_on_any_gpu_of_the_new_machine() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&pod("p0").vram(12), "n0");
    replace_node(&mut gate);
    gate.sample_now(&another().gpus(1));
    assert_eq!((gate.free("n0", 0), gate.free("n0", 1)), (less(12), less(12)));
}

#[test]
fn a_pod_whose_listed_gpu_fell_off_the_bus_is_charged_nowhere_else() {
    let mut gate = Gate::with(&[node("n0").gpus(2)]);
    let bound = gate.bind(&pod("p0").vram(12), "n0");
    let lost = bound.facts.decision.clone().unwrap().charged[0].0.clone();
    let mut left = node("n0").gpus(2).lists("p0", 0);
    left.reading.devices[0].gpu = lost.clone();
    left.reading.gpus.retain(|gpu| gpu.uuid != lost);
    gate.read(&left);
    gate.ledger.for_each_gpu(|_, gpu| assert_eq!(gpu.charged.get(), 0));
}

#[test]
fn the_same_machine_registered_again_keeps_its_pods_charged() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&pod("p0").vram(12), "n0");
    gate.ledger.delete_node(&NodeName::from("n0"));
    gate.pass(1);
    gate.ledger.apply_node(n0().uid("again").facts, gate.now);
    gate.sample_now(&n0());
    assert_eq!(gate.free("n0", 0), less(12));
}

#[test]
fn a_pod_that_goes_after_its_node_leaves_nothing() {
    let mut gate = Gate::with(&[n0()]);
    let bound = gate.bind(&pod("p0").vram(12), "n0");
    gate.ledger.delete_node(&NodeName::from("n0"));
    gate.ledger.delete_pod(bound.uid(), Some(bound.facts.clone()), gate.now);
    assert!(!gate.has_claim(&bound));
}

#[test]
fn a_reading_without_a_node_shows_no_charge_of_a_pod_that_goes() {
    let mut gate = Gate::with(&[n0()]);
    let bound = gate.bind(&pod("p0").vram(12), "n0");
    gate.ledger.delete_node(&NodeName::from("n0"));
    gate.pass(1);
    gate.sample_now(&n0());
    assert_eq!(gate.free("n0", 0), less(12));
    gate.ledger.delete_pod(bound.uid(), Some(bound.facts.clone()), gate.now);
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn a_node_told_again_under_its_uid_is_read_anew_since_charges_ended_without_it() {
    let mut gate = Gate::with(&[n0()]);
    let bound = gate.bind(&pod("p0").vram(12), "n0");
    gate.ledger.delete_node(&NodeName::from("n0"));
    gate.pass(1);
    gate.sample_now(&n0());
    gate.ledger.delete_pod(bound.uid(), Some(bound.facts.clone()), gate.now);
    gate.pass(1);
    gate.ledger.apply_node(n0().facts, gate.now);
    assert_eq!(gate.refusal(&pod("p1").vram(12), "n0"), Some(Reason::NeverRead));
}

#[test]
fn a_force_deleted_pods_grace_outlives_its_node() {
    let mut gate = Gate::with(&[n0()]);
    let bound = gate.bind(&pod("p0").vram(12), "n0");
    gate.ledger.delete_pod(bound.uid(), Some(bound.facts.clone()), gate.now);
    replace_node(&mut gate);
    gate.sample_now(&another());
    assert_eq!(gate.refusal(&pod("p1").vram(1), "n0"), Some(Reason::NeverRead));
    gate.pass(30);
    gate.sample_now(&another());
    assert_eq!(gate.refusal(&pod("p1").vram(1), "n0"), None);
}

#[test]
fn holds_go_with_their_node() {
    let mut gate = Gate::with(&[n0()]);
    assert!(gate.hold(&pod("p0").vram(12), "n0"));
    replace_node(&mut gate);
    assert!(!gate.has_claim(&pod("p0")));
}

#[test]
fn a_gone_pod_of_a_node_that_nobody_reads_does_not_stay_for_ever() {
    let mut gate = Gate::with(&[]);
    gate.ledger.apply_node(n0().facts, gate.now);
    let others = pod("p0").vram(12).on("n0");
    gate.add(&others);
    gate.ledger.delete_pod(others.uid(), Some(others.facts.clone()), gate.now);
    let before = gate.now;
    gate.wait(30);
    assert!(!gate.has_claim(&others));
    assert_eq!(gate.receive(&n0(), Some(before)), Arrival::Outdated);
    assert_eq!(gate.receive(&n0(), Some(gate.now)), Arrival::Taken);
}

#[test]
fn a_binding_on_its_way_to_a_node_made_again_is_charged_there() {
    let mut gate = Gate::with(&[n0()]);
    gate.admit(&pod("p0").vram(12), "n0").unwrap();
    replace_node(&mut gate);
    gate.sample_now(&another());
    assert_eq!(gate.free("n0", 0), less(12));
    assert_eq!(another().reading.gpus[0].uuid, GpuUuid::from("GPU-new"));
}
