//! Figures of the pods that somebody picks.

use filmgate::engine::outlook::{Pending, Picked};
use filmgate::engine::{Bytes, Policy, StalePolicy};

use crate::support::{Gate, node, pod};

/// Of the pods whose names begin so.
fn picked(gate: &Gate, start: &str) -> Picked {
    let survey = gate.ledger.survey(&"filmgate".into(), gate.now);
    let mut picked = survey.picked(|facts| facts.id.name.starts_with(start));
    picked.held.sort_unstable();
    picked
}

fn gib(sizes: &[u64]) -> Vec<Bytes> {
    sizes.iter().copied().map(Bytes::gib).collect()
}

#[test]
fn only_those_that_are_picked_are_pending() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(8)]);
    for one in [pod("a-0").vram(30), pod("a-1").vram(6), pod("a-2"), pod("b-0").vram(7)] {
        gate.add(&one);
    }
    gate.add(&pod("a-bad").unreadable());
    gate.bind(&pod("a-bound").vram(2), "n0");
    assert_eq!(picked(&gate, "a").pending, Pending { pods: 4, vram: Bytes::gib(36) });
    assert_eq!(picked(&gate, "c").pending, Pending::default());
}

#[test]
fn a_pod_holds_what_its_processes_hold_on_all_gpus_and_one_without_holds_nothing() {
    let nodes = [node("n0").gpus(2).replicas(8), node("n1").gpus(1).replicas(8)];
    let mut gate = Gate::with(&nodes);
    for (name, place) in [("a-0", "n0"), ("a-1", "n1"), ("a-idle", "n0"), ("b-0", "n0")] {
        gate.bind(&pod(name).vram(2), place);
    }
    let [n0, n1] = nodes;
    gate.read(&n0.uses("a-0", 0, 3).uses("a-0", 1, 4).uses("b-0", 1, 9));
    gate.read(&n1.uses("a-1", 0, 5));
    assert_eq!(picked(&gate, "a").held, gib(&[5, 7]));
}

#[test]
fn a_gpu_counts_once_where_one_of_them_has_a_process() {
    let computing = |index: usize, ratio| {
        node("n0").gpus(3).replicas(8).gpu(index, |gpu| {
            gpu.utilization_ratio = Some(ratio);
        })
    };
    let n0 = computing(0, 0.5).gpu(1, |gpu| gpu.utilization_ratio = Some(0.25));
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    for name in ["a-0", "a-1", "b-0"] {
        gate.bind(&pod(name).vram(2), "n0");
    }
    let uses = n0.uses("a-0", 0, 1).uses("a-1", 0, 1).uses("b-0", 1, 1).uses("a-1", 2, 1);
    gate.read(&uses);
    assert_eq!(picked(&gate, "a").utilization_ratios, [0.5], "GPU 2 does not tell");
    assert_eq!(picked(&gate, "b").utilization_ratios, [0.25]);
}

#[test]
fn where_memory_is_nobodys_the_kubelets_book_tells_the_gpus() {
    let n0 = node("n0").gpus(2).degraded().each(|gpu| gpu.utilization_ratio = Some(0.5));
    let n0 = n0.gpu(1, |gpu| gpu.utilization_ratio = Some(0.75));
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    gate.add(&pod("a-0").vram(2).on("n0"));
    gate.add(&pod("b-0").vram(2).on("n0"));
    gate.read(&n0.lists("b-0", 0).lists_name("a-0", 1));
    assert_eq!(picked(&gate, "a").utilization_ratios, [0.75]);
    assert_eq!(picked(&gate, "b").utilization_ratios, [0.5]);
    assert_eq!(picked(&gate, "").held, []);
}

#[test]
fn a_node_whose_figures_may_not_be_used_says_nothing() {
    let policy = Policy { stale_policy: StalePolicy::Reject, ..Policy::default() };
    let n0 = node("n0").gpus(1).each(|gpu| gpu.utilization_ratio = Some(0.5));
    let mut gate = Gate::under(policy, std::slice::from_ref(&n0));
    gate.bind(&pod("a-0").vram(2), "n0");
    gate.read(&n0.uses("a-0", 0, 3));
    assert_eq!(picked(&gate, "a").held, gib(&[3]));
    gate.wait(11);
    assert_eq!(picked(&gate, "a"), Picked::default());
}
