//! What a test sees of its world: of pods through the API server, of filmgate through its metrics
//! and events.

use std::collections::HashMap;

use super::super::support::events::events;
use super::super::support::objects::{is_bound, is_refused};
use super::*;

/// The reason of filmgate's event on a pod that waits.
const WAITING: &str = "WaitingForGPU";

impl World {
    /// The node that a pod is bound to now.
    pub async fn node_now(&self, pod: &str) -> Option<String> {
        self.cluster.pods().get(pod).await.unwrap().spec.unwrap().node_name
    }

    /// Names of all bound pods.
    pub async fn bound_pods(&self) -> Vec<String> {
        let pods = self.cluster.pods().list(&ListParams::default()).await.unwrap();
        pods.items.iter().filter(|pod| is_bound(pod)).map(ResourceExt::name_any).collect()
    }

    /// Names of the pods that kube-scheduler has refused and that are not bound.
    pub async fn unschedulable_pods(&self) -> Vec<String> {
        let pods = self.cluster.pods().list(&ListParams::default()).await.unwrap();
        pods.items.iter().filter(|pod| is_refused(pod)).map(ResourceExt::name_any).collect()
    }

    /// Filter calls that the extender has answered.
    pub async fn filter_calls(&self) -> f64 {
        self.metrics().await.sum("filmgate_request_duration_seconds_count", &[("verb", "filter")])
    }

    /// Waits until the extender knows of at least so much free memory on the node's first GPU.
    pub async fn free_bytes_seen(&self, node: &str, gib: u64) {
        let labels = [("node", node), ("gpu", "0")];
        eventually(DEADLINE, "free memory seen", async || {
            let free = self.metrics().await.value("filmgate_gpu_free_bytes", &labels)?;
            (free >= Bytes::gib(gib).get() as f64).then_some(())
        })
        .await;
    }

    /// Waits for the pod to be bound, no longer than that.
    pub async fn bound_within(&self, pod: &str, deadline: Duration) {
        let since = Instant::now();
        eventually(deadline, &format!("{pod} bound"), async || self.node_now(pod).await).await;
        println!("{pod} bound after {:.2} s", since.elapsed().as_secs_f64());
    }

    /// Waits until kube-scheduler has said that no node takes the pod; what it said.
    pub async fn refused(&self, pod: &str) -> String {
        let pods = self.cluster.pods();
        eventually(DEADLINE, &format!("{pod} refused"), async || {
            let conditions = pods.get(pod).await.ok()?.status?.conditions?;
            conditions
                .into_iter()
                .find(|one| one.reason.as_deref() == Some("Unschedulable"))?
                .message
        })
        .await
    }

    /// Waits for filmgate's event on the pod; what it says.
    pub async fn waiting_event(&self, pod: &str) -> String {
        self.event(pod, WAITING).await
    }

    /// Waits for filmgate's event of that reason on the pod; what it says.
    pub async fn event(&self, pod: &str, reason: &str) -> String {
        let what = format!("{reason} on {pod}");
        eventually(DEADLINE, &what, async || self.events(reason).await.remove(pod)).await
    }

    /// filmgate's events of that reason by pod.
    pub async fn events(&self, reason: &str) -> HashMap<String, String> {
        events(&self.cluster.admin(), reason).await
    }

    /// Waits until a metric has that value.
    pub async fn metric_is(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(DEADLINE, &format!("{name}{labels:?} at {value}"), async || {
            let now = self.metrics().await.value(name, labels);
            if now == Some(value) { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    }

    /// Waits until the pod is no more.
    pub async fn gone(&self, pod: &str) {
        let pods = self.cluster.pods();
        eventually(DEADLINE, &format!("{pod} gone"), async || match pods.get_opt(pod).await? {
            None => Ok(()),
            Some(pod) => Err(anyhow::anyhow!("{:?}", pod.status)),
        })
        .await;
    }

    /// Waits until the pod is in that phase.
    pub async fn phase(&self, pod: &str, phase: &str) {
        let pods = self.cluster.pods();
        eventually(DEADLINE, &format!("{pod} {phase}"), async || {
            (pods.get(pod).await.ok()?.status?.phase? == phase).then_some(())
        })
        .await;
    }

    /// Waits until the extender knows the pod.
    pub async fn knows(&self, pod: &str) {
        let url = format!("{}/explain?pod=default/{pod}", self.verbs_url());
        eventually(DEADLINE, &format!("{pod} known"), async || {
            reqwest::get(&url).await?.error_for_status()
        })
        .await;
    }

    /// Waits until the extender knows what the pod's processes hold on that GPU.
    pub async fn measured(&self, pod: &str, node: &str, gpu: usize) {
        let url = format!("{}/explain?pod=default/{pod}", self.verbs_url());
        eventually(DEADLINE, &format!("{pod} measured"), async || {
            let truth = self.fleet.truth(node, &self.gpu_uuid(node, gpu)).ok()?;
            let explained: serde_json::Value = reqwest::get(&url).await.ok()?.json().await.ok()?;
            let nodes = explained["nodes"].as_array()?;
            let one = nodes.iter().find(|one| one["node"] == node)?;
            let used = one["gpus"][gpu]["usedBytes"].as_u64()?;
            (used > 0 && used == truth.used.get()).then_some(())
        })
        .await;
    }

    /// Waits until the last reading of the node is older than that.
    pub async fn reading_older_than(&self, node: &str, age: Duration) {
        eventually(DEADLINE, "an old reading", async || {
            let seconds =
                self.metrics().await.value("filmgate_reading_age_seconds", &[("node", node)])?;
            (seconds > age.as_secs_f64()).then_some(())
        })
        .await;
    }

    /// Waits until the extender has read so many nodes.
    pub async fn has_read(&self, nodes: usize) {
        eventually(DEADLINE, "the nodes read", async || {
            let read = self.metrics().await.series("filmgate_reading_age_seconds").len();
            (read >= nodes).then_some(()).ok_or(format!("{read} of {nodes}"))
        })
        .await;
    }

    /// The pod in the first version that a watcher sees as bound.
    pub async fn watch_first_bound(&self, pod: &str) -> mpsc::Receiver<Pod> {
        let (tell, told) = mpsc::channel(1);
        let config = watcher::Config::default().fields(&format!("metadata.name={pod}"));
        let versions = watcher(self.cluster.pods(), config).applied_objects();
        tokio::spawn(async move {
            let mut bound =
                versions.try_filter(|pod| futures::future::ready(is_bound(pod))).boxed();
            if let Some(Ok(pod)) = bound.next().await {
                let _ = tell.send(pod).await;
            }
        });
        told
    }
}
