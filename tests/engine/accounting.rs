//! What is free on a GPU.

use crate::support::{Gate, less, node, pod};
use filmgate::engine::{Bytes, GpuAsk, Policy, Reason, Vram};

#[test]
fn free_is_the_total_without_headroom() {
    let gate = Gate::with(&[node("n0").gpus(1)]);
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn headroom_is_promised_to_nobody() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    assert!(gate.admit(&pod("all").vram(24), "n0").is_err());
    assert!(gate.admit(&pod("rest").vram(23), "n0").is_ok());
}

#[test]
fn what_the_driver_reserves_is_not_free() {
    let reserved = node("n0").gpus(1).gpu(0, |gpu| gpu.reserved = Bytes::gib(1));
    assert_eq!(Gate::with(&[reserved]).free("n0", 0), less(1));
}

#[test]
fn foreign_memory_is_not_free() {
    let mut gate = Gate::with(&[node("n0").gpus(1).foreign(0, 10)]);
    assert_eq!(gate.free("n0", 0), less(10));
    assert!(gate.admit(&pod("p0").vram(14), "n0").is_err());
}

#[test]
fn foreign_memory_that_goes_is_free_again() {
    let mut gate = Gate::with(&[node("n0").gpus(1).foreign(0, 10)]);
    gate.read(&node("n0").gpus(1));
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn an_admitted_pod_is_charged_before_any_process_is_seen() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    gate.bind(&pod("p0").vram(12), "n0");
    assert_eq!(gate.free("n0", 0), less(12));
    assert!(gate.admit(&pod("p1").vram(12), "n0").is_err());
}

#[test]
fn a_pod_that_grew_past_its_charge_counts_as_measured_and_closes_the_gpu() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    gate.bind(&pod("p0").vram(12), "n0");
    gate.read(&node("n0").gpus(1).uses("p0", 0, 20));
    assert_eq!(gate.free("n0", 0), less(20));
    gate.read(&node("n0").gpus(1).uses("p0", 0, 24));
    assert_eq!(gate.free("n0", 0), 0);
}

#[test]
fn a_pod_known_only_by_measurement_counts_as_measured() {
    let gate = Gate::with(&[node("n0").gpus(1).uses("stranger", 0, 7)]);
    assert_eq!((gate.free("n0", 0), gate.charged("n0", 0)), (less(7), 7));
}

#[test]
fn what_a_held_pods_processes_hold_is_no_advice() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    assert!(gate.hold(&pod("p0").vram(12), "n0"));
    gate.read(&node("n0").gpus(1).uses("p0", 0, 5));
    assert_eq!((gate.free("n0", 0), gate.charged("n0", 0)), (less(12), 5));
}

#[test]
fn a_pod_with_a_claim_elsewhere_counts_where_it_is_measured_too() {
    let mut gate = Gate::with(&[node("a").gpus(1), node("b").gpus(1)]);
    gate.bind(&pod("p0").vram(12), "a");
    gate.read(&node("b").gpus(1).uses("p0", 0, 5));
    assert_eq!((gate.free("a", 0), gate.free("b", 0)), (less(12), less(5)));
}

#[test]
fn memory_given_back_stays_charged_within_the_peak_window() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    gate.bind(&pod("p0").vram(4), "n0");
    gate.read(&node("n0").gpus(1).used_to_use("p0", 0, 2, 16));
    assert_eq!(gate.free("n0", 0), less(16));
    gate.read(&node("n0").gpus(1).uses("p0", 0, 2));
    assert_eq!(gate.free("n0", 0), less(4));
}

#[test]
fn a_declaration_lowered_or_removed_on_a_running_pod_lowers_nothing() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(2)]);
    let bound = gate.bind(&pod("p0").vram(12), "n0");
    gate.read(&node("n0").gpus(1).replicas(2).uses("p0", 0, 1));
    gate.add(&bound.clone().vram(2));
    assert_eq!(gate.free("n0", 0), less(12));
    gate.add(&bound.clone().asks(GpuAsk::steered(1, Vram::Default(Bytes::gib(2)))));
    assert_eq!(gate.free("n0", 0), less(12));
    gate.add(&bound.asks(GpuAsk::steered(1, Vram::Exclusive)));
    assert_eq!(gate.free("n0", 0), 0, "its need is unknown now");
}

