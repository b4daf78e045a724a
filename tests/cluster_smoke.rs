//! The control plane that other tests stand on, itself tested: it schedules, its
//! kube-scheduler calls extenders, and its API server can be killed.

mod support;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use support::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use support::eventually::eventually;
use support::kubeconfig::User;
use support::objects::{node, pod};
use support::process::Process;
use support::scheduler::{Extender, configuration};

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn schedules_runs_and_deletes_a_pod_without_a_gpu() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let _scheduler = start_scheduler(&cluster, &[]);
    cluster.add_nodes([node("n0"), node("n1").gpus(8)]).await;

    cluster.add_pod(pod("p0")).await;
    cluster.node_of("p0").await;
    awaits_phase(&cluster, "p0", "Running").await;

    let pods = cluster.pods();
    pods.delete("p0", &DeleteParams::default()).await.unwrap();
    eventually(DEADLINE, "p0 gone", async || match pods.get_opt("p0").await? {
        None => Ok(()),
        Some(pod) => Err(anyhow::anyhow!("{:?}", pod.status)),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_the_extender_about_gpu_pods_only() {
    let options = ClusterOptions { controller_manager: false };
    let cluster = Cluster::start(options).await;
    let (extender, mut asked) = start_extender("n1").await.unwrap();
    let _scheduler = start_scheduler(&cluster, &[extender]);
    let nodes = ["n0", "n1", "n2"].map(|name| node(name).gpus(8));
    cluster.add_nodes(nodes).await;

    cluster.add_pod(pod("without-gpu")).await;
    cluster.node_of("without-gpu").await;
    cluster.add_pod(pod("with-gpu").gpus(1).steered()).await;
    assert_eq!(cluster.node_of("with-gpu").await, "n1");

    let arguments = asked.recv().await.unwrap();
    assert_eq!(arguments["Pod"]["metadata"]["name"], "with-gpu");
    assert_eq!(arguments["NodeNames"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_killed_comes_back_with_its_data() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await;
    let _scheduler = start_scheduler(&cluster, &[]);
    cluster.add_nodes([node("n0")]).await;
    let before = cluster.add_pod(pod("p0")).await;
    cluster.node_of("p0").await;

    cluster.kill_api_server();
    assert!(cluster.pods().get("p0").await.is_err());
    cluster.restart_api_server().await;

    let after = cluster.pods().get("p0").await.unwrap();
    assert_eq!(after.metadata.uid, before.metadata.uid);
    cluster.add_pod(pod("p1")).await;
    assert_eq!(cluster.node_of("p1").await, "n0");
}

fn start_scheduler(cluster: &Cluster, extenders: &[Extender]) -> Process {
    let kubeconfig = cluster.kubeconfig(User::Scheduler);
    cluster.start_scheduler(SchedulerOptions {
        config_yaml: configuration(&kubeconfig, extenders),
        name: "kube-scheduler".to_owned(),
    })
}

async fn awaits_phase(cluster: &Cluster, name: &str, phase: &str) -> Pod {
    let pods = cluster.pods();
    eventually(DEADLINE, &format!("{name} {phase}"), async || {
        let pod = pods.get(name).await?;
        let status = pod.status.clone().unwrap_or_default();
        if status.phase.as_deref() == Some(phase) {
            Ok(pod)
        } else {
            Err(anyhow::anyhow!("{status:?}"))
        }
    })
    .await
}

type Asked = mpsc::UnboundedSender<Value>;

/// An extender whose filter lets one node pass and hands on what it was asked.
async fn start_extender(
    node: &'static str,
) -> io::Result<(Extender, mpsc::UnboundedReceiver<Value>)> {
    let (sender, asked) = mpsc::unbounded_channel();
    let filter = move |State(sender): State<Asked>, Json(arguments): Json<Value>| async move {
        let _ = sender.send(arguments);
        Json(json!({"NodeNames": [node]}))
    };
    let router = Router::new().route("/filter", post(filter)).with_state(sender);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut extender = Extender::at(format!("http://{}", listener.local_addr()?));
    extender.verbs = vec![("filterVerb", "filter")];
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((extender, asked))
}
