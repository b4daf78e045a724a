//! A cluster with GPU nodes and filmgate in it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use filmgate::agent::simulated::SimulatedFleet;
use filmgate::clock::Clock;
use filmgate::engine::{Bytes, GpuUuid};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::{MutexGuard, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::support::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use super::support::eventually::eventually;
use super::support::kubeconfig::User;
use super::support::kubelets::Kubelets;
use super::support::manifests;
use super::support::metrics::Metrics;
use super::support::port::ReservedPort;
use super::support::process::Process;
use super::support::proxy::FaultProxy;
use super::support::scheduler::{Extender, configuration};
pub use super::support::simulated::SimulatedNode;
use super::support::simulated::{TURN, config_with, serve_agents};
use super::support::verbs;

mod sight;

/// Anything that takes longer on a busy machine has gone wrong.
const DEADLINE: Duration = Duration::from_secs(30);

/// How kube-scheduler tells the extender the nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `nodeCacheCapable: true`.
    Names,
    /// Whole Node objects.
    Nodes,
}

/// What a world has.
pub struct WorldOptions {
    /// Its GPU nodes.
    pub nodes: Vec<SimulatedNode>,
    /// How kube-scheduler tells the extender the nodes.
    pub mode: Mode,
    /// The extender's weight in kube-scheduler.
    pub weight: i64,
    /// Extenders that kube-scheduler asks after filmgate's.
    pub later_extenders: Vec<Extender>,
    /// More lines of filmgate's configuration.
    pub settings: String,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            mode: Mode::Names,
            weight: 160,
            later_extenders: Vec::new(),
            settings: String::new(),
        }
    }
}

/// A running world. Everything in it ends with the value, in this order.
pub struct World {
    scheduler: Process,
    extender: Option<Process>,
    kubelets: Kubelets,
    fleet: SimulatedFleet,
    agents: CancellationToken,
    /// Between the extender and the API server.
    pub proxy: FaultProxy,
    /// The control plane.
    pub cluster: Cluster,
    verbs: ReservedPort,
    ops: ReservedPort,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// Starts everything, and returns when the extender is ready and has read every node that can
    /// be read.
    pub async fn start(options: WorldOptions) -> Self {
        let turn = TURN.lock().await;
        let cluster = Cluster::start(ClusterOptions::default()).await;
        cluster.add_nodes(options.nodes.iter().map(SimulatedNode::builder)).await;
        manifests::apply_rights(&cluster.admin(), manifests::SIDECAR).await;

        let fleet = SimulatedFleet::new(Clock::monotonic());
        options.nodes.iter().for_each(|node| node.add_to(&fleet));
        let agents = CancellationToken::new();
        let agents_url = serve_agents(&fleet, &agents).await;
        let kubelets = Kubelets::start(cluster.admin(), fleet.clone());

        let proxy = FaultProxy::start(&cluster.kubeconfig(User::Filmgate), cluster.folder()).await;
        let (verbs, ops) = (ReservedPort::reserve(), ReservedPort::reserve());
        let config = extender_config(&options, &verbs, &ops, &agents_url);
        fs::write(cluster.folder().join("filmgate.yaml"), config).unwrap();
        let scheduler = start_scheduler(&cluster, &options, &verbs);
        let mut world = Self {
            scheduler,
            extender: None,
            kubelets,
            fleet,
            agents,
            proxy,
            cluster,
            verbs,
            ops,
            _turn: turn,
        };
        world.start_extender().await;
        let readable = options.nodes.iter().filter(|node| node.is_readable()).count();
        world.has_read(readable).await;
        world
    }

    /// Starts the extender, and returns when it is ready.
    pub async fn start_extender(&mut self) {
        self.spawn_extender();
        self.extender_ready().await;
    }

    /// Starts the extender.
    pub fn spawn_extender(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
        command.arg("extender");
        command.arg("--config").arg(self.cluster.folder().join("filmgate.yaml"));
        command.arg("--kubeconfig").arg(self.proxy.kubeconfig());
        self.extender = Some(Process::spawn("filmgate", command, self.cluster.folder()));
    }

