//! `filmgate explain` as a person runs it: through the API server, which asks the kubelet of the
//! extender's pod for a port-forward. kwok serves that kubelet's side for real.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::support::binaries;
use super::support::eventually::eventually;
use super::support::kubeconfig::User;
use super::support::objects::pod;
use super::support::port::ReservedPort;
use super::support::process::Process;
use super::support::site::{START_DEADLINE, flag};
use super::world::{SimulatedNode, World, WorldOptions};

/// The node that the extender's pod runs on. The world's own kwok leaves it alone.
const NODE: &str = "control-plane";

#[tokio::test(flavor = "multi_thread")]
async fn explain_reaches_the_extender_through_a_port_forward() {
    let nodes = vec![SimulatedNode::new("n0", &[24])];
    let world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    world.cluster.add_pod(pod("waits").gpus(1).vram("40Gi").steered()).await;
    world.refused("waits").await;
    let pod = ["explain", "default/waits", "--output", "json"];

    let nowhere = filmgate(&world, &pod);
    let error = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(error.contains("no running filmgate extender in namespace filmgate"), "{error}");

    let kubelet_port = ReservedPort::reserve();
    let _kubelet = start_kubelet(&world, &kubelet_port);
    add_extender_pod(&world, &kubelet_port).await;
    let explained = eventually(START_DEADLINE, "the kubelet's port-forward", async || {
        let output = filmgate(&world, &pod);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(output.stdout) } else { Err(error) }
    })
    .await;
    let explained: Value = serde_json::from_slice(&explained).unwrap();
    assert_eq!(explained["pod"]["name"], "waits");
    let nodes = explained["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["node"] == "n0").unwrap();
    assert_eq!(node["reason"]["text"], "not enough free VRAM");
}

/// The command line, with the administrator's kubeconfig and no address.
fn filmgate(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.args(arguments).arg("--kubeconfig").arg(world.cluster.kubeconfig(User::Admin));
    command.env_remove("FILMGATE_SERVER").output().unwrap()
}

/// A kubelet's port-forward, from the extender's port in its pod to where it listens in the test.
fn start_kubelet(world: &World, port: &ReservedPort) -> Process {
    let mut kwok = Command::new(binaries::folder().join("kwok"));
    kwok.arg(flag("kubeconfig", world.cluster.kubeconfig(User::Kwok).display()));
    kwok.arg(flag("config", kubelet_config(world).display()));
    kwok.arg(flag("server-address", port.address()));
    let certificate = world.cluster.ca();
    kwok.arg(flag("tls-cert-file", certificate.display()));
    kwok.arg(flag("tls-private-key-file", certificate.with_extension("key").display()));
    Process::spawn("kubelet", kwok, world.cluster.folder())
}

fn kubelet_config(world: &World) -> PathBuf {
    let extender: u16 = world.verbs_url().rsplit(':').next().unwrap().parse().unwrap();
    let forward = json!({
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterPortForward",
        "metadata": {"name": "extender"},
        "spec": {"forwards": [
            {"ports": [9110], "target": {"address": "127.0.0.1", "port": extender}},
        ]},
    });
    // kwok wants nodes to play: here it gets none.
    let config = fs::read_to_string(binaries::source("kwok.yaml")).unwrap();
    let config = config
        .replace("LabelSelector: type=kwok", "LabelSelector: type=none")
        .replace("options:", "options:\n  enableDebuggingHandlers: true");
    let path = world.cluster.folder().join("kubelet.yaml");
    fs::write(&path, format!("{config}\n---\n{forward}\n")).unwrap();
    path
}

/// The extender's pod as the cluster shows it, on a node whose kubelet is at that port.
async fn add_extender_pod(world: &World, kubelet: &ReservedPort) {
    let admin = world.cluster.admin();
    let node = json!({
        "metadata": {"name": NODE},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.number()}},
        },
    });
    create_with_status::<Node>(&Api::all(admin.clone()), NODE, node).await;
    let pod = json!({
        "metadata": {
            "name": "filmgate-0",
            "labels": {
                "app.kubernetes.io/name": "filmgate", "app.kubernetes.io/component": "extender",
            },
        },
        "spec": {
            "nodeName": NODE,
            "serviceAccountName": "filmgate",
            "containers": [{"name": "extender", "image": "filmgate"}],
        },
        "status": {"phase": "Running"},
    });
    create_with_status::<Pod>(&Api::namespaced(admin, "filmgate"), "filmgate-0", pod).await;
}

async fn create_with_status<K>(api: &Api<K>, name: &str, object: Value)
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let status = json!({"status": object["status"]});
    let new: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &new).await.unwrap();
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}
