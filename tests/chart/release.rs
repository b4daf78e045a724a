//! A release's life by helm on a real control plane: installed, upgraded, rolled back, removed.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::discovery::{Discovery, verbs};
use kube::{Api, Client};
use serde_json::json;

use crate::support::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use crate::support::eventually::eventually;
use crate::support::helm::{chart, outcome, program};
use crate::support::kubeconfig::User;
use crate::support::manifests::{apply_objects, namespace};
use crate::support::objects::{node, pod};
use crate::support::process::Process;
use crate::support::scheduler::configuration;

const DEADLINE: Duration = Duration::from_secs(60);

/// A cluster with a scheduler for pods that name none, and two nodes.
struct Ground {
    cluster: Cluster,
    _scheduler: Process,
}

impl Ground {
    async fn start() -> Self {
        let cluster = Cluster::start(ClusterOptions::default()).await;
        let gpus = node("gpu").gpus(8).label("nvidia.com/gpu.present", "true");
        cluster.add_nodes([gpus, node("cpu")]).await;
        let mut config = configuration(&cluster.kubeconfig(User::Scheduler), &[]);
        config["profiles"][0]["schedulerName"] = json!("default-scheduler");
        let name = "default-scheduler".to_owned();
        let scheduler =
            cluster.start_scheduler(SchedulerOptions { config_yaml: config.to_string(), name });
        Self { cluster, _scheduler: scheduler }
    }

