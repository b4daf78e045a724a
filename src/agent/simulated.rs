//! A simulated fleet: GPUs, processes, the kubelet's device book and agents with faults.
//!
//! One [`SimulatedFleet`] is both what a test or the demo moves (start a pod, grow it, lose an
//! agent) and the [`Sampler`] that serves the outcome as readings, over the very server that real
//! agents use. It also keeps the [`Truth`] that no reading can show: memory beyond what a GPU has.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

pub use self::gpu::{GpuSpec, Truth};
use self::node::Node;
pub use self::node::{Delivery, Faults, Loss};
pub(super) use self::node::{GpuPlan, NodePlan};
use crate::clock::Clock;
use crate::engine::{Bytes, GpuUuid, NodeName, PodUid, Reading};

mod gpu;
mod moves;
mod node;
mod sampler;

/// DESIGN's `peakWindow`: how far back a pod's peak reaches.
const PEAK_WINDOW: Duration = Duration::from_secs(600);

/// Why a fleet cannot be moved so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// No such node.
    #[error("no simulated node {0}")]
    UnknownNode(String),
    /// The node has no such GPU.
    #[error("simulated node {node} has no GPU {gpu}")]
    UnknownGpu {
        /// The node.
        node: String,
        /// The GPU.
        gpu: GpuUuid,
    },
    /// The pod has no process on that GPU.
    #[error("pod {pod} has no process on GPU {gpu} of simulated node {node}")]
    UnknownPod {
        /// The node.
        node: String,
        /// The GPU.
        gpu: GpuUuid,
        /// The pod.
        pod: PodUid,
    },
}

#[derive(Debug)]
struct NodeCell {
    node: Mutex<Node>,
    movement: watch::Sender<()>,
}

impl NodeCell {
    fn new(node: Node) -> Self {
        Self { node: Mutex::new(node), movement: watch::Sender::new(()) }
    }
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    peak_window: Duration,
    nodes: RwLock<BTreeMap<NodeName, Arc<NodeCell>>>,
}

/// The handle on a simulated fleet; clones move the same fleet. GPUs are named by UUID:
/// [`super::gpu_uuid`] and [`SimulatedFleet::gpus`] tell them.
#[derive(Debug, Clone)]
pub struct SimulatedFleet(Arc<Shared>);

impl SimulatedFleet {
    /// A fleet without nodes, whose peaks reach back 10 minutes of `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::with_peak_window(clock, PEAK_WINDOW)
    }

    /// The same with another peak window.
    #[must_use]
    pub fn with_peak_window(clock: Clock, peak_window: Duration) -> Self {
        Self(Arc::new(Shared { clock, peak_window, nodes: RwLock::default() }))
    }

    /// Adds a node with these GPUs, or gives a known node these GPUs; those that stay the same
    /// keep their processes.
    pub fn add_node(&self, name: &str, gpus: Vec<GpuSpec>) {
        let now = self.0.clock.now();
        let known = self.0.nodes.read().get(name).cloned();
        if let Some(cell) = known {
            cell.node.lock().set_gpus(gpus, now);
            cell.movement.send_replace(());
            return;
        }
        let name = NodeName::from(name);
        let cell = NodeCell::new(Node::new(name.clone(), gpus, now));
        self.0.nodes.write().insert(name, Arc::new(cell));
    }

    /// Makes the fleet what the plans say, and nothing else. Each node changes in one step.
    pub(super) fn become_exactly(&self, plans: Vec<NodePlan>) {
        let wanted: HashSet<_> = plans.iter().map(|plan| NodeName::from(&plan.name)).collect();
        for name in self.node_names().iter().filter(|name| !wanted.contains(*name)) {
            self.remove_node(name.as_str());
        }
        for plan in plans {
            self.put_node(plan);
        }
    }

    fn put_node(&self, plan: NodePlan) {
        let now = self.0.clock.now();
        let name = NodeName::from(&plan.name);
        let cell = {
            let mut nodes = self.0.nodes.write();
            let new = || Arc::new(NodeCell::new(Node::new(name.clone(), Vec::new(), now)));
            let cell = nodes.entry(name.clone()).or_insert_with(new);
            // Before anyone can find a new node: it must not be sampled without its GPUs.
            let mut node = cell.node.lock();
            node.observe(now);
            node.become_exactly(plan, now);
            node.observe(now);
            drop(node);
            Arc::clone(cell)
        };
        cell.movement.send_replace(());
    }

    /// Takes a node out: its streams end, and it is unknown from then on.
    pub fn remove_node(&self, name: &str) {
        let removed = self.0.nodes.write().remove(name);
        if let Some(cell) = removed {
            cell.movement.send_replace(());
        }
    }

    /// The nodes' names, in order.
    #[must_use]
    pub fn node_names(&self) -> Vec<NodeName> {
        self.0.nodes.read().keys().cloned().collect()
    }

    /// The UUIDs of a node's GPUs, by index.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn gpus(&self, node: &str) -> Result<Vec<GpuUuid>, FleetError> {
        let cell = self.cell(node)?;
        let node = cell.node.lock();
        Ok(node.gpus.iter().map(|gpu| gpu.uuid.clone()).collect())
    }

    /// What is true of a GPU now.
    ///
    /// # Errors
    /// When there is no such node or GPU.
    pub fn truth(&self, node: &str, gpu: &GpuUuid) -> Result<Truth, FleetError> {
        let cell = self.cell(node)?;
        let mut state = cell.node.lock();
        state.observe(self.0.clock.now());
        let found = state.gpu_mut(gpu).map(|gpu| gpu.truth());
        found.ok_or_else(|| FleetError::UnknownGpu { node: node.into(), gpu: gpu.clone() })
    }

    /// The most memory that was overcommitted on any GPU at any time: what must stay zero.
    #[must_use]
    pub fn most_overcommitted(&self) -> Bytes {
        let now = self.0.clock.now();
        let cells: Vec<_> = self.0.nodes.read().values().cloned().collect();
        let worst = |cell: &Arc<NodeCell>| {
            let mut node = cell.node.lock();
            node.observe(now);
            node.gpus.iter().map(|gpu| gpu.truth().most_overcommitted).max()
        };
        cells.iter().filter_map(worst).max().unwrap_or_default()
    }

    /// A new sampling, past every fault that an agent can have on the way.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn sample_at_once(&self, node: &str) -> Result<Reading, FleetError> {
        let cell = self.cell(node)?;
        let reading = cell.node.lock().sample(self.0.clock.now(), self.0.peak_window);
        Ok(reading)
    }

    fn cell(&self, node: &str) -> Result<Arc<NodeCell>, FleetError> {
        let nodes = self.0.nodes.read();
        nodes.get(node).cloned().ok_or_else(|| FleetError::UnknownNode(node.into()))
    }

    /// Changes a node: what held until now is observed before, what holds from now on after.
    fn change(
        &self,
        node: &str,
        change: impl FnOnce(&mut Node) -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let cell = self.cell(node)?;
        let now = self.0.clock.now();
        let changed = {
            let mut state = cell.node.lock();
            state.observe(now);
            let changed = change(&mut state);
            state.observe(now);
            changed
        };
        cell.movement.send_replace(());
        changed
    }
}

#[cfg(test)]
mod tests;
