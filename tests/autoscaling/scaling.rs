//! The HorizontalPodAutoscaler's own controller acts on what the extender says.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use serde_json::json;

use crate::support::cluster::create;
use crate::support::eventually::eventually;
use crate::support::objects::pod;
use crate::world::{DEADLINE, World};

impl World {
    /// A Deployment of pods without GPUs, one replica at first, and one for each pending pod of
    /// the film from then on.
    async fn add_helper(&self) {
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
            "name": "filmgate-pending-pods", "selector": {"matchLabels": {"app": "film"}},
        });
        let autoscaler = json!({
            "metadata": {"name": "helper"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "helper"},
                "minReplicas": 0,
                "maxReplicas": 5,
                "metrics": [{"type": "External", "external": {
                    "metric": metric,
                    "target": {"type": "AverageValue", "averageValue": "1"},
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

    async fn delete_film(&self, name: &str) {
        self.replicas.cluster.pods().delete(name, &Default::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_follows_pending_pods_up_down_to_zero_and_back() {
    let world = World::start().await;
    world.add_helper().await;
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
