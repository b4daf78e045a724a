//! Pods that declare nothing: a whole GPU each.

use crate::support::{Gate, Node, node, pod};
use filmgate::engine::Reason;

fn n0() -> Node {
    node("n0").gpus(1).replicas(4)
}

#[test]
fn an_exclusive_pod_takes_an_empty_gpu_whole() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&pod("p0"), "n0");
    assert_eq!(gate.charged("n0", 0), 23);
    assert_eq!(gate.refusal(&pod("small").vram(1), "n0"), Some(Reason::NotEnoughVram));
    assert_eq!(gate.refusal(&pod("p1"), "n0"), Some(Reason::NoEmptyGpu));
}

#[test]
fn an_exclusive_gpu_stays_closed_when_its_pod_uses_little() {
    let mut gate = Gate::with(&[n0()]);
    gate.add(&pod("p0").on("n0"));
    gate.read(&n0().lists("p0", 0).uses("p0", 0, 1));
    assert_eq!(gate.refusal(&pod("small").vram(1), "n0"), Some(Reason::NotEnoughVram));
}

#[test]
fn a_gpu_with_anyone_on_it_is_not_empty() {
    let held = {
        let mut gate = Gate::with(&[n0()]);
        assert!(gate.hold(&pod("other").vram(1), "n0"));
        gate
    };
    let measured = Gate::with(&[n0().uses("stranger", 0, 1)]);
    let foreign = Gate::with(&[n0().foreign(0, 2)]);
    for gate in [held, measured, foreign] {
        assert_eq!(gate.refusal(&pod("p0"), "n0"), Some(Reason::NoEmptyGpu));
    }
}

#[test]
fn a_little_foreign_memory_is_a_desktop_and_no_tenant() {
    let gate = Gate::with(&[n0().foreign(0, 1)]);
    assert_eq!(gate.refusal(&pod("p0"), "n0"), None);
}

#[test]
fn an_exclusive_pod_that_someone_else_bound_closes_every_gpu_until_it_is_listed() {
    let two = || node("n0").gpus(2).replicas(4);
    let mut gate = Gate::with(&[two()]);
    gate.add(&pod("p0").on("n0"));
    assert_eq!(gate.refusal(&pod("p1").vram(1), "n0"), Some(Reason::NotEnoughVram));
    gate.read(&two().lists("p0", 1));
    assert_eq!((gate.free("n0", 0) > 0, gate.free("n0", 1)), (true, 0));
}

#[test]
fn a_bound_pod_whose_need_nobody_can_read_has_the_whole_gpu() {
    let mut gate = Gate::with(&[n0()]);
    gate.add(&pod("p0").unreadable().on("n0"));
    assert_eq!(gate.refusal(&pod("p1").vram(1), "n0"), Some(Reason::NotEnoughVram));
}

#[test]
fn a_leaving_exclusive_pod_keeps_its_gpu() {
    let mut gate = Gate::with(&[n0()]);
    let ended = gate.bind(&pod("p0"), "n0").ended();
    gate.add(&ended);
    assert_eq!(gate.refusal(&pod("p1").vram(1), "n0"), Some(Reason::NotEnoughVram));
    gate.sample_now(&n0());
    assert_eq!(gate.refusal(&pod("p1").vram(1), "n0"), None);
}
