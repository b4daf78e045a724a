//! A second, default kube-scheduler, and pods that name their node themselves.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::support::cluster::SchedulerOptions;
use super::support::kubeconfig::User;
use super::support::manifests::{admission_in_force, apply, shipped};
use super::support::objects::pod;
use super::support::process::Process;
use super::support::scheduler::configuration;
use super::world::{SimulatedNode, World, WorldOptions};

const DEADLINE: Duration = Duration::from_secs(30);
const THEIRS: &str = "default-scheduler";
const TAINT: &str = "filmgate.dev/managed";
const GIB: f64 = (1_u64 << 30) as f64;

async fn one_gpu() -> World {
    let nodes = vec![SimulatedNode::new("n0", &[24])];
    World::start(WorldOptions { nodes, ..WorldOptions::default() }).await
}

/// A kube-scheduler as clusters have it, which knows nothing of filmgate.
fn default_scheduler(world: &World) -> Process {
    let mut config = configuration(&world.cluster.kubeconfig(User::Scheduler), &[]);
    config["profiles"] = json!([{"schedulerName": THEIRS}]);
    world.cluster.start_scheduler(SchedulerOptions {
        config_yaml: config.to_string(),
        name: THEIRS.to_owned(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_others_are_charged_on_sight_counted_and_never_a_reason_to_over_commit() {
    let world = one_gpu().await;
    let _scheduler = default_scheduler(&world);
    world.cluster.add_pod(pod("theirs").gpus(1).vram("10Gi").scheduler(THEIRS)).await;
    assert_eq!(world.cluster.node_of("theirs").await, "n0");
    world.metric_is("filmgate_unmanaged_pods", &[("node", "n0")], 1.0).await;

    // 24 − 0.5 headroom − 10 of theirs.
    world.cluster.add_pod(pod("big").gpus(1).vram("16Gi").steered()).await;
    world.refused("big").await;
    world.cluster.add_pod(pod("small").gpus(1).vram("4Gi").steered()).await;
    world.cluster.node_of("small").await;
    let table = world.explain(&["default/big"]);
    assert!(table.contains("default/theirs bound by others"), "{table}");
    assert!(table.contains("default/small bound\n"), "{table}");
    let table = world.explain(&["default/theirs"]);
    assert!(table.contains("bound on n0, by others: filmgate was not asked"), "{table}");

    let pinned = pod("pinned").gpus(1).vram("20Gi").uses("1Gi").pinned_to("n0");
    world.cluster.add_pod(pinned).await;
    world.metric_is("filmgate_unmanaged_pods", &[("node", "n0")], 2.0).await;
    world.metric_is("filmgate_overdrawn_bytes", &[("node", "n0")], 10.5 * GIB).await;
    world.cluster.add_pod(pod("tiny").gpus(1).vram("1Gi").steered()).await;
    let condition = world.refused("tiny").await;
    assert!(condition.contains("not enough free VRAM"), "{condition}");

    for name in ["theirs", "pinned"] {
        world.cluster.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }
    world.bound_within("big", DEADLINE).await;
    world.bound_within("tiny", DEADLINE).await;
    world.metric_is("filmgate_unmanaged_pods", &[("node", "n0")], 0.0).await;
    world.metric_is("filmgate_overdrawn_bytes", &[("node", "n0")], 0.0).await;
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_taint_and_the_policies_they_stay_out_and_filmgate_works() {
    let world = one_gpu().await;
    let _scheduler = default_scheduler(&world);
    apply(&world.cluster.admin(), &shipped("deploy/admission.yaml")).await;
    let taint = json!({"spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]}});
    let params = PatchParams::default();
    world.cluster.nodes().patch("n0", &params, &Patch::Merge(taint)).await.unwrap();
    admission_in_force(&world.cluster.pods()).await;

    world.cluster.add_pod(pod("theirs").gpus(1).scheduler(THEIRS)).await;
    let condition = world.refused("theirs").await;
    assert!(condition.contains("untolerated taint"), "{condition}");
    let through = pod("through").gpus(1).scheduler(THEIRS).tolerates(Some(TAINT)).build();
    let through = world.cluster.pods().create(&PostParams::default(), &through).await;
    assert!(through.is_err(), "a pod of others tolerates the taint");

    // Bindings, wakes, fences and the kubelet's status updates pass the policies.
    world.fleet_foreign("n0", 0, 20);
    let ours = pod("ours").gpus(1).vram("12Gi").steered().tolerates(Some(TAINT));
    world.cluster.add_pod(ours).await;
    world.refused("ours").await;
    world.fleet_foreign("n0", 0, 0);
    world.bound_within("ours", DEADLINE).await;
    world.phase("ours", "Running").await;
    let metrics = world.metrics().await;
    assert!(metrics.value("filmgate_wake_writes_total", &[("outcome", "sent")]) >= Some(1.0));
    assert_eq!(metrics.value("filmgate_wake_writes_total", &[("outcome", "failed")]), Some(0.0));
    assert!(metrics.value("filmgate_event_writes_total", &[("outcome", "sent")]) >= Some(1.0));
    assert_eq!(metrics.value("filmgate_unmanaged_pods", &[("node", "n0")]), Some(0.0));
}
