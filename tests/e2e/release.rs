//! A pod's memory is free when a sampling says so, not when the pod is gone.

use std::time::Duration;

use kube::api::DeleteParams;

use super::support::eventually::throughout;
use super::support::objects::pod;
use super::world::{SimulatedNode, World, WorldOptions};

const WAKE_DEADLINE: Duration = Duration::from_secs(2);
/// Time for three samplings.
const SAMPLINGS: Duration = Duration::from_secs(3);
/// Short, for the test; 30 s as shipped.
const FORCE_GRACE: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pods_memory_is_free_when_a_later_sampling_shows_it() {
    let world = one_pod_and_one_that_waits().await;
    world.cluster.pods().delete("first", &DeleteParams::default()).await.unwrap();
    world.gone("first").await;
    waits_while_memory_lingers(&world).await;

    world.end_process("first");
    world.bound_within("second", WAKE_DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_succeeded_pods_memory_is_free_when_a_later_sampling_shows_it() {
    let world = one_pod_and_one_that_waits().await;
    world.cluster.complete_pod("first").await;
    world.phase("first", "Succeeded").await;
    waits_while_memory_lingers(&world).await;

    world.end_process("first");
    world.bound_within("second", WAKE_DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_force_deleted_pod_stays_charged_for_the_grace_time_and_while_its_process_lives() {
    let world = one_pod_and_one_that_waits().await;
    let force = DeleteParams::default().grace_period(0);
    world.cluster.pods().delete("first", &force).await.unwrap();
    world.gone("first").await;
    let deleted_at = tokio::time::Instant::now();
    waits_while_memory_lingers(&world).await;

    world.end_process("first");
    world.bound_within("second", FORCE_GRACE + WAKE_DEADLINE).await;
    assert!(deleted_at.elapsed() >= FORCE_GRACE, "bound within the grace time");
}

/// A GPU that `first` fills, whose process outlives it, and `second` that waits for the room.
async fn one_pod_and_one_that_waits() -> World {
    let settings = format!("forceDeleteGrace: {}s\n", FORCE_GRACE.as_secs());
    let nodes = vec![SimulatedNode::new("n0", &[24])];
    let world = World::start(WorldOptions { nodes, settings, ..WorldOptions::default() }).await;
    world.cluster.add_pod(pod("first").gpus(1).vram("16Gi").steered().lingering()).await;
    world.measured("first", "n0", 0).await;
    world.cluster.add_pod(pod("second").gpus(1).vram("16Gi").steered()).await;
    world.refused("second").await;
    world
}

/// Samplings that began after the pod was gone, one a second, show its memory in use.
async fn waits_while_memory_lingers(world: &World) {
    throughout(SAMPLINGS, async || {
        assert_eq!(world.node_now("second").await, None, "placed on memory in use");
    })
    .await;
}
