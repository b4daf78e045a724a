//! The annotation on idle nodes, on a real API server.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::support::eventually::eventually;
use crate::support::kubeconfig::User;
use crate::support::manifests::{apply, shipped};
use crate::support::objects::{PodBuilder, pod};
use crate::world::{DEADLINE, World};

const IDLE_SINCE: &str = "filmgate.dev/idle-since";

fn film(name: &str) -> PodBuilder {
    pod(name).gpus(1).vram("20Gi").steered()
}

impl World {
    /// Waits until the node is marked, or is not; the mark.
    async fn marked(&self, is_marked: bool) -> Option<String> {
        let nodes = self.replicas.cluster.nodes();
        eventually(DEADLINE, &format!("marked: {is_marked}"), async || {
            let mark = nodes.get("n0").await?.annotations().get(IDLE_SINCE).cloned();
            (mark.is_some() == is_marked).then_some(mark).ok_or(anyhow::anyhow!("it is not"))
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_node_says_so_until_a_pod_is_about_to_be_bound_there() {
    let world = World::start_with("idleNodes: {annotateAfter: 2s}\n").await;
    let cluster = &world.replicas.cluster;
    apply(&cluster.admin(), &shipped("deploy/autoscaling/idle-nodes-rbac.yaml")).await;
    let since = world.marked(true).await.unwrap();
    assert!(since.parse::<jiff::Timestamp>().is_ok(), "{since}");

    let proxy = &world.replicas.replica(0).proxy;
    proxy.hold_bindings(true);
    cluster.add_pod(film("first")).await;
    world.replicas.holds_bindings(0, 1).await;
    let node = cluster.nodes().get("n0").await.unwrap();
    assert!(!node.annotations().contains_key(IDLE_SINCE), "marked, and a Binding is on its way");
    proxy.hold_bindings(false);
    for pod in proxy.held() {
        proxy.release(&pod).await;
    }
    cluster.node_of("first").await;

    cluster.pods().delete("first", &Default::default()).await.unwrap();
    world.marked(true).await;
    world.marks_alone_may_be_changed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_pods_are_bound_all_the_same() {
    let world = World::start_with("idleNodes: {annotateAfter: 1s}\n").await;
    let cluster = &world.replicas.cluster;
    let mark = Patch::Merge(json!({"metadata": {"annotations": {IDLE_SINCE: "somebody's"}}}));
    cluster.nodes().patch("n0", &PatchParams::default(), &mark).await.unwrap();
    cluster.add_pod(film("first")).await;
    assert_eq!(cluster.node_of("first").await, "n0");
    world.marked(true).await;
}

impl World {
    /// By the shipped policy.
    async fn marks_alone_may_be_changed(&self) {
        let filmgate: Client = self.replicas.cluster.client(User::Filmgate).await;
        let nodes: Api<Node> = Api::all(filmgate);
        let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
        let patch = async |patch| nodes.patch("n0", &parameters, &Patch::Merge(patch)).await;
        let mark = json!({"metadata": {"annotations": {IDLE_SINCE: "2026-01-01T00:00:00Z"}}});
        patch(mark).await.unwrap();
        for change in [
            json!({"metadata": {"annotations": {"example.com/x": "y"}}}),
            json!({"metadata": {"labels": {"type": "other"}}}),
            json!({"spec": {"unschedulable": true}}),
        ] {
            let refused = patch(change.clone()).await.expect_err("refused");
            assert!(
                refused.to_string().contains("changes nothing of a node"),
                "{change}: {refused}"
            );
        }
    }
}
