//! Simulated GPU nodes, and the agents and extenders that are told of them.

use std::sync::Arc;

use filmgate::agent::simulated::{GpuSpec, SimulatedFleet};
use filmgate::engine::Bytes;
use filmgate::readings::server::{self, Pace};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::objects::{NodeBuilder, node};
use super::port::ReservedPort;

/// One world at a time: a machine that runs several control planes at once measures nothing but
/// itself.
pub static TURN: Mutex<()> = Mutex::const_new(());

/// A simulated GPU node.
#[derive(Clone)]
pub struct SimulatedNode {
    name: String,
    gpus: Vec<GpuSpec>,
    foreign: Vec<(usize, Bytes)>,
    is_lost: bool,
    joins_later: bool,
}

impl SimulatedNode {
    /// A node with GPUs of so many GiB, each shared as 16 replicas: counts never refuse.
    pub fn new(name: &str, gpus_gib: &[u64]) -> Self {
        let gpus = gpus_gib.iter().map(|gib| GpuSpec::gib(*gib).replicas(16)).collect();
        Self {
            name: name.to_owned(),
            gpus,
            foreign: Vec::new(),
            is_lost: false,
            joins_later: false,
        }
    }

    /// Each GPU is shared as so many replicas.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.gpus.iter_mut().for_each(|gpu| gpu.replicas = replicas);
        self
    }

    /// The driver reserves so much of each GPU.
    pub fn reserved(mut self, bytes: Bytes) -> Self {
        self.gpus.iter_mut().for_each(|gpu| gpu.reserved = bytes);
        self
    }

    /// So much memory of one GPU is in use by no pod.
    pub fn foreign_gib(self, gpu: usize, gib: u64) -> Self {
        self.foreign(gpu, Bytes::gib(gib))
    }

    /// The same in bytes.
    pub fn foreign(mut self, gpu: usize, bytes: Bytes) -> Self {
        self.foreign.push((gpu, bytes));
        self
    }

    /// Its agent cannot be reached.
    pub fn lost(mut self) -> Self {
        self.is_lost = true;
        self
    }

    /// It is not in the cluster at first, though it is known where its agent will be.
    pub fn later(mut self) -> Self {
        self.joins_later = true;
        self
    }

    /// Whether it is in the cluster from the start.
    pub fn is_there(&self) -> bool {
        !self.joins_later
    }

    /// Whether its agent can be read.
    pub fn is_readable(&self) -> bool {
        !self.is_lost
    }

    /// As its kubelet registers it.
    pub fn builder(&self) -> NodeBuilder {
        node(&self.name).gpus(self.gpus.iter().map(|gpu| gpu.replicas).sum())
    }

    /// Puts it into the fleet.
    pub fn add_to(&self, fleet: &SimulatedFleet) {
        fleet.add_node(&self.name, self.gpus.clone());
        let gpus = fleet.gpus(&self.name).expect("the node");
        for (gpu, bytes) in &self.foreign {
            fleet.set_foreign(&self.name, &gpus[*gpu], *bytes).expect("its GPU");
        }
        fleet.set_lost(&self.name, self.is_lost).expect("the node");
    }
}

/// Serves the agents of a fleet; where.
pub async fn serve_agents(fleet: &SimulatedFleet, shutdown: &CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = server::router(Arc::new(fleet.clone()), Pace::default(), shutdown.clone());
    tokio::spawn(server::serve(listener, router, shutdown.clone()));
    url
}

/// A configuration of filmgate with these agents and addresses, and more lines.
pub fn config_with(
    nodes: &[SimulatedNode],
    verbs: &ReservedPort,
    ops: &ReservedPort,
    agents_url: &str,
    settings: &str,
) -> String {
    let names = nodes.iter().map(|node| &*node.name);
    config_naming(names, verbs, ops, agents_url, settings)
}

/// The same with the nodes' names.
pub fn config_naming<'a>(
    nodes: impl IntoIterator<Item = &'a str>,
    verbs: &ReservedPort,
    ops: &ReservedPort,
    agents_url: &str,
    settings: &str,
) -> String {
    let agent = |node| format!("  - {{node: {node}, url: \"{agents_url}\"}}");
    let agents = nodes.into_iter().map(agent);
    format!(
        "listen:\n  verbs: {}\n  metrics: {}\nagents:\n  static:\n{}\n{}",
        verbs.address(),
        ops.address(),
        agents.collect::<Vec<_>>().join("\n"),
        settings,
    )
}
