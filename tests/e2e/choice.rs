//! Where a pod goes, and that a waiting pod goes when it can.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::support::objects::pod;
use super::world::{Mode, SimulatedNode, World, WorldOptions};

/// What the issue promises a waiting pod once memory is free.
const WAKE_DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_lands_where_its_vram_is_measured_free() {
    lands_where_vram_is_measured_free(Mode::Names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_full_nodes_a_pod_lands_where_its_vram_is_measured_free() {
    lands_where_vram_is_measured_free(Mode::Nodes).await;
}

async fn lands_where_vram_is_measured_free(mode: Mode) {
    let world = World::start(WorldOptions { mode, ..four_unequal_nodes() }).await;
    let mut watch = world.watch_first_bound("p0").await;
    world.cluster.add_pod(pod("p0").gpus(1).vram("12Gi").steered()).await;

    assert_eq!(world.cluster.node_of("p0").await, "n2", "12 GiB are free there alone");

    let bound: Pod = watch.recv().await.unwrap();
    let annotations = bound.metadata.annotations.unwrap();
    let gpu = world.gpu("n2", 0);
    assert_eq!(annotations["filmgate.dev/gpu"], gpu);
    assert_eq!(annotations["filmgate.dev/vram-charged"], format!("{gpu}={}", 12_u64 << 30));
    assert_eq!(annotations["filmgate.dev/vram-fraction"], "0.4791", "11.5 of 24 GiB");
}

/// Counts of `nvidia.com/gpu` would allow each of them; by memory, a pod of 12 GiB fits `n2` alone.
fn four_unequal_nodes() -> WorldOptions {
    let node = |name, foreign_gib| SimulatedNode::new(name, &[24]).foreign_gib(0, foreign_gib);
    let nodes = vec![node("n0", 20), node("n1", 16), node("n2", 4), node("n3", 12)];
    WorldOptions { nodes, ..WorldOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_memory_refuses_a_node_and_its_end_wakes_the_waiting_pod() {
    foreign_memory_refuses_and_its_end_wakes(Mode::Names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_full_nodes_foreign_memory_refuses_a_node_and_its_end_wakes_the_waiting_pod() {
    foreign_memory_refuses_and_its_end_wakes(Mode::Nodes).await;
}

async fn foreign_memory_refuses_and_its_end_wakes(mode: Mode) {
    let nodes = vec![SimulatedNode::new("n0", &[24]).foreign_gib(0, 16)];
    let world = World::start(WorldOptions { mode, nodes, ..WorldOptions::default() }).await;
    world.cluster.add_pod(pod("p0").gpus(1).vram("12Gi").steered()).await;

    let condition = world.refused("p0").await;
    assert!(condition.contains("1 not enough free VRAM"), "{condition}");
    let event = world.waiting_event("p0").await;
    assert!(event.contains("most free: 7.5 of 24.0 GiB on n0 GPU 0"), "{event}");
    assert!(event.contains("16.0 foreign"), "{event}");

    world.fleet_foreign("n0", 0, 0);
    world.bound_within("p0", WAKE_DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gpus_are_two_distinct_gpus_with_room_or_none() {
    let nodes = vec![
        SimulatedNode::new("one-full", &[24, 24]).foreign_gib(1, 20),
        SimulatedNode::new("both-free", &[24, 24, 24]).foreign_gib(1, 20),
    ];
    let world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    world.cluster.add_pod(pod("p0").gpus(2).vram("12Gi").steered()).await;

    assert_eq!(world.cluster.node_of("p0").await, "both-free");
    let bound = world.cluster.pods().get("p0").await.unwrap();
    let chosen = bound.metadata.annotations.unwrap()["filmgate.dev/gpu"].clone();
    let expected = [world.gpu("both-free", 0), world.gpu("both-free", 2)].join(",");
    assert_eq!(chosen, expected);

    world.cluster.add_pod(pod("p1").gpus(2).vram("12Gi").steered()).await;
    let condition = world.refused("p1").await;
    assert!(condition.contains("not enough distinct GPUs with free VRAM"), "{condition}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_each_gpus_account_of_a_waiting_pod_and_of_one_that_is_not_there() {
    let nodes = vec![
        SimulatedNode::new("n0", &[24]).foreign_gib(0, 16),
        SimulatedNode::new("n1", &[24]).lost(),
    ];
    let world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    world.cluster.add_pod(pod("p0").gpus(1).vram("12Gi").steered()).await;
    world.refused("p0").await;

    let table = world.explain(&["default/p0"]);
    assert!(table.contains("default/p0: waits for "), "{table}");
    assert!(
        table.contains("1 × nvidia.com/gpu for main, 12.0 GiB each (declared), steered"),
        "{table}"
    );
    assert!(table.contains("most free: 7.5 of 24.0 GiB on n0 GPU 0"), "{table}");
    assert!(table.contains("not enough free VRAM"), "{table}");
    assert!(table.contains("no GPU telemetry yet"), "{table}");

    let smaller = pod("what-if").gpus(1).vram("6Gi").steered().build();
    let manifest = world.cluster.folder().join("pod.json");
    let mut object = serde_json::to_value(smaller).unwrap();
    object["kind"] = "Pod".into();
    std::fs::write(&manifest, object.to_string()).unwrap();
    let answer = world.explain(&["-o", "json", "-f", manifest.to_str().unwrap()]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["state"], "whatIf");
    assert_eq!(answer["nodes"][0]["chosen"][0], world.gpu("n0", 0));
}
