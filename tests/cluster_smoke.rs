//! The control plane that other tests stand on, itself tested: it schedules, its
//! kube-scheduler calls extenders, and its API server can be killed.

mod support;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::extract::State;
use axum::http::Request;
use axum::routing::post;
use axum::{Json, Router};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use support::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use support::eventually::{eventually, throughout};
use support::kubeconfig::User;
use support::metrics::Metrics;
use support::objects::{node, pod};
use support::process::Process;
use support::scheduler::{Extender, configuration};

const DEADLINE: Duration = Duration::from_secs(30);

const WITHOUT_CONTROLLERS: ClusterOptions = ClusterOptions { controller_manager: false };

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_gpu_is_scheduled_and_runs() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let _scheduler = start_scheduler(&cluster, &[]);
    cluster.add_nodes([node("n0"), node("n1").gpus(8)]).await;

    cluster.add_pod(pod("p0")).await;
    cluster.node_of("p0").await;
    let running = reaches_phase(&cluster, "p0", "Running").await;
    let container = &running.status.unwrap().container_statuses.unwrap()[0];
    assert!(container.state.as_ref().unwrap().running.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_ends_its_containers_before_it_goes() {
    let cluster = Cluster::start(WITHOUT_CONTROLLERS).await;
    let _scheduler = start_scheduler(&cluster, &[]);
    cluster.add_nodes([node("n0")]).await;
    cluster.add_pod(pod("p0")).await;
    let running = reaches_phase(&cluster, "p0", "Running").await;

    let pods = cluster.pods();
    let version = running.metadata.resource_version.unwrap();
    let watch = WatchParams::default().fields("metadata.name=p0");
    let mut events = pods.watch(&watch, &version).await.unwrap().boxed();
    pods.delete("p0", &DeleteParams::default()).await.unwrap();
    let last_state = eventually(DEADLINE, "p0 gone", async || match events.try_next().await {
        Ok(Some(WatchEvent::Deleted(pod))) => Ok(pod),
        other => Err(format!("{other:?}")),
    })
    .await;

    let status = last_state.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    let container = &status.container_statuses.unwrap()[0];
    assert!(container.state.as_ref().unwrap().terminated.is_some());
}

/// kwok deletes by name, so a second deletion may hit the next pod of that name.
#[tokio::test(flavor = "multi_thread")]
async fn kwok_deletes_a_pod_once() {
    let cluster = Cluster::start(WITHOUT_CONTROLLERS).await;
    let _scheduler = start_scheduler(&cluster, &[]);
    cluster.add_nodes([node("n0")]).await;
    cluster.add_pod(pod("p0")).await;
    reaches_phase(&cluster, "p0", "Running").await;

    let pods = cluster.pods();
    pods.delete("p0", &DeleteParams::default()).await.unwrap();
    eventually(DEADLINE, "p0 gone", async || match pods.get_opt("p0").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    throughout(Duration::from_secs(1), async || {
        assert_eq!(deletions_of_nothing(&cluster).await.unwrap(), 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_work_is_done_succeeds_and_stays() {
    let cluster = Cluster::start(WITHOUT_CONTROLLERS).await;
    let _scheduler = start_scheduler(&cluster, &[]);
    cluster.add_nodes([node("n0")]).await;
    cluster.add_pod(pod("p0")).await;
    reaches_phase(&cluster, "p0", "Running").await;

    cluster.complete_pod("p0").await;
    let done = reaches_phase(&cluster, "p0", "Succeeded").await;
    assert_eq!(done.metadata.deletion_timestamp, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_the_extender_about_gpu_pods_only() {
    let cluster = Cluster::start(WITHOUT_CONTROLLERS).await;
    let (extender, mut asked) = start_extender("n1").await.unwrap();
    let _scheduler = start_scheduler(&cluster, &[extender]);
    let nodes = ["n0", "n1", "n2"].map(|name| node(name).gpus(8));
    cluster.add_nodes(nodes).await;

    cluster.add_pod(pod("without-gpu")).await;
    cluster.node_of("without-gpu").await;
    cluster.add_priority(7).await;
    let with_gpu = pod("with-gpu").gpus(1).vram("12Gi").steered().priority(7);
    cluster.add_pod(with_gpu).await;
    assert_eq!(cluster.node_of("with-gpu").await, "n1");

    let arguments = asked.recv().await.unwrap();
    let asked_about = &arguments["Pod"];
    assert_eq!(asked_about["metadata"]["name"], "with-gpu");
    assert_eq!(asked_about["metadata"]["annotations"]["filmgate.dev/vram"], "12Gi");
    assert_eq!(asked_about["spec"]["priority"], 7);
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

#[tokio::test(flavor = "multi_thread")]
async fn filmgate_has_no_rights_but_those_it_is_granted() {
    let cluster = Cluster::start(WITHOUT_CONTROLLERS).await;
    let pods: Api<Pod> = Api::all(cluster.client(User::Filmgate).await);
    let refusal = pods.list(&ListParams::default()).await.unwrap_err();
    assert!(refusal.to_string().contains("forbidden"), "{refusal}");
}

fn start_scheduler(cluster: &Cluster, extenders: &[Extender]) -> Process {
    let kubeconfig = cluster.kubeconfig(User::Scheduler);
    cluster.start_scheduler(SchedulerOptions {
        config_yaml: configuration(&kubeconfig, extenders).to_string(),
        name: "kube-scheduler".to_owned(),
    })
}

/// How often the API server was asked to delete a pod that there was not.
async fn deletions_of_nothing(cluster: &Cluster) -> anyhow::Result<f64> {
    let request = Request::get("/metrics").body(Vec::new())?;
    let metrics = Metrics::of(cluster.admin().request_text(request).await?);
    let labels = [("verb", "DELETE"), ("resource", "pods"), ("code", "404")];
    Ok(metrics.sum("apiserver_request_total", &labels))
}

async fn reaches_phase(cluster: &Cluster, name: &str, phase: &str) -> Pod {
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
