//! Events that have nothing to do with GPUs, so many a second. kube-scheduler cannot know that, and
//! at each of them tries again every pod that an extender has refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::eventually::eventually;
use super::objects::pod;

const DEADLINE: Duration = Duration::from_secs(30);
/// One that every API server has, and no test's pods are in.
const NAMESPACE: &str = "kube-public";
/// Of no node that exists: nobody plays these pods' kubelet, so that each write is one event.
const ELSEWHERE: &str = "elsewhere";
const CLAIM: &str = "storm";
const RUNNING: &str = "storm-runs";
const PASSING: &str = "storm-passes";

/// A storm that goes on until the value is dropped.
pub struct Storm {
    events: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Storm {
    /// Begins.
    pub async fn start(client: Client, events_per_second: u32) -> Self {
        let weather = Weather::prepare(client).await;
        let events = Arc::new(AtomicU64::new(0));
        let count = events.clone();
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_secs(1) / events_per_second);
            loop {
                pace.tick().await;
                weather.event(count.load(Ordering::Relaxed)).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { events, task }
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the events are about.
struct Weather {
    nodes: Api<Node>,
    node: String,
    claims: Api<PersistentVolumeClaim>,
    pods: Api<Pod>,
}

impl Weather {
    async fn prepare(client: Client) -> Self {
        let nodes: Api<Node> = Api::all(client.clone());
        let first = nodes.list(&ListParams::default().limit(1)).await.expect("nodes");
        let weather = Self {
            node: first.items.first().expect("a node").name_any(),
            nodes,
            claims: Api::namespaced(client.clone(), NAMESPACE),
            pods: Api::namespaced(client, NAMESPACE),
        };
        put(&weather.claims, &claim()).await;
        put(&weather.pods, &elsewhere(RUNNING)).await;
        put(&weather.pods, &elsewhere(PASSING)).await;
        weather.delete_passing().await.expect("a pod to delete");
        weather
    }

    /// Each is one write and one event.
    async fn event(&self, number: u64) {
        let with = PatchParams::default();
        let labelled = change(json!({"metadata": {"labels": {"storm": number.to_string()}}}));
        let said = change(json!({"status": {"message": number.to_string()}}));
        let written = match number % 5 {
            0 => self.nodes.patch_metadata(&self.node, &with, &labelled).await.map(drop),
            1 => self.claims.patch_metadata(CLAIM, &with, &labelled).await.map(drop),
            2 => self.pods.patch_status(RUNNING, &with, &said).await.map(drop),
            3 => self.pods.create(&PostParams::default(), &elsewhere(PASSING)).await.map(drop),
            _ => self.delete_passing().await,
        };
        written.expect("an event of the storm");
    }

    async fn delete_passing(&self) -> kube::Result<()> {
        let at_once = DeleteParams::default().grace_period(0);
        self.pods.delete(PASSING, &at_once).await.map(drop)
    }
}

fn change(fields: Value) -> Patch<Value> {
    Patch::Merge(fields)
}

fn elsewhere(name: &str) -> Pod {
    pod(name).pinned_to(ELSEWHERE).build()
}

fn claim() -> PersistentVolumeClaim {
    let claim = json!({
        "metadata": {"name": CLAIM},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    serde_json::from_value(claim).expect("a claim")
}

/// Creates the object once the API server takes it: pods need a service account, which the
/// controllers make. One that an earlier storm has left will do.
async fn put<K>(api: &Api<K>, object: &K)
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    eventually(DEADLINE, "an object of the storm", async || {
        match api.create(&PostParams::default(), object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            created => created.map(drop),
        }
    })
    .await;
}
