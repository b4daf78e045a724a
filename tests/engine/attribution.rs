//! Nodes on which memory cannot be told apart by pod.

use crate::support::{Gate, Node, node, pod};
use filmgate::engine::Reason;

fn n0() -> Node {
    node("n0").gpus(1).replicas(4).degraded()
}

#[test]
fn such_a_gpu_takes_one_pod() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&pod("p0").vram(4), "n0");
    assert_eq!(gate.refusal(&pod("p1").vram(4), "n0"), Some(Reason::Unattributed));
}

#[test]
fn such_a_gpu_takes_nobody_while_more_than_the_headroom_is_in_use() {
    let in_use = |mib| {
        let used = filmgate::engine::Bytes::mib(mib);
        Gate::with(&[n0().gpu(0, |gpu| gpu.used = used)])
    };
    assert_eq!(in_use(512).refusal(&pod("p0").vram(4), "n0"), None);
    assert_eq!(in_use(513).refusal(&pod("p0").vram(4), "n0"), Some(Reason::Unattributed));
}

#[test]
fn no_sampling_shows_a_pod_gone_there_a_grace_time_does() {
    let mut gate = Gate::with(&[n0()]);
    let ended = gate.bind(&pod("p0").vram(4), "n0").ended();
    gate.add(&ended);
    gate.sample_now(&n0());
    gate.wait(29);
    assert!(gate.has_claim(&ended));
    gate.wait(1);
    assert!(!gate.has_claim(&ended));
    assert_eq!(gate.refusal(&pod("p1").vram(4), "n0"), None);
}

#[test]
fn attribution_that_comes_back_shows_gone_pods_gone() {
    let mut gate = Gate::with(&[n0()]);
    let ended = gate.bind(&pod("p0").vram(4), "n0").ended();
    gate.add(&ended);
    gate.sample_now(&node("n0").gpus(1).replicas(4));
    assert!(!gate.has_claim(&ended));
}
