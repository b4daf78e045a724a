//! A refusal for VRAM evicts nobody and wakes nobody.

use std::time::Duration;

use super::support::eventually::throughout;
use super::support::objects::pod;
use super::world::{SimulatedNode, World, WorldOptions};

const NODES: usize = 50;
const WATCHED: Duration = Duration::from_secs(30);
const MOST_FILTER_CALLS: f64 = 3.0;
const MOST_CONDITION_BYTES: usize = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_high_priority_pod_refused_for_vram_sleeps_and_evicts_nobody() {
    let names: Vec<String> = (0..NODES).map(|number| format!("n{number:02}")).collect();
    let nodes = names.iter().map(|name| SimulatedNode::new(name, &[24])).collect();
    let world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    world.cluster.add_priority(10).await;
    world.cluster.add_priority(1000).await;
    for name in &names {
        let low = pod(&format!("low-{name}")).gpus(1).vram("16Gi").steered().priority(10);
        world.cluster.add_pod(low).await;
    }
    for name in &names {
        world.cluster.node_of(&format!("low-{name}")).await;
    }

    let before = world.filter_calls().await;
    world.cluster.add_pod(pod("high").gpus(1).vram("16Gi").steered().priority(1000)).await;
    let condition = world.refused("high").await;
    assert!(condition.contains("50 not enough free VRAM"), "{condition}");
    throughout(WATCHED, async || {
        let calls = world.filter_calls().await - before;
        assert!(calls <= MOST_FILTER_CALLS, "{calls} filter calls");
        assert_eq!(world.bound_pods().await.len(), NODES, "a victim");
    })
    .await;
    let condition = world.refused("high").await;
    assert!(condition.len() < MOST_CONDITION_BYTES, "{} bytes: {condition}", condition.len());
}
