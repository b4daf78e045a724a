//! A refusal for VRAM evicts nobody and wakes nobody; where devices are short, victims leave where
//! the VRAM then fits.

use std::time::Duration;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use serde_json::json;

use super::support::cluster::create;
use super::support::eventually::{eventually, throughout};
use super::support::objects::{PodBuilder, pod};
use super::world::{Mode, SimulatedNode, World, WorldOptions};

const DEADLINE: Duration = Duration::from_secs(30);
const NODES: usize = 50;
const WATCHED: Duration = Duration::from_secs(30);
const MOST_FILTER_CALLS: f64 = 3.0;
const MOST_CONDITION_BYTES: usize = 1024;
/// The memory of victims outlives them by that.
const LINGERS: Duration = Duration::from_secs(20);

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

/// A pod of low priority.
fn low(name: &str, vram: &str, priority: i32) -> PodBuilder {
    pod(name).gpus(1).vram(vram).steered().priority(priority)
}

fn high(vram: &str) -> PodBuilder {
    pod("high").gpus(1).vram(vram).steered().priority(1000)
}

/// Nodes whose devices are not shared, so that a pod of low priority takes the last.
async fn world_of(nodes: Vec<SimulatedNode>, mode: Mode) -> World {
    let world = World::start(WorldOptions { nodes, mode, ..WorldOptions::default() }).await;
    for priority in [5, 10, 1000] {
        world.cluster.add_priority(priority).await;
    }
    world
}

async fn exists(world: &World, pod: &str) -> bool {
    world.cluster.pods().get_opt(pod).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_devices_short_the_node_is_cleared_where_the_vram_then_fits() {
    for mode in [Mode::Names, Mode::Nodes] {
        let nodes = vec![
            SimulatedNode::new("n0", &[24]).replicas(1),
            SimulatedNode::new("n1", &[24]).replicas(1).foreign_gib(0, 12),
        ];
        let world = world_of(nodes, mode).await;
        world.cluster.add_pod(low("roomy", "16Gi", 10)).await;
        world.bound_within("roomy", DEADLINE).await;
        // kube-scheduler alone would evict this one: its priority is lower.
        world.cluster.add_pod(low("narrow", "8Gi", 5)).await;
        world.bound_within("narrow", DEADLINE).await;

        world.cluster.add_pod(high("16Gi")).await;
        world.bound_within("high", DEADLINE).await;
        assert_eq!(world.node_now("high").await.as_deref(), Some("n0"));
        assert!(!exists(&world, "roomy").await && exists(&world, "narrow").await);
        world.assert_no_overcommit();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_evicted_where_the_vram_would_not_fit() {
    let nodes = vec![SimulatedNode::new("n0", &[24]).replicas(1).foreign_gib(0, 12)];
    let world = world_of(nodes, Mode::Names).await;
    world.cluster.add_pod(low("low", "8Gi", 10)).await;
    world.bound_within("low", DEADLINE).await;

    world.cluster.add_pod(high("16Gi")).await;
    world.refused("high").await;
    throughout(Duration::from_secs(10), async || {
        assert!(exists(&world, "low").await, "evicted for nothing");
    })
    .await;
}

/// No pod that carries this label may be evicted.
async fn protect(world: &World, app: &str) {
    let selector = json!({"matchLabels": {"app": app}});
    let budget = json!({
        "metadata": {"name": app},
        "spec": {"maxUnavailable": 0, "selector": selector},
    });
    let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
    create(&Api::default_namespaced(world.cluster.admin()), &budget).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_victims_leave_where_it_takes_them_and_none_under_a_budget() {
    let nodes = vec![SimulatedNode::new("n0", &[24]).replicas(3)];
    let world = world_of(nodes, Mode::Names).await;
    protect(&world, "kept").await;
    for (name, priority) in [("kept", 5), ("a", 5), ("b", 10)] {
        world.cluster.add_pod(low(name, "7Gi", priority).label("app", name)).await;
        world.bound_within(name, DEADLINE).await;
    }

    // kube-scheduler frees one device: 9.5 GiB are free then.
    world.cluster.add_pod(high("16Gi")).await;
    world.bound_within("high", DEADLINE).await;
    assert!(exists(&world, "kept").await, "a protected victim");
    assert!(!exists(&world, "a").await && !exists(&world, "b").await);
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_set_of_victims_is_enough_though_their_memory_lingers() {
    let names = ["n0", "n1"];
    let nodes = names.map(|name| SimulatedNode::new(name, &[24]).replicas(1)).to_vec();
    let world = world_of(nodes, Mode::Names).await;
    for name in ["a", "b"] {
        world.cluster.add_pod(low(name, "16Gi", 10).lingering()).await;
        world.bound_within(name, DEADLINE).await;
        let node = world.node_now(name).await.unwrap();
        world.measured(name, &node, 0).await;
    }

    world.cluster.add_pod(high("16Gi")).await;
    let victim = eventually(DEADLINE, "a victim", async || {
        for name in ["a", "b"] {
            if !exists(&world, name).await {
                return Ok(name);
            }
        }
        Err(anyhow::anyhow!("both are there"))
    })
    .await;
    let other = if victim == "a" { "b" } else { "a" };
    throughout(LINGERS, async || {
        assert!(exists(&world, other).await, "a second victim");
        assert_eq!(world.node_now("high").await, None, "placed on memory in use");
    })
    .await;
    world.end_process(victim);
    world.bound_within("high", Duration::from_secs(5)).await;
    assert!(exists(&world, other).await);
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_pod_does_not_take_the_place_while_the_victims_memory_lingers() {
    // The victim gives two devices back and only one is taken: counts do not keep the other.
    let nodes = vec![SimulatedNode::new("n0", &[24, 24]).replicas(1).foreign_gib(1, 4)];
    let world = world_of(nodes, Mode::Names).await;
    let wide = pod("wide").gpus(2).vram("16Gi").steered().priority(10).lingering();
    world.cluster.add_pod(wide).await;
    world.bound_within("wide", DEADLINE).await;
    world.measured("wide", "n0", 0).await;

    world.cluster.add_pod(high("20Gi")).await;
    world.gone("wide").await;
    world.cluster.add_pod(low("small", "20Gi", 10)).await;
    throughout(Duration::from_secs(5), async || {
        assert_eq!(world.node_now("small").await, None, "it took the place");
    })
    .await;
    world.end_process("wide");
    world.bound_within("high", Duration::from_secs(5)).await;
    assert_eq!(world.node_now("small").await, None);
    world.assert_no_overcommit();
}
