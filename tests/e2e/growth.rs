//! Pods that hold more than they are charged, and pods that are not where they were sent.

use super::support::objects::pod;
use super::world::{SimulatedNode, World, WorldOptions};

const GIB: f64 = (1_u64 << 30) as f64;

#[tokio::test(flavor = "multi_thread")]
async fn growth_past_the_charge_closes_the_gpu_and_is_told_and_so_is_a_pod_on_another_gpu() {
    // The device plugin here is not the one that filmgate is told of: it takes the emptier GPU.
    let settings = "defaultVram: 1Gi\ndevicePlugin:\n  allocation: packed\n".to_owned();
    let nodes = vec![SimulatedNode::new("n0", &[24, 24]).foreign_gib(1, 20)];
    let world = World::start(WorldOptions { nodes, settings, ..WorldOptions::default() }).await;
    a_pod_on_another_gpu_is_told_of(&world).await;
    growth_is_told_and_nobody_is_admitted_into_it(&world).await;
    world.assert_no_overcommit();
}

/// `resident` holds no memory, so that the kubelet's book alone tells where it is: on GPU 0.
async fn a_pod_on_another_gpu_is_told_of(world: &World) {
    world.cluster.add_pod(pod("resident").gpus(1)).await;
    world.metric_is("filmgate_gpu_prediction_total", &[("result", "hit")], 1.0).await;
    world.cluster.add_pod(pod("stray").gpus(1).vram("2Gi")).await;
    let event = world.event("stray", "OnAnotherGPU").await;
    assert!(event.starts_with("was sent to GPU 0 of n0 and is on GPU 1"), "{event}");
    world.metric_is("filmgate_gpu_prediction_total", &[("result", "miss")], 1.0).await;
}

async fn growth_is_told_and_nobody_is_admitted_into_it(world: &World) {
    world.cluster.add_pod(pod("grower").gpus(1).vram("4Gi").uses("12Gi").steered()).await;
    let labels = [("namespace", "default"), ("pod", "grower"), ("node", "n0"), ("gpu", "0")];
    world.metric_is("filmgate_pod_over_charge_bytes", &labels, 8.0 * GIB).await;
    world.metric_is("filmgate_pods_grown_past_charge_total", &[], 1.0).await;
    world.metric_is("filmgate_gpu_prediction_total", &[("result", "hit")], 2.0).await;
    let event = world.event("grower", "GrewPastCharge").await;
    assert!(event.contains("8.0 GiB past its charge"), "{event}");

    world.cluster.add_pod(pod("newcomer").gpus(1).vram("12Gi").steered()).await;
    world.refused("newcomer").await;
    let table = world.explain(&["default/newcomer"]);
    assert!(table.contains("default/grower bound, 8.0 GiB past its charge"), "{table}");
    assert!(table.contains("default/stray bound, not where it was sent"), "{table}");
    world.phase("grower", "Running").await;
}
