//! A control plane with simulated GPU nodes, on which one scheduler after another is measured.

use std::fs;
use std::process::Command;
use std::time::Duration;

use filmgate::agent::simulated::SimulatedFleet;
use filmgate::clock::Clock;
use filmgate::engine::GpuUuid;
use futures::{StreamExt, stream};
use kube::api::{DeleteParams, ListParams};
use tokio_util::sync::CancellationToken;

use super::support::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use super::support::eventually::eventually;
use super::support::kubeconfig::User;
use super::support::kubelets::Kubelets;
use super::support::manifests;
use super::support::metrics::Metrics;
use super::support::objects::PodBuilder;
use super::support::port::ReservedPort;
use super::support::process::Process;
use super::support::scheduler::{Extender, configuration};
use super::support::simulated::{SimulatedNode, config_with, serve_agents};

/// Anything that takes longer on a busy machine has gone wrong.
pub const DEADLINE: Duration = Duration::from_secs(90);
const CREATED_AT_A_TIME: usize = 16;

/// The stage. It ends with the value.
pub struct Stage {
    // Dropped first: it watches the cluster.
    _kubelets: Kubelets,
    pub cluster: Cluster,
    pub fleet: SimulatedFleet,
    nodes: Vec<SimulatedNode>,
    agents_url: String,
    agents: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.agents.cancel();
    }
}

impl Stage {
    pub async fn start(nodes: Vec<SimulatedNode>) -> Self {
        let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
        manifests::apply_rights(&cluster.admin(), manifests::SIDECAR).await;
        let fleet = SimulatedFleet::new(Clock::monotonic());
        nodes.iter().for_each(|node| node.add_to(&fleet));
        cluster.add_nodes(nodes.iter().map(SimulatedNode::builder)).await;
        let agents = CancellationToken::new();
        let agents_url = serve_agents(&fleet, &agents).await;
        let kubelets = Kubelets::start(cluster.admin(), fleet.clone());
        Self { _kubelets: kubelets, cluster, fleet, nodes, agents_url, agents }
    }

    /// The shipped binary; returns when it has read every node.
    pub async fn start_filmgate(&self) -> Filmgate {
        let (verbs, ops) = (ReservedPort::reserve(), ReservedPort::reserve());
        let settings = "leaderElection: {mode: off}\n";
        let config = config_with(&self.nodes, &verbs, &ops, &self.agents_url, settings);
        let path = self.cluster.folder().join("filmgate.yaml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
        command.arg("extender").arg("--config").arg(path);
        command.arg("--kubeconfig").arg(self.cluster.kubeconfig(User::Filmgate));
        let process = Process::spawn("filmgate", command, self.cluster.folder());
        let filmgate = Filmgate { process, verbs, ops };
        eventually(DEADLINE, "every node read", async || {
            let read = filmgate.metrics().await.series("filmgate_reading_age_seconds").len();
            (read == self.nodes.len()).then_some(()).ok_or(format!("{read} read"))
        })
        .await;
        filmgate
    }

    /// A kube-scheduler as shipped, but for its longest backoff where that is given.
    pub fn start_scheduler(&self, extender: Option<Extender>, backoff: Option<u32>) -> Process {
        let extenders = Vec::from_iter(extender);
        let mut config = configuration(&self.cluster.kubeconfig(User::Scheduler), &extenders);
        if let Some(seconds) = backoff {
            config["podMaxBackoffSeconds"] = seconds.into();
        }
        let name = "kube-scheduler".to_owned();
        self.cluster.start_scheduler(SchedulerOptions { config_yaml: config.to_string(), name })
    }

    pub async fn create_pods(&self, pods: impl IntoIterator<Item = PodBuilder>) {
        stream::iter(pods)
            .for_each_concurrent(CREATED_AT_A_TIME, async |pod| {
                self.cluster.add_pod(pod).await;
            })
            .await;
    }

    /// Returns when there is no pod any more.
    pub async fn delete_pods(&self) {
        let pods = self.cluster.pods();
        pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        eventually(DEADLINE, "all pods gone", async || {
            let left = pods.list(&ListParams::default().limit(1)).await.ok()?.items.len();
            (left == 0).then_some(())
        })
        .await;
    }

    /// A node's only GPU.
    pub fn gpu(&self, node: &str) -> GpuUuid {
        self.fleet.gpus(node).unwrap().remove(0)
    }
}

/// A running extender.
pub struct Filmgate {
    pub process: Process,
    verbs: ReservedPort,
    ops: ReservedPort,
}

impl Filmgate {
    /// As kube-scheduler is told of it.
    pub fn extender(&self) -> Extender {
        Extender::at(format!("http://{}", self.verbs.address()))
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics::scrape(&format!("http://{}/metrics", self.ops.address())).await
    }

    /// Filter calls that it has answered.
    pub async fn filter_calls(&self) -> f64 {
        self.metrics().await.sum("filmgate_request_duration_seconds_count", &[("verb", "filter")])
    }
}

pub fn node_name(number: usize) -> String {
    format!("n{number:04}")
}
