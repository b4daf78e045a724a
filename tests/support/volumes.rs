//! Claims of volumes whose driver the test plays: it provisions one when it likes, for the node
//! that kube-scheduler has chosen, or says that it cannot.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::eventually::eventually;

const CLASS: &str = "slow";
/// How kube-scheduler tells the driver the pod's node.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const DEADLINE: Duration = Duration::from_secs(30);

/// The claim of a volume.
pub struct Claim {
    client: Client,
    name: String,
}

impl Claim {
    /// Creates one whose volume is provisioned when its first pod has a node.
    pub async fn create(client: Client, name: &str) -> Self {
        let class = json!({
            "metadata": {"name": CLASS},
            "provisioner": "test.filmgate.dev/slow",
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        create(&Api::<StorageClass>::all(client.clone()), class).await;
        let claim = Self { client, name: name.to_owned() };
        create(&claim.api(), json!({"metadata": {"name": name}, "spec": claim.spec()})).await;
        claim
    }

    fn api(&self) -> Api<PersistentVolumeClaim> {
        Api::default_namespaced(self.client.clone())
    }

    fn spec(&self) -> Value {
        json!({
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "resources": {"requests": {"storage": "1Gi"}},
        })
    }

    /// Waits until kube-scheduler has chosen a node for the pod and waits for the volume there.
    pub async fn chosen_node(&self) -> String {
        eventually(DEADLINE, "a node chosen for the volume", async || {
            self.api().get(&self.name).await.ok()?.annotations().get(SELECTED_NODE).cloned()
        })
        .await
    }

    /// Provisions the volume on the chosen node.
    pub async fn provision(&self) {
        let claim = self.api().get(&self.name).await.expect("the claim");
        let node = claim.annotations().get(SELECTED_NODE).expect("a chosen node");
        let on_node = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
        let volume = json!({
            "metadata": {"name": self.name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"},
                "storageClassName": CLASS,
                "hostPath": {"path": "/nowhere"},
                "claimRef": {"namespace": "default", "name": self.name, "uid": claim.uid()},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [
                    {"matchExpressions": [on_node]},
                ]}},
            },
        });
        create(&Api::<PersistentVolume>::all(self.client.clone()), volume).await;
    }

    /// Says that there is no way to provision the volume on the chosen node; and nobody wants it
    /// any more, so that no node can be chosen again.
    pub async fn give_up(&self) {
        self.api().delete(&self.name, &DeleteParams::default()).await.expect("a claim to delete");
        let patch = Patch::Merge(json!({"metadata": {"annotations": {SELECTED_NODE: null}}}));
        let given_up = self.api().patch(&self.name, &PatchParams::default(), &patch).await;
        given_up.expect("a claim that its pod protects");
    }
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object).expect("an object");
    let created = api.create(&PostParams::default(), &object).await;
    created.unwrap_or_else(|error| panic!("{error}: {object:?}"));
}
