//! Nodes that were never read, whose readings have stopped, and whose agent comes back.

use std::time::Duration;

use super::support::objects::pod;
use super::world::{SimulatedNode, World, WorldOptions};

const WAKE_DEADLINE: Duration = Duration::from_secs(2);
/// The agent is found again by the client's backoff.
const RECONNECT_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_never_read_is_refused_and_its_first_reading_wakes_the_waiting_pod() {
    let nodes = vec![SimulatedNode::new("n0", &[24]).lost()];
    let world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    world.cluster.add_pod(pod("p0").gpus(1).vram("12Gi").steered()).await;
    let condition = world.refused("p0").await;
    assert!(condition.contains("no GPU telemetry yet"), "{condition}");

    world.set_lost("n0", false);
    world.bound_within("p0", RECONNECT_DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_readings_still_count_under_the_policy_declared() {
    let world = stale_world("declared").await;
    world.cluster.add_pod(pod("fits").gpus(1).vram("6Gi").steered()).await;
    world.cluster.node_of("fits").await;

    // 24 − 0.5 headroom − 10 charged to `first` (which holds them) − 6 charged to `fits`.
    world.cluster.add_pod(pod("too-big").gpus(1).vram("8Gi").steered()).await;
    let condition = world.refused("too-big").await;
    assert!(condition.contains("not enough free VRAM"), "{condition}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_readings_refuse_the_node_under_the_policy_reject_until_the_agent_is_back() {
    let world = stale_world("reject").await;
    world.cluster.add_pod(pod("waits").gpus(1).vram("6Gi").steered()).await;
    let condition = world.refused("waits").await;
    assert!(condition.contains("no fresh GPU telemetry"), "{condition}");

    world.set_lost("n0", false);
    world.bound_within("waits", RECONNECT_DEADLINE).await;
    world.cluster.add_pod(pod("next").gpus(1).vram("4Gi").steered()).await;
    world.bound_within("next", WAKE_DEADLINE).await;
}

/// One node with a pod of 10 GiB on it, whose agent was lost longer than `staleAfter` ago.
async fn stale_world(policy: &str) -> World {
    let settings = format!("staleAfter: 1s\nstalePolicy: {policy}\n");
    let nodes = vec![SimulatedNode::new("n0", &[24])];
    let world = World::start(WorldOptions { nodes, settings, ..WorldOptions::default() }).await;
    world.cluster.add_pod(pod("first").gpus(1).vram("10Gi").steered()).await;
    world.cluster.node_of("first").await;
    world.measured("first", "n0", 0).await;
    world.set_lost("n0", true);
    world.reading_older_than("n0", Duration::from_secs(1)).await;
    world
}