#[test]
fn a_whole_gpu_that_a_running_pod_declares_less_of_later_stays_its_own() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(2)]);
    let bound = gate.bind(&pod("p0"), "n0");
    gate.add(&bound.vram(2));
    assert_eq!(gate.free("n0", 0), 0);
}

#[test]
fn what_containers_declare_beyond_the_decision_counts_wherever_it_may_be() {
    let two = |first, second| pod("p0").vram(first).beside("side", second);
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(2)]);
    let mut bound = gate.bind(&two(4, 6), "n0");
    assert_eq!(gate.free("n0", 0), less(10));
    bound.facts.ask = two(4, 9).facts.ask;
    gate.add(&bound);
    assert_eq!(gate.free("n0", 0), less(13));
    bound.facts.ask = two(1, 1).facts.ask;
    gate.add(&bound);
    assert_eq!(gate.free("n0", 0), less(10));
}

#[test]
fn a_declaration_raised_on_a_running_pod_raises_its_charge_and_never_wraps() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let bound = gate.bind(&pod("p0").vram(12), "n0");
    gate.add(&bound.clone().vram(20));
    assert_eq!(gate.free("n0", 0), less(20));
    gate.add(&bound.vram(4000));
    assert_eq!(gate.free("n0", 0), 0);
}

#[test]
fn a_declaration_lowered_below_what_is_measured_frees_nothing_of_it() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let bound = gate.bind(&pod("p0").vram(12), "n0");
    gate.read(&node("n0").gpus(1).uses("p0", 0, 9));
    gate.add(&bound.vram(1));
    assert_eq!(gate.free("n0", 0), less(12));
    let mut others = Gate::with(&[node("n0").gpus(1).uses("p1", 0, 9)]);
    others.add(&pod("p1").vram(12).on("n0"));
    others.add(&pod("p1").vram(1).on("n0"));
    assert_eq!(others.free("n0", 0), less(9));
}

#[test]
fn sums_saturate_where_everything_is_too_much() {
    let huge = Bytes::new(u64::MAX);
    let policy = Policy { headroom: huge, ..Policy::default() };
    let gate = Gate::under(policy, &[node("n0").gpus(1).foreign(0, 3)]);
    assert_eq!(gate.free("n0", 0), 0);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::NotEnoughVram));
}

#[test]
fn an_unhealthy_gpu_takes_nobody_and_keeps_its_figures() {
    use filmgate::engine::Health;
    let sick = |gpu: &mut filmgate::engine::GpuReading| {
        gpu.health = Health::Unhealthy { why: "XID 79".into() };
    };
    let gate = Gate::with(&[node("n0").gpus(1).gpu(0, sick)]);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::GpuUnhealthy));
}

#[test]
fn an_mps_client_gets_no_more_than_its_share() {
    let gate = Gate::with(&[node("n0").gpus(1).replicas(4).mps()]);
    assert_eq!(gate.refusal(&pod("p0").vram(6), "n0"), None);
    assert_eq!(gate.refusal(&pod("p1").vram(7), "n0"), Some(Reason::AboveMpsShare));
}

#[test]
fn where_memory_is_nobodys_by_measurement_a_pods_own_is_no_overdraft() {
    let mut gate = Gate::with(&[node("n0").gpus(1).degraded()]);
    gate.bind(&pod("p0").vram(16), "n0");
    gate.read(&node("n0").gpus(1).foreign(0, 16).degraded());
    gate.ledger.for_each_gpu(|_, gpu| assert_eq!(gpu.overdrawn(Bytes::mib(512)), Bytes::ZERO));
}
