//! Pods whose GPU the device plugin chooses: predicted from its book.

use crate::support::{Gate, Node, Pod, less, node, pod};
use filmgate::engine::{PluginAllocation, Policy, Reason};

fn n0() -> Node {
    node("n0").gpus(2).replicas(4)
}

fn unsteered(name: &str) -> Pod {
    pod(name).vram(8).unsteered()
}

fn free(gate: &Gate) -> (u64, u64) {
    (gate.free("n0", 0), gate.free("n0", 1))
}

/// A pod of someone else's, listed on that GPU.
fn settle(gate: &mut Gate, name: &str) {
    gate.add(&pod(name).vram(1).on("n0"));
}

#[test]
fn the_plugin_takes_the_gpu_with_the_fewest_replicas_in_use() {
    let mut gate = Gate::with(&[n0()]);
    settle(&mut gate, "p0");
    gate.read(&n0().lists("p0", 0));
    gate.bind(&unsteered("p1"), "n0");
    assert_eq!(free(&gate), (less(1), less(8)));
}

#[test]
fn the_book_counts_and_not_where_pods_run() {
    let mut gate = Gate::with(&[n0()]);
    settle(&mut gate, "p0");
    gate.read(&n0().lists("p0", 0).uses("p0", 1, 1));
    gate.bind(&unsteered("p1"), "n0");
    assert_eq!(free(&gate), (less(0), less(9)));
}

#[test]
fn a_packing_plugin_takes_the_gpu_with_the_most_that_has_one_left() {
    let policy = Policy { plugin_allocation: PluginAllocation::Packed, ..Policy::default() };
    let mut gate = Gate::under(policy, &[n0().replicas(2)]);
    settle(&mut gate, "p0");
    gate.read(&n0().replicas(2).lists("p0", 1));
    gate.bind(&unsteered("p1"), "n0");
    assert_eq!(free(&gate), (less(0), less(9)));
    gate.read(&n0().replicas(2).lists("p0", 1).lists("p1", 1));
    gate.bind(&unsteered("p2"), "n0");
    assert_eq!(free(&gate), (less(8), less(9)));
}

#[test]
fn in_a_tie_every_gpu_must_have_room_and_is_charged() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&unsteered("p0"), "n0");
    assert_eq!(free(&gate), (less(8), less(8)));
    let gate = Gate::with(&[n0().foreign(1, 20)]);
    assert_eq!(gate.refusal(&unsteered("p0"), "n0"), Some(Reason::NotEnoughVram));
}

#[test]
fn a_gpu_that_does_not_fit_is_no_obstacle_where_the_plugin_takes_another() {
    let mut gate = Gate::with(&[n0().foreign(0, 20)]);
    settle(&mut gate, "p0");
    gate.read(&n0().foreign(0, 20).lists("p0", 0));
    assert_eq!(gate.refusal(&unsteered("p1"), "n0"), None);
    gate.read(&n0().foreign(1, 20).lists("p0", 0));
    assert_eq!(gate.refusal(&unsteered("p1"), "n0"), Some(Reason::NotEnoughVram));
}

#[test]
fn replicas_of_pods_that_are_gone_may_be_free_or_not() {
    let mut gate = Gate::with(&[n0()]);
    let leaving = pod("leaving").vram(1).on("n0");
    gate.add(&leaving);
    settle(&mut gate, "p0");
    settle(&mut gate, "p1");
    gate.read(&n0().lists("leaving", 0).lists("p0", 0).lists("p1", 1));
    gate.add(&leaving.ended());
    gate.bind(&unsteered("p2"), "n0");
    assert_eq!(free(&gate), (less(10), less(9)));
}

#[test]
fn one_placement_is_in_flight_at_a_time() {
    let mut gate = Gate::with(&[n0()]);
    gate.admit(&unsteered("p0"), "n0").unwrap();
    assert_eq!(gate.refusal(&unsteered("p1"), "n0"), Some(Reason::PlacementInFlight));
    gate.ledger.bound(unsteered("p0").uid(), gate.now);
    assert_eq!(gate.refusal(&unsteered("p1"), "n0"), Some(Reason::PlacementInFlight));
    assert!(gate.wants_sampling("n0"));
    gate.read(&n0().lists("p0", 0));
    assert_eq!(gate.refusal(&unsteered("p1"), "n0"), None);
}

#[test]
fn a_steered_pod_on_its_way_takes_a_replica_that_nobody_can_foretell() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&pod("p0").vram(1), "n0");
    assert_eq!(gate.refusal(&unsteered("p1"), "n0"), Some(Reason::PlacementInFlight));
    assert_eq!(gate.refusal(&pod("p2").vram(1), "n0"), None);
}

#[test]
fn nobody_overtakes_a_pod_whose_gpu_was_predicted() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&unsteered("p0"), "n0");
    assert_eq!(gate.refusal(&pod("p1").vram(1), "n0"), Some(Reason::PlacementInFlight));
    gate.read(&n0().lists("p0", 0));
    assert_eq!(gate.refusal(&pod("p1").vram(1), "n0"), None);
}

#[test]
fn a_gone_pod_that_was_never_listed_may_still_have_its_replica() {
    let mut gate = Gate::with(&[n0()]);
    let ended = gate.bind(&unsteered("p0"), "n0").ended();
    gate.add(&ended);
    assert_eq!(gate.refusal(&unsteered("p1"), "n0"), Some(Reason::PlacementInFlight));
    gate.sample_now(&n0());
    assert_eq!(gate.refusal(&unsteered("p1"), "n0"), None);
}

#[test]
fn a_full_book_has_no_replica_to_give() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    settle(&mut gate, "p0");
    gate.read(&node("n0").gpus(1).lists("p0", 0));
    assert_eq!(gate.refusal(&unsteered("p1"), "n0"), Some(Reason::NotEnoughGpus));
}
