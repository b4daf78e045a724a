//! Everything that runs in a demo: simulated agents behind the agents' server, the extender behind
//! its own routes, and between them the streams that they would have in a cluster. All on loopback
//! ports; the clock is the demo's.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use reqwest::Url;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::DemoError;
use super::cluster::{MemoryCluster, NewPod};
use super::fleet::{Fleet, GPUS_PER_NODE, node_name};
use crate::agent::simulated::{GpuSpec, SimulatedFleet};
use crate::clock::ManualClock;
use crate::engine::{Bytes, GpuUuid, NodeFacts, NodeName, NodeUid, PodRef, PodUid};
use crate::extender::agents::AgentLink;
use crate::extender::gate::{Gate, GateSettings, SamplingSource as _};
use crate::extender::http;
use crate::readings::client::AgentEndpoint;
use crate::readings::server::{self, Pace};

/// The streams' patience, in virtual time. The clock leaps by a tick at a time, which must not
/// look like an agent that fell silent.
const STREAM_PATIENCE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Step in which virtual time follows real time once the day is over.
const REAL_TIME_STEP: Duration = Duration::from_millis(100);
/// How long the parts may take to end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);

/// The running parts. See the module's head.
pub struct Stack {
    clock: ManualClock,
    machines: SimulatedFleet,
    cluster: Arc<MemoryCluster>,
    gate: Arc<Gate>,
    agents: AgentLink,
    nodes: Vec<NodeName>,
    addresses: Addresses,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Where everything is served.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The verbs and `explain`.
    pub extender: Url,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub metrics: Url,
    /// The agents' readings.
    pub agents: Url,
}

impl Stack {
    /// Starts everything, on ports of 127.0.0.1 that are free.
    ///
    /// # Errors
    /// When a port or client cannot be had, or an agent does not answer.
    pub async fn start(fleet: &Fleet) -> Result<Self, DemoError> {
        let clock = ManualClock::new();
        let machines = machines(fleet, &clock)?;
        let cluster = Arc::new(MemoryCluster::default());
        let gate = Gate::new(GateSettings::default(), cluster.clone(), clock.clock());
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let served = server::router(Arc::new(machines.clone()), Pace::default(), shutdown.clone());
        let addresses = Addresses {
            extender: serve(http::verbs_router(gate.clone()), &tasks, &shutdown).await?,
            metrics: serve(http::ops_router(gate.clone()), &tasks, &shutdown).await?,
            agents: serve(served, &tasks, &shutdown).await?,
        };
        let nodes = machines.node_names();
        let endpoint =
            |node: &NodeName| AgentEndpoint { node: node.clone(), url: addresses.agents.clone() };
        let endpoints = nodes.iter().map(endpoint).collect();
        let agents = AgentLink::to(endpoints, STREAM_PATIENCE, clock.clock(), gate.clone())?;
        let stack =
            Self { clock, machines, cluster, gate, agents, nodes, addresses, tasks, shutdown };
        stack.introduce_nodes().await?;
        Ok(stack)
    }

    /// The node objects appear, and are read for the first time.
    async fn introduce_nodes(&self) -> Result<(), DemoError> {
        for name in &self.nodes {
            let uid = NodeUid::from(format!("node-{name}"));
            self.gate.apply_node(NodeFacts {
                name: name.clone(),
                uid,
                is_mps: false,
                is_marked_idle: false,
            });
        }
        self.gate.set_ready(true);
        self.sample_all().await
    }

    /// The demo's clock: gate, agents and streams show its time.
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The machines.
    #[must_use]
    pub fn machines(&self) -> &SimulatedFleet {
        &self.machines
    }

    /// The API server's stand-in.
    #[must_use]
    pub fn cluster(&self) -> &MemoryCluster {
        &self.cluster
    }

    /// Where everything is served.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// A pod is created, and the watch shows it.
    ///
    /// # Errors
    /// When it is no pod.
    pub fn create_pod(&self, new: NewPod<'_>) -> Result<PodRef, DemoError> {
        let created =
            self.cluster.create(new).map_err(|error| DemoError::Pod(error.to_string()))?;
        self.show_changes();
        Ok(created)
    }

