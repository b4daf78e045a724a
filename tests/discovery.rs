//! Agents found through EndpointSlices, on a real API server and with the rights that are shipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use filmgate::readings::client::AgentEndpoint;
use filmgate::readings::discovery::{SliceSelector, watch_slices};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::cluster::{Cluster, ClusterOptions};
use support::kubeconfig::User;
use support::manifests::{SIDECAR, apply_rights};
use tokio::sync::watch;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

fn slice(name: &str, service: &str, endpoints: Value) -> EndpointSlice {
    let slice = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "readings", "port": 9112, "protocol": "TCP"}],
    });
    serde_json::from_value(slice).unwrap()
}

async fn become_equal(agents: &mut watch::Receiver<Vec<AgentEndpoint>>, expected: &[&str]) {
    let text = |agent: &AgentEndpoint| format!("{} {}", agent.node, agent.url);
    let is_equal =
        |agents: &Vec<AgentEndpoint>| agents.iter().map(text).eq(expected.iter().copied());
    let waited = timeout(DEADLINE, agents.wait_for(is_equal)).await.map(|found| found.map(drop));
    let Ok(Ok(())) = waited else {
        panic!("expected {expected:?}, last seen {:?}", agents.borrow());
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_come_change_and_go_with_their_endpoints() {
    let mut cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    apply_rights(&cluster.admin(), SIDECAR).await;
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.admin(), "filmgate");
    let create = async |slice| slices.create(&PostParams::default(), &slice).await.unwrap();
    let ready =
        json!([{"addresses": ["10.1.0.1"], "nodeName": "n0", "conditions": {"ready": true}}]);
    create(slice("a", "filmgate-agent", ready.clone())).await;
    create(slice("other", "something-else", ready)).await;

    let selector = SliceSelector {
        namespace: "filmgate".into(),
        labels: "kubernetes.io/service-name=filmgate-agent".into(),
        port: "readings".into(),
        is_tls: false,
    };
    let (publish, mut agents) = watch::channel(Vec::new());
    let watching =
        tokio::spawn(watch_slices(cluster.client(User::Filmgate).await, selector, publish));
    become_equal(&mut agents, &["n0 http://10.1.0.1:9112/"]).await;

    create(slice("b", "filmgate-agent", json!([{"addresses": ["10.1.0.2"], "nodeName": "n1"}])))
        .await;
    become_equal(&mut agents, &["n0 http://10.1.0.1:9112/", "n1 http://10.1.0.2:9112/"]).await;

    let moved = json!({"endpoints": [{"addresses": ["10.1.0.9"], "nodeName": "n0"}]});
    slices.patch("a", &PatchParams::default(), &Patch::Merge(moved)).await.unwrap();
    become_equal(&mut agents, &["n0 http://10.1.0.9:9112/", "n1 http://10.1.0.2:9112/"]).await;

    // While the API server is away nobody is forgotten; what it then lacks is.
    cluster.kill_api_server();
    cluster.restart_api_server().await;
    assert_eq!(agents.borrow().len(), 2);
    slices.delete("b", &DeleteParams::default()).await.unwrap();
    become_equal(&mut agents, &["n0 http://10.1.0.9:9112/"]).await;

    drop(agents);
    timeout(DEADLINE, watching).await.expect("the watch ends with its listeners").unwrap();
}
