//! Annotations that filmgate alone writes, written by others: before a pod is bound, while it
//! runs, and while filmgate is down. The policies that would refuse them are not in force here.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::support::eventually::throughout;
use super::support::objects::pod;
use super::world::{SimulatedNode, World, WorldOptions};

const GPU: &str = "filmgate.dev/gpu";
const OTHER: &str = "filmgate.dev/gpu.other";
const CHARGED: &str = "filmgate.dev/vram-charged";
const VRAM: &str = "filmgate.dev/vram";
const REASON: &str = "ForgedAnnotations";
/// Time for two samplings and several tries of kube-scheduler.
const SAMPLINGS: Duration = Duration::from_secs(2);
/// 24 − 0.5 headroom − 4 − 8 − 4, on GPU 0.
const FREE: f64 = 7.5 * (1_u64 << 30) as f64;

#[tokio::test(flavor = "multi_thread")]
async fn forged_annotations_change_nothing_and_are_told() {
    let nodes = vec![SimulatedNode::new("n0", &[24, 24]).foreign_gib(1, 20)];
    let mut world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    what_a_pod_arrives_with_is_written_over(&world).await;
    what_is_edited_on_a_running_pod_changes_nothing(&world).await;
    what_was_edited_while_filmgate_was_down_is_not_believed(&mut world).await;
    world.assert_no_overcommit();
}

async fn what_a_pod_arrives_with_is_written_over(world: &World) {
    let (full, roomy) = (world.gpu("n0", 1), world.gpu("n0", 0));
    let preset = pod("preset").gpus(1).vram("4Gi").uses("1Gi").steered();
    let preset = preset.annotation(GPU, &full).annotation(OTHER, &full);
    world.cluster.add_pod(preset.annotation(CHARGED, &format!("{full}=1"))).await;
    let bound = bound(world, "preset").await;
    let annotations = bound.annotations();
    assert_eq!((&annotations[GPU], &annotations[OTHER]), (&roomy, &roomy));
    assert_eq!(annotations[CHARGED], format!("{roomy}={}", 4_u64 << 30));
    world.measured("preset", "n0", 0).await;
    let event = world.event("preset", REASON).await;
    for key in [GPU, OTHER, CHARGED] {
        assert!(event.contains(key), "{event}");
    }
    world.metric_is("filmgate_forged_annotations_total", &[], 3.0).await;
}

async fn what_is_edited_on_a_running_pod_changes_nothing(world: &World) {
    for (name, vram) in [("lowered", "8Gi"), ("edited", "4Gi")] {
        world.cluster.add_pod(pod(name).gpus(1).vram(vram).uses("1Gi").steered()).await;
        bound(world, name).await;
    }
    let gpu = world.gpu("n0", 0);
    world.metric_is("filmgate_gpu_free_bytes", &[("UUID", &gpu)], FREE).await;

    annotate(world, "lowered", json!({VRAM: "1Gi"})).await;
    let full = world.gpu("n0", 1);
    annotate(world, "edited", json!({GPU: full, CHARGED: format!("{full}=1")})).await;
    let event = world.event("edited", REASON).await;
    assert!(event.contains(GPU) && event.contains(CHARGED), "{event}");
    world.metric_is("filmgate_forged_annotations_total", &[], 5.0).await;

    world.cluster.add_pod(pod("newcomer").gpus(1).vram("8Gi").steered()).await;
    world.refused("newcomer").await;
    world.metric_is("filmgate_gpu_free_bytes", &[("UUID", &gpu)], FREE).await;
    assert!(!world.events(REASON).await.contains_key("lowered"), "who lowers that may");
}

/// The decision of `lowered` is a Binding's; those of `preset` and `edited` have a writer, and are
/// charged where their processes are seen, for what they declare.
async fn what_was_edited_while_filmgate_was_down_is_not_believed(world: &mut World) {
    world.kill_extender();
    let gpu = world.gpu("n0", 0);
    annotate(world, "edited", json!({CHARGED: format!("{gpu}=1")})).await;
    world.start_extender().await;
    world.has_read(1).await;
    world.metric_is("filmgate_unmanaged_pods", &[("node", "n0")], 2.0).await;
    world.metric_is("filmgate_gpu_free_bytes", &[("UUID", &gpu)], FREE).await;
    world.metric_is("filmgate_forged_annotations_total", &[], 5.0).await;
    throughout(SAMPLINGS, async || {
        assert_eq!(world.node_now("newcomer").await, None, "admitted into what others have");
    })
    .await;
}

async fn bound(world: &World, name: &str) -> Pod {
    world.cluster.node_of(name).await;
    world.cluster.pods().get(name).await.unwrap()
}

async fn annotate(world: &World, name: &str, annotations: serde_json::Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    world.cluster.pods().patch(name, &PatchParams::default(), &patch).await.unwrap();
}