    /// A pod has ended and is deleted, and the watch shows it.
    pub fn delete_pod(&self, pod: &PodUid) {
        let last = self.cluster.delete(pod);
        self.gate.delete_pod(pod, last);
    }

    /// The watch shows what has changed.
    pub fn show_changes(&self) {
        for facts in self.cluster.take_changes() {
            self.gate.apply_pod(facts);
        }
    }

    /// Asks every agent for a sampling and lets the gate take it in: what it decides next, it
    /// decides by the machines as they are now.
    ///
    /// # Errors
    /// When an agent does not answer.
    pub async fn sample_all(&self) -> Result<(), DemoError> {
        let asks = self.nodes.iter().map(|node| self.agents.sample_now(node));
        let answers = futures::future::join_all(asks).await;
        for (node, answer) in self.nodes.iter().zip(answers) {
            let unanswered = |why| DemoError::Agent { node: node.clone(), why };
            let fresh = answer.map_err(unanswered)?;
            self.gate.apply_reading(fresh.reading, fresh.received_at, fresh.began_after);
        }
        Ok(())
    }

    /// The gate's own round: holds end, waiting pods are woken.
    pub fn round(&self) {
        let _nodes_that_are_sampled_before_each_cycle_anyway = self.gate.round();
    }

    /// Bytes per GPU that the gate keeps for pods, held or charged.
    #[must_use]
    pub fn promised(&self) -> HashMap<GpuUuid, Bytes> {
        let mut promised = HashMap::new();
        self.gate.with_ledger(|ledger| {
            ledger.for_each_gpu(|_, gpu| {
                promised.insert(gpu.uuid.clone(), gpu.charged + gpu.held);
            });
        });
        promised
    }

    /// From now on time goes by as it does outside, and the gate works by itself.
    pub fn go_on_in_real_time(&self) {
        let (clock, stop) = (self.clock.clone(), self.shutdown.clone());
        self.tasks.spawn(stop.run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(REAL_TIME_STEP).await;
                clock.advance(REAL_TIME_STEP);
            }
        }));
        self.tasks.spawn(self.gate.clone().run(Arc::new(self.agents.clone())));
    }

    /// Ends everything.
    pub async fn shut_down(self) {
        self.gate.drain(SHUTDOWN_DEADLINE).await;
        // First the readers, so that nobody misses the agents.
        drop(self.agents);
        self.shutdown.cancel();
        self.tasks.close();
        let _late_parts_end_with_the_process =
            tokio::time::timeout(SHUTDOWN_DEADLINE, self.tasks.wait()).await;
    }
}

fn machines(fleet: &Fleet, clock: &ManualClock) -> Result<SimulatedFleet, DemoError> {
    let machines = SimulatedFleet::new(clock.clock());
    let gpus: Vec<_> = fleet.gpus().collect();
    let spec = GpuSpec { total: fleet.total(), ..GpuSpec::gib(0) }
        .model("Simulated 80 GiB")
        .reserved(fleet.reserved());
    for (node, gpus) in gpus.chunks(GPUS_PER_NODE).enumerate() {
        machines.add_node(node_name(node).as_str(), spec.clone().times(gpus.len()));
    }
    for gpu in gpus {
        let foreign = fleet.foreign(gpu);
        if foreign > Bytes::ZERO {
            machines.set_foreign(node_name(gpu.node).as_str(), &gpu.uuid(), foreign)?;
        }
    }
    Ok(machines)
}

async fn serve(
    router: Router,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Url, DemoError> {
    let listener = server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false)
        .await
        .map_err(|error| DemoError::Address(error.to_string()))?;
    let address = listener.local_addr()?;
    tasks.spawn(server::serve(listener, router, shutdown.clone()));
    Url::parse(&format!("http://{address}")).map_err(|error| DemoError::Address(error.to_string()))
}
