//! Several GPUs, several containers.

use std::collections::BTreeSet;

use crate::support::{Gate, Node, less, node, pod};
use filmgate::engine::{Admission, Reason};

fn n0(gpus: u32) -> Node {
    node("n0").gpus(gpus).replicas(4)
}

fn gpus_of(admission: &Admission) -> Vec<String> {
    let of = |(key, value): &(String, String)| (key == "filmgate.dev/gpu").then(|| value.clone());
    let list = admission.annotations.iter().find_map(of).unwrap();
    list.split(',').map(str::to_owned).collect()
}

#[test]
fn two_gpus_are_two_distinct_ones() {
    let mut gate = Gate::with(&[n0(2)]);
    let chosen = gpus_of(&gate.admit(&pod("p0").vram(8).gpus(2), "n0").unwrap());
    let expected = ["GPU-n0-0", "GPU-n0-1"].map(str::to_owned);
    assert_eq!(chosen.iter().cloned().collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    assert_eq!((gate.free("n0", 0), gate.free("n0", 1)), (less(8), less(8)));
}

#[test]
fn two_gpus_or_none() {
    let gate = Gate::with(&[n0(2).foreign(1, 20)]);
    assert_eq!(gate.refusal(&pod("p0").vram(8).gpus(2), "n0"), Some(Reason::NotEnoughGpus));
    let gate = Gate::with(&[n0(1)]);
    assert_eq!(gate.refusal(&pod("p0").vram(8).gpus(2), "n0"), Some(Reason::NotEnoughGpus));
}

#[test]
fn two_replicas_for_an_unsteered_container_may_be_one_gpu() {
    let gate = Gate::with(&[n0(4)]);
    let two = pod("p0").vram(1).gpus(2).unsteered();
    assert_eq!(gate.refusal(&two, "n0"), Some(Reason::NeedsSteering));
    let unshared = Gate::with(&[node("n0").gpus(2)]);
    assert_eq!(unshared.refusal(&two, "n0"), None);
}

#[test]
fn containers_on_one_gpu_add_up() {
    let mut gate = Gate::with(&[n0(1)]);
    assert!(gate.admit(&pod("p0").vram(12).beside("second", 12), "n0").is_err());
    gate.bind(&pod("p1").vram(12).beside("second", 8), "n0");
    assert_eq!(gate.free("n0", 0), less(20));
}

#[test]
fn each_steered_container_is_told_its_own_gpu() {
    let mut gate = Gate::with(&[n0(2)]);
    let admission = gate.admit(&pod("p0").vram(16).beside("second", 10), "n0").unwrap();
    let told: Vec<_> =
        admission.annotations.iter().filter(|(key, _)| key.contains("gpu.")).collect();
    assert_eq!(told.len(), 2);
    assert_ne!(told[0].1, told[1].1);
}

#[test]
fn containers_that_someone_else_placed_may_all_be_on_one_gpu() {
    let mut gate = Gate::with(&[n0(2)]);
    gate.add(&pod("p0").vram(8).beside("second", 6).unsteered().on("n0"));
    gate.read(&n0(2).lists("p0", 1).lists("p0", 1));
    assert_eq!((gate.free("n0", 0), gate.free("n0", 1)), (less(0), less(14)));
}

#[test]
fn unsteered_containers_may_all_be_on_any_gpu() {
    let mut gate = Gate::with(&[n0(2)]);
    let two = pod("p0").vram(8).beside("second", 6).unsteered();
    gate.bind(&two, "n0");
    assert_eq!((gate.free("n0", 0), gate.free("n0", 1)), (less(14), less(14)));
}

#[test]
fn an_init_container_counts_where_it_needs_more_than_the_others() {
    let mut gate = Gate::with(&[n0(1)]);
    gate.bind(&pod("p0").vram(8).init("download", 16), "n0");
    assert_eq!(gate.free("n0", 0), less(16));
    let mut gate = Gate::with(&[n0(1)]);
    gate.bind(&pod("p0").vram(16).init("download", 8), "n0");
    assert_eq!(gate.free("n0", 0), less(16));
}

#[test]
fn an_unsteered_init_container_needs_room_wherever_the_plugin_may_put_it() {
    let gate = Gate::with(&[n0(2).foreign(1, 14)]);
    let small = pod("p0").vram(8).init("download", 9).unsteered();
    let large = pod("p1").vram(8).init("download", 16).unsteered();
    assert_eq!(gate.refusal(&small, "n0"), None);
    assert_eq!(gate.refusal(&large, "n0"), Some(Reason::NotEnoughVram));
}

#[test]
fn a_pod_of_two_gpus_is_charged_where_it_was_sent_until_both_processes_are_seen() {
    let mut gate = Gate::with(&[n0(3).foreign(2, 20)]);
    gate.bind(&pod("p0").vram(8).gpus(2), "n0");
    gate.read(&n0(3).uses("p0", 0, 1));
    assert_eq!((gate.free("n0", 0), gate.free("n0", 1)), (less(8), less(8)));
    gate.read(&n0(3).uses("p0", 0, 1).uses("p0", 2, 1));
    assert_eq!((gate.free("n0", 1), gate.free("n0", 2)), (less(0), less(8)));
}