    /// What helm says of it. `None` where there is no helm.
    fn helm(&self, arguments: &[&str]) -> Option<Result<String, String>> {
        let mut helm = program("helm")?;
        helm.args(arguments).arg("--kubeconfig").arg(self.cluster.kubeconfig(User::Admin));
        // What helm keeps for itself stays with the test.
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(variable, self.cluster.folder());
        }
        outcome(Some(helm))
    }

    fn with_chart(&self, verb: &str, more: &[&str]) -> Option<Result<String, String>> {
        let chart = chart().display().to_string();
        let arguments =
            [verb, "filmgate", &chart, "--namespace=filmgate", "--wait", "--timeout=120s"];
        self.helm(&[&arguments, more].concat())
    }

    fn namespaced<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.admin(), "filmgate")
    }

    async fn setting(&self) -> String {
        let maps: Api<ConfigMap> = self.namespaced();
        let map = maps.get("filmgate").await.unwrap();
        map.data.unwrap()["filmgate.yaml"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_installed_upgraded_rolled_back_and_removed_without_a_trace() {
    let ground = Ground::start().await;
    let admin = ground.cluster.admin();
    apply_objects(&admin, [namespace("filmgate", &[])]).await;
    let tenant = pod("film").gpus(1).annotation("filmgate.dev/gpu", "GPU-0");
    ground.cluster.add_pod(tenant.scheduler("default-scheduler")).await;
    ground.cluster.node_of("film").await;
    eventually(DEADLINE, "the namespace's own objects", async || {
        ground.namespaced::<ConfigMap>().get("kube-root-ca.crt").await
    })
    .await;
    let before = everything(&admin).await;

    let Some(installed) = ground.with_chart("install", &[]) else { return };
    let notes = installed.unwrap();
    assert!(notes.contains("filmgate.dev/vram"), "{notes}");
    assert!(!ground.setting().await.contains("observe"));
    all_pods_run(&ground).await;
    fill(&ground).await;

    let changed = ["--set=config.mode=observe", "--set=externalMetrics.enabled=true"];
    ground.with_chart("upgrade", &changed).unwrap().unwrap();
    assert!(ground.setting().await.contains("mode: observe"));
    still_filled(&ground).await;
    ground.helm(&["rollback", "filmgate", "1", "--namespace=filmgate", "--wait"]).unwrap().unwrap();
    assert!(!ground.setting().await.contains("observe"));
    still_filled(&ground).await;

    ground.helm(&["uninstall", "filmgate", "--namespace=filmgate", "--wait"]).unwrap().unwrap();
    eventually(DEADLINE, "nothing left", async || {
        let now = everything(&admin).await;
        let left: Vec<_> = now.symmetric_difference(&before).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    let film = ground.cluster.pods().get("film").await.unwrap();
    assert_eq!(film.metadata.annotations.unwrap()["filmgate.dev/gpu"], "GPU-0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_is_not_taken() {
    let ground = Ground::start().await;
    let admin = ground.cluster.admin();
    apply_objects(&admin, [namespace("filmgate", &[]), namespace("keda", &[])]).await;
    let of_keda = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
        "spec": {
            "group": "external.metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
            "service": {"name": "keda-metrics-apiserver", "namespace": "keda"},
        },
    });
    let of_keda: DynamicObject = serde_json::from_value(of_keda).unwrap();
    apply_objects(&admin, [of_keda]).await;
    let external = ["--set=externalMetrics.enabled=true"];
    let Some(refused) = ground.with_chart("install", &external) else { return };
    let refused = refused.unwrap_err();
    assert!(refused.contains("externalMetrics.enabled"), "{refused}");
    assert!(refused.contains("served by keda/keda-metrics-apiserver"), "{refused}");

    ground.with_chart("install", &[]).unwrap().unwrap();
    // A second filmgate in the same cluster.
    let chart = chart().display().to_string();
    let second = ground.helm(&["install", "second", &chart, "--namespace=keda"]).unwrap();
    let refused = second.unwrap_err();
    assert!(refused.contains("invalid ownership metadata"), "{refused}");
}

/// kwok plays the kubelets: their rules of scheduling hold, and nothing of theirs is refused.
async fn all_pods_run(ground: &Ground) {
    let pods = ground.namespaced::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let placed = |name: &str| {
        let label =
            |pod: &&Pod| pod.metadata.labels.as_ref().unwrap()["app.kubernetes.io/name"] == name;
        let node = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap();
        pods.iter().filter(label).map(node).collect::<BTreeSet<_>>()
    };
    assert_eq!(placed("filmgate-agent"), ["gpu".to_owned()].into());
    assert_eq!(placed("filmgate"), ["cpu".to_owned(), "gpu".to_owned()].into());
}

/// As `filmgate certificates` and kube-scheduler do.
async fn fill(ground: &Ground) {
    let data = json!({"data": {"tls.crt": ByteString(b"certificate".to_vec())}});
    let by = PatchParams::default();
    ground
        .namespaced::<Secret>()
        .patch("filmgate-authority", &by, &Patch::Merge(data))
        .await
        .unwrap();
    let held = json!({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 15}});
    let leases = ground.namespaced::<Lease>();
    leases.patch("filmgate-kube-scheduler", &by, &Patch::Merge(held)).await.unwrap();
}

async fn still_filled(ground: &Ground) {
    let secret = ground.namespaced::<Secret>().get("filmgate-authority").await.unwrap();
    assert_eq!(secret.data.unwrap()["tls.crt"].0, b"certificate");
    let lease = ground.namespaced::<Lease>().get("filmgate-kube-scheduler").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("somebody"));
}

/// Every object of the cluster but what happens by itself: events, and the nodes' and schedulers' Leases.
async fn everything(admin: &Client) -> BTreeSet<String> {
    let discovery = Discovery::new(admin.clone()).exclude(&["external.metrics.k8s.io"]);
    let discovery = discovery.run().await.unwrap();
    let mut found = BTreeSet::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) || resource.kind == "Event" {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(admin.clone(), &resource);
            for object in api.list(&ListParams::default()).await.unwrap() {
                let namespace = object.metadata.namespace.unwrap_or_default();
                if resource.kind != "Lease" || namespace == "filmgate" {
                    let name = object.metadata.name.unwrap();
                    found.insert(format!("{} {namespace}/{name}", resource.kind));
                }
            }
        }
    }
    found
}
