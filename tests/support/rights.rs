//! A cluster in which filmgate has the rights that it ships with, and no others.

use std::time::Duration;

use filmgate::cluster;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use super::cluster::{Cluster, ClusterOptions};
use super::eventually::eventually;
use super::kubeconfig::User;
use super::manifests::{SIDECAR, apply_rights};

/// What an API server needs to learn of a Role, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// A fence tries until it is answered; a test does not wait that long.
const TEST_DEADLINE: Duration = Duration::from_secs(120);

/// A control plane without a scheduler, where its shipped rights are in force.
pub async fn cluster_with_rights() -> Cluster {
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    apply_rights(&cluster.admin(), SIDECAR).await;
    let pods: Api<Pod> = Api::all(filmgate_client(&cluster).await);
    eventually(DEADLINE, "the rights in force", async || pods.list(&ListParams::default()).await)
        .await;
    cluster
}

/// filmgate's own client with its own rights.
pub async fn filmgate_client(cluster: &Cluster) -> Client {
    let client = cluster::connect(Some(&cluster.kubeconfig(User::Filmgate))).await;
    client.expect("a kubeconfig to use")
}

/// The test, or its failure when it takes too long.
pub async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(TEST_DEADLINE, test).await.expect("an end of the test");
}
