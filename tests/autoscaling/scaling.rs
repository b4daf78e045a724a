//! The HorizontalPodAutoscaler's own controller acts on what the extender says.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::cluster::create;
use crate::support::comfyui::{ComfyUi, Fault, next_address};
use crate::support::eventually::eventually;
use crate::support::objects::pod;
use crate::world::{DEADLINE, World};

impl World {
    /// A Deployment of pods without GPUs, one replica at first, and one for so much of that metric
    /// of the film from then on.
    async fn add_helper(&self, metric: &str, each: &str) {
        let admin = self.replicas.cluster.admin();
        let deployment = json!({
            "metadata": {"name": "helper"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "helper"}},
                "template": {
                    "metadata": {"labels": {"app": "helper"}},
                    "spec": {"containers": [{"name": "main", "image": "helper"}]},
                },
            },
        });
        let deployment: Deployment = serde_json::from_value(deployment).unwrap();
        create(&Api::default_namespaced(admin.clone()), &deployment).await;
        let at_once = json!({
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Pods", "value": 10, "periodSeconds": 1}],
        });
        let metric = json!({
            "name": metric, "selector": {"matchLabels": {"app": "film"}},
        });
        let autoscaler = json!({
            "metadata": {"name": "helper"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "helper"},
                "minReplicas": 0,
                "maxReplicas": 5,
                "metrics": [{"type": "External", "external": {
                    "metric": metric,
                    "target": {"type": "AverageValue", "averageValue": each},
                }}],
                "behavior": {"scaleUp": at_once, "scaleDown": at_once},
            },
        });
        let autoscaler: HorizontalPodAutoscaler = serde_json::from_value(autoscaler).unwrap();
        create(&Api::default_namespaced(admin), &autoscaler).await;
    }

    /// Waits until the autoscaler wants so many.
    async fn scales_to(&self, replicas: i32) {
        let admin = self.replicas.cluster.admin();
        let deployments: Api<Deployment> = Api::default_namespaced(admin.clone());
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::default_namespaced(admin);
        eventually(DEADLINE, &format!("{replicas} replicas"), async || {
            let now = deployments.get("helper").await?.spec.replicas;
            if now == Some(replicas) {
                return Ok(());
            }
            let status = autoscalers.get("helper").await?.status;
            let conditions = status.and_then(|status| status.conditions);
            Err(anyhow::anyhow!("{now:?} {conditions:?}"))
        })
        .await;
    }

    async fn add_film(&self, name: &str) {
        // More than the fleet's one GPU has: it stays pending.
        let film = pod(name).label("app", "film").gpus(1).vram("40Gi").steered();
        self.replicas.cluster.add_pod(film).await;
    }

    /// A pod of the film that runs, and whose ComfyUI is there.
    async fn add_comfyui(&self, name: &str, comfyui: &ComfyUi) {
        let film = pod(name).label("app", "film").gpus(1).vram("4Gi").steered();
        let pods = self.replicas.cluster.pods();
        self.replicas.cluster.add_pod(film).await;
        eventually(DEADLINE, "a bound pod", async || pods.get(name).await.ok()?.spec?.node_name)
            .await;
        let ip = comfyui.address().ip();
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
        let status = Patch::Merge(&status);
        pods.patch_status(name, &PatchParams::default(), &status).await.unwrap();
    }

    /// Waits until that is what there is to say of the film's prompts.
    async fn prompts_are(&self, value: Option<&str>) {
        let question = "filmgate-comfyui-queue-depth?labelSelector=app%3Dfilm";
        let admin = self.replicas.cluster.admin();
        eventually(DEADLINE, "prompts", async || {
            let list = Self::ask(&admin, question).await.map_err(|status| status.message)?;
            let seen = list["items"][0]["value"].as_str();
            (seen == value).then_some(()).ok_or(list.to_string())
        })
        .await;
    }

    async fn delete_film(&self, name: &str) {
        self.replicas.cluster.pods().delete(name, &Default::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_follows_pending_pods_up_down_to_zero_and_back() {
    let world = World::start().await;
    world.add_helper("filmgate-pending-pods", "1").await;
    world.scales_to(0).await;
    for name in ["film-0", "film-1", "film-2"] {
        world.add_film(name).await;
    }
    let other = pod("other").label("app", "other").gpus(1).vram("40Gi").steered();
    world.replicas.cluster.add_pod(other).await;
    world.scales_to(3).await;
    world.delete_film("film-0").await;
    world.delete_film("film-1").await;
    world.scales_to(1).await;
    world.delete_film("film-2").await;
    world.scales_to(0).await;
    world.add_film("film-3").await;
    world.add_film("film-4").await;
    world.scales_to(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_follows_the_prompts_of_the_pods_that_answer() {
    let first = ComfyUi::start().await;
    let port = first.address().port();
    let second = ComfyUi::start_at(next_address(), port).await;
    let world = World::start_with(&format!(
        "comfyui: {{podSelector: app=film, port: {port}, pollInterval: 1s}}\n"
    ))
    .await;
    world.prompts_are(None).await;
    world.add_comfyui("film-0", &first).await;
    world.add_comfyui("film-1", &second).await;
    world.prompts_are(Some("0")).await;
    world.add_helper("filmgate-comfyui-queue-depth", "2").await;
    world.scales_to(0).await;
    first.set_queue(1, 3);
    second.set_queue(1, 1);
    world.scales_to(3).await;
    second.set_queue(0, 0);
    world.scales_to(2).await;
    second.fails("", Fault::Hang);
    first.fails("", Fault::Html);
    // Nobody answers: nothing is said, and the replicas stay.
    world.prompts_are(None).await;
    world.scales_to(2).await;
    first.recovers();
    first.set_queue(1, 0);
    world.prompts_are(Some("1")).await;
    world.scales_to(1).await;
    let explained = world.replicas.replica(0).explain("default/film-1");
    assert!(
        explained.contains("ComfyUI: what it does is not known; no whole answer"),
        "{explained}"
    );
}
