//! The shipped scheduler configuration and rights, under the real kube-scheduler, and the shipped
//! agent.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use clap::Parser;
use filmgate::cli::Cli;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::{Value, json};

use support::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use support::eventually::eventually;
use support::kubeconfig::User;
use support::manifests::{apply, shipped};
use support::objects::{node, pod};

const DEADLINE: Duration = Duration::from_secs(30);
/// The discard service's port, which is closed.
const NOBODY: &str = "http://127.0.0.1:9";

#[tokio::test(flavor = "multi_thread")]
async fn kube_scheduler_leads_and_schedules_under_the_shipped_configuration_and_rights() {
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    apply(&cluster.admin(), &shipped("deploy/rbac.yaml")).await;
    apply(&cluster.admin(), &shipped("deploy/scheduler-rbac.yaml")).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_taken_as_it_is_shipped_and_understands_its_arguments() {
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    for file in ["deploy/rbac.yaml", "deploy/agent-rbac.yaml", "deploy/agent.yaml"] {
        apply(&cluster.admin(), &shipped(file)).await;
    }
    let agents: Api<DaemonSet> = Api::namespaced(cluster.admin(), "filmgate");
    let template = agents.get("filmgate-agent").await.unwrap().spec.template;
    let containers = template.spec.unwrap().containers;
    let [agent] = &containers[..] else { panic!("{containers:?}") };
    let arguments = agent.args.iter().flatten().map(String::as_str);
    let understood = Cli::try_parse_from(["filmgate"].into_iter().chain(arguments));
    assert!(understood.is_ok(), "{}", understood.unwrap_err());
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