    /// Waits for the extender to be ready.
    pub async fn extender_ready(&mut self) {
        let url = format!("http://{}/readyz", self.ops.address());
        let extender = self.extender.as_mut().expect("an extender");
        eventually(DEADLINE, "the extender ready", async || {
            extender.assert_running();
            reqwest::get(&url).await?.error_for_status()
        })
        .await;
    }

    /// Kills the extender as a crash would.
    pub fn kill_extender(&mut self) {
        self.extender.take().expect("an extender").kill();
    }

    /// Sends the extender a signal.
    pub fn signal_extender(&mut self, signal: i32) {
        self.extender.as_mut().expect("an extender").signal(signal);
    }

    /// What the extender has logged.
    pub fn extender_log(&self) -> String {
        self.extender.as_ref().expect("an extender").log()
    }

    /// Sends kube-scheduler a signal.
    pub fn signal_scheduler(&mut self, signal: i32) {
        self.scheduler.signal(signal);
    }

    /// Has the extender bind the pod, as kube-scheduler would; what it answers as `Error`.
    pub async fn bind(&self, pod: &str, node: &str) -> String {
        verbs::bind(&self.verbs_url(), &self.cluster, pod, node).await
    }

    /// The extender's metrics now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::scrape(&format!("http://{}/metrics", self.ops.address())).await
    }

    /// What `filmgate explain` prints with these arguments.
    pub fn explain(&self, arguments: &[&str]) -> String {
        verbs::explain(&self.verbs_url(), arguments)
    }

    /// Where the verbs are.
    pub fn verbs_url(&self) -> String {
        format!("http://{}", self.verbs.address())
    }

    /// The UUID of a node's GPU.
    pub fn gpu(&self, node: &str, index: usize) -> String {
        self.gpu_uuid(node, index).to_string()
    }

    fn gpu_uuid(&self, node: &str, index: usize) -> GpuUuid {
        self.fleet.gpus(node).unwrap()[index].clone()
    }

    /// So much memory of one GPU is in use by no pod, from now on.
    pub fn fleet_foreign(&self, node: &str, gpu: usize, gib: u64) {
        let gpu = self.gpu_uuid(node, gpu);
        self.fleet.set_foreign(node, &gpu, Bytes::gib(gib)).unwrap();
    }

    /// The node's agent is lost, or back.
    pub fn set_lost(&self, node: &str, is_lost: bool) {
        self.fleet.set_lost(node, is_lost).unwrap();
    }

    /// Ends the process of a pod that outlived it.
    pub fn end_process(&self, pod: &str) {
        self.kubelets.end_process(pod);
    }

    /// No GPU was ever above its memory, by the simulated truth.
    pub fn assert_no_overcommit(&self) {
        assert_eq!(self.fleet.most_overcommitted(), Bytes::ZERO, "over-committed");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.agents.cancel();
    }
}

fn extender_config(
    options: &WorldOptions,
    verbs: &ReservedPort,
    ops: &ReservedPort,
    agents_url: &str,
) -> String {
    let settings = format!("leaderElection: {{mode: off}}\n{}", options.settings);
    config_with(&options.nodes, verbs, ops, agents_url, &settings)
}

fn start_scheduler(cluster: &Cluster, options: &WorldOptions, verbs: &ReservedPort) -> Process {
    let mut extender = Extender::at(format!("http://{}", verbs.address()));
    extender.weight = options.weight;
    extender.node_cache_capable = options.mode == Mode::Names;
    let kubeconfig: &Path = &cluster.kubeconfig(User::Scheduler);
    let extenders: Vec<_> = [extender].into_iter().chain(options.later_extenders.clone()).collect();
    let config_yaml = configuration(kubeconfig, &extenders).to_string();
    cluster.start_scheduler(SchedulerOptions { config_yaml, name: "kube-scheduler".to_owned() })
}
