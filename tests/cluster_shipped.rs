//! The shipped scheduler configuration and rights, under the real kube-scheduler.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::{Value, json};

use support::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use support::eventually::eventually;
use support::kubeconfig::User;
use support::manifests::{SIDECAR, apply_rights, shipped};
use support::objects::{node, pod};
use support::port::ReservedPort;
use support::process::Process;

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
