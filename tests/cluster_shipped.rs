//! The shipped scheduler configuration and rights, under the real kube-scheduler.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;
use serde_json::{Value, json};

use support::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use support::eventually::eventually;
use support::kubeconfig::User;
use support::manifests::{SIDECAR, apply_objects, apply_rights, objects, shipped};
use support::objects::{node, pod};
use support::port::ReservedPort;
use support::process::Process;
use support::tools::{or_skipped, script};

const DEADLINE: Duration = Duration::from_secs(30);
/// The discard service's port, which is closed.
const NOBODY: &str = "http://127.0.0.1:9";

#[tokio::test(flavor = "multi_thread")]
async fn kube_scheduler_leads_and_schedules_under_the_shipped_configuration_and_rights() {
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    apply_rights(&cluster.admin(), SIDECAR).await;
    cluster.add_nodes([node("n0").gpus(1)]).await;
    let _scheduler = cluster.start_scheduler(SchedulerOptions {
        config_yaml: shipped_configuration(&cluster).to_string(),
        name: "kube-scheduler".to_owned(),
    });

    cluster.add_pod(pod("plain")).await;
    assert_eq!(cluster.node_of("plain").await, "n0");
    let leases: Api<Lease> = Api::namespaced(cluster.admin(), "filmgate");
    let lease = leases.get("filmgate-kube-scheduler").await.unwrap();
    assert!(lease.spec.unwrap().holder_identity.is_some());

    // Nobody listens where the extender should be: a GPU pod waits, and says for what.
    cluster.add_pod(pod("with-gpu").gpus(1)).await;
    eventually(DEADLINE, "the extender missed", async || {
        let pod = cluster.pods().get("with-gpu").await?;
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let texts = conditions.into_iter().filter_map(|condition| condition.message);
        let texts = texts.collect::<Vec<_>>().join("; ");
        let is_missed = texts.contains(&format!("{NOBODY}/filter"));
        if is_missed { Ok(()) } else { Err(anyhow::anyhow!("{texts:?}")) }
    })
    .await;
}

/// A cluster that was upgraded while filmgate was not.
#[tokio::test(flavor = "multi_thread")]
async fn a_kube_scheduler_that_is_too_old_for_the_api_server_is_told_of() {
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    apply_rights(&cluster.admin(), SIDECAR).await;
    let (verbs, ops) = (ReservedPort::reserve(), ReservedPort::reserve());
    let config = json!({
        "listen": {"verbs": verbs.address(), "metrics": ops.address()},
        "kubeSchedulerVersion": "v1.35.2-gke.1",
        "agents": {"static": []},
    });
    let file = cluster.folder().join("filmgate.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.arg("extender").arg("--config").arg(file);
    command.arg("--kubeconfig").arg(cluster.kubeconfig(User::Filmgate));
    let _extender = Process::spawn("filmgate", command, cluster.folder());
    eventually(DEADLINE, "the skew shown", async || {
        let page = reqwest::get(format!("http://{}/metrics", ops.address())).await?.text().await?;
        let is_shown = page.contains("filmgate_kube_scheduler_skew_versions 2\n");
        if is_shown { Ok(()) } else { Err(anyhow::anyhow!("{page}")) }
    })
    .await;
    let log = std::fs::read_to_string(cluster.folder().join("filmgate.log")).unwrap();
    assert!(log.contains("is too old for the API server"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prometheus_operators_own_definitions_take_what_is_shipped() {
    let Some(definitions) = operator_definitions() else { return };
    let kinds = ["podmonitors", "servicemonitors", "prometheusrules"];
    let definitions =
        kinds.map(|kind| definitions.join(format!("monitoring.coreos.com_{kind}.yaml")));
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    apply_rights(&cluster.admin(), SIDECAR).await;
    define(&cluster, &definitions).await;
    let objects = objects(&shipped("deploy/prometheus/operator.yaml"));
    assert!(objects.len() >= kinds.len(), "{objects:?}");
    for object in objects {
        taken(&cluster, object.clone()).await;
        let mut misspelt = object;
        misspelt.data["spec"]["notAField"] = json!(true);
        let refused = strictly(&cluster, &misspelt).await.unwrap_err().to_string();
        assert!(refused.contains("notAField"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "FILMGATE_CAPACITY_BUFFER_CRD: a copy of cluster-autoscaler/apis/config/crd/autoscaling.x-k8s.io_capacitybuffers.yaml"]
async fn the_cluster_autoscalers_own_definition_takes_the_capacity_buffer() {
    let definition = std::env::var_os("FILMGATE_CAPACITY_BUFFER_CRD").expect("where it is");
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    apply_rights(&cluster.admin(), SIDECAR).await;
    define(&cluster, &[definition.into()]).await;
    for object in objects(&shipped("deploy/autoscaling/capacity-buffer.yaml")) {
        taken(&cluster, object).await;
    }
}

/// Where the Prometheus Operator's definitions are. `None`, with a line that says so, where they
/// cannot be had; in CI that fails the test.
fn operator_definitions() -> Option<PathBuf> {
    or_skipped(
        script("tools/prometheus-operator.sh", &[]),
        "definition of the Prometheus Operator's",
    )
}

/// Creates these CustomResourceDefinitions.
async fn define(cluster: &Cluster, definitions: &[PathBuf]) {
    for definition in definitions {
        // They begin with a separator.
        let text = std::fs::read_to_string(definition).unwrap();
        let object = serde_saphyr::from_str(text.trim_start_matches("---")).unwrap();
        apply_objects(&cluster.admin(), [object]).await;
    }
}

/// Waits until the API server, which learns of a definition with a little delay, has the object.
async fn taken(cluster: &Cluster, object: DynamicObject) {
    eventually(DEADLINE, "the object taken", async || strictly(cluster, &object).await).await;
}

/// Applies the object; a field that its definition does not know is an error.
async fn strictly(cluster: &Cluster, object: &DynamicObject) -> kube::Result<DynamicObject> {
    let kind = object.types.as_ref().unwrap().try_into().unwrap();
    let namespace = object.metadata.namespace.as_deref().unwrap();
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.admin(), namespace, &resource);
    let parameters = PatchParams::apply("test").force().validation_strict();
    let name = object.metadata.name.as_deref().unwrap();
    api.patch(name, &parameters, &Patch::Apply(object)).await
}

/// As shipped, but with a way to this API server, which kube-scheduler finds by itself in a pod,
/// and with the extender where surely nobody is.
fn shipped_configuration(cluster: &Cluster) -> Value {
    let text = std::fs::read_to_string(shipped("config/kube-scheduler.yaml")).unwrap();
    let mut configuration: Value = serde_saphyr::from_str(&text).unwrap();
    configuration["clientConnection"] = json!({"kubeconfig": cluster.kubeconfig(User::Filmgate)});
    let extender = &mut configuration["extenders"][0]["urlPrefix"];
    assert_eq!(*extender, "http://127.0.0.1:9110");
    *extender = json!(NOBODY);
    configuration
}
