//! A cluster with KEDA, the shipped extender that answers it, and a ComfyUI.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use filmgate::tls::Identity;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tempfile::TempDir;

use crate::keda::Keda;
use crate::support::authority::Authority;
use crate::support::cluster::create;
use crate::support::comfyui::ComfyUi;
use crate::support::eventually::eventually;
use crate::support::objects::pod;
use crate::support::replicas::{Election, Replicas, Terms};
use crate::support::simulated::SimulatedNode;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// The namespace of the shipped example.
pub(crate) const FILM: &str = "ai-film";
/// Names of secrets with a certificate for KEDA: one that the extender takes, and one that it does
/// not.
pub(crate) const SECRET: &str = "filmgate-scaler";
pub(crate) const STRANGERS: &str = "strangers";

pub(crate) struct World {
    pub(crate) replicas: Replicas,
    pub(crate) comfyui: ComfyUi,
    pub(crate) keda: Keda,
    _files: TempDir,
}

impl World {
    /// A node with one GPU of 24 GiB, KEDA from that folder, and its way to the extender.
    pub(crate) async fn start(keda: &Path) -> Self {
        let files = TempDir::new().unwrap();
        let ours = Authority::create(files.path(), "ours");
        let kedas = Authority::create(files.path(), "kedas");
        let strangers = Authority::create(files.path(), "strangers");
        let comfyui = ComfyUi::start().await;
        let settings = settings(&ours.issued("filmgate-keda.filmgate.svc"), &kedas, &comfyui);
        let nodes = vec![SimulatedNode::new("n0", &[24])];
        let replicas = Replicas::start_with(nodes, Election::Off, Terms::SHORT, &settings).await;
        let keda = Keda::start(keda, &replicas.cluster).await;
        let world = Self { replicas, comfyui, keda, _files: files };
        for (name, authority) in [(SECRET, &kedas), (STRANGERS, &strangers)] {
            world.add_secret(name, &ours.roots(), &authority.issued("keda-operator")).await;
        }
        world.add_namespace().await;
        world
    }

    async fn add_secret(&self, name: &str, roots: &Path, identity: &Identity) {
        let bytes = |path: &PathBuf| ByteString(fs::read(path).unwrap());
        let data = json!({
            "ca.crt": bytes(&roots.to_owned()),
            "tls.crt": bytes(&identity.certificate),
            "tls.key": bytes(&identity.key),
        });
        let secret = json!({"metadata": {"name": name}, "data": data});
        let secret: Secret = serde_json::from_value(secret).unwrap();
        create(&Api::namespaced(self.replicas.cluster.admin(), "keda"), &secret).await;
    }

    async fn add_namespace(&self) {
        let admin = self.replicas.cluster.admin();
        let namespace = json!({"metadata": {"name": FILM}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        create(&Api::all(admin.clone()), &namespace).await;
        let accounts: Api<ServiceAccount> = Api::namespaced(admin, FILM);
        // Until it is there, pods are refused.
        eventually(DEADLINE, "a service account", async || accounts.get("default").await).await;
    }

    pub(crate) fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.replicas.cluster.admin(), FILM)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.replicas.cluster.admin(), FILM)
    }

    /// A Deployment of pods without GPUs and without a replica.
    pub(crate) async fn add_deployment(&self, name: &str) {
        let deployment = json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "image": "helper"}]},
                },
            },
        });
        create(&self.deployments(), &serde_json::from_value(deployment).unwrap()).await;
    }

    /// A pod that asks for more than the one GPU has: it stays pending.
    pub(crate) async fn add_pending(&self, name: &str) {
        let pending = pod(name).label("app", "comfyui").gpus(1).vram("40Gi").steered();
        create(&self.pods(), &pending.build()).await;
    }

    pub(crate) async fn delete_pod(&self, name: &str) {
        self.pods().delete(name, &Default::default()).await.unwrap();
    }

    /// A pod that runs, whose ComfyUI is the world's.
    pub(crate) async fn add_running(&self, name: &str) {
        let running = pod(name).label("app", "film").gpus(1).vram("4Gi").steered();
        create(&self.pods(), &running.build()).await;
        eventually(DEADLINE, "a bound pod", async || {
            self.pods().get(name).await.ok()?.spec?.node_name
        })
        .await;
        let ip = self.comfyui.address().ip();
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
        let status = Patch::Merge(&status);
        self.pods().patch_status(name, &PatchParams::default(), &status).await.unwrap();
    }
}

/// As docs/autoscaling.md says, at the port of the shipped example.
fn settings(identity: &Identity, clients: &Authority, comfyui: &ComfyUi) -> String {
    let keda = json!({
        "listen": "127.0.0.1:9115",
        "certificateFile": identity.certificate,
        "keyFile": identity.key,
        "clientCaFile": clients.roots(),
    });
    let comfyui = json!({
        "podSelector": "app=film", "port": comfyui.address().port(), "pollInterval": "1s",
    });
    format!("keda: {keda}\ncomfyui: {comfyui}\n")
}
