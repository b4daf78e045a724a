//! A simulated fleet: GPUs, processes, the kubelet's device book and agents with faults.
//!
//! One [`SimulatedFleet`] is both what a test or the demo moves (start a pod, grow it, lose an
//! agent) and the [`Sampler`] that serves the outcome as readings, over the very server that real
//! agents use. It also keeps the [`Truth`] that no reading can show: memory beyond what a GPU has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use self::gpu::Gpu;
pub use self::gpu::{GpuSpec, Truth};
use self::node::Node;
pub use self::node::{Delivery, Faults, Loss};
use super::curve::Amount;
use crate::clock::Clock;
use crate::engine::{
    Attribution, Bytes, DeviceAssignment, GpuUuid, Health, NodeName, PodRef, PodUid, Reading,
};

mod gpu;
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
        let node = Mutex::new(Node::new(name.clone(), gpus, now));
        let cell = NodeCell { node, movement: watch::Sender::new(()) };
        self.0.nodes.write().insert(name, Arc::new(cell));
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

    /// Processes that belong to no pod hold `bytes` on that GPU, in place of earlier ones.
    ///
    /// # Errors
    /// When there is no such node or GPU.
    pub fn set_foreign(&self, node: &str, gpu: &GpuUuid, bytes: Bytes) -> Result<(), FleetError> {
        self.set_foreign_amounts(node, gpu, vec![Amount::Fixed(bytes)])
    }

    /// The same with one amount per process.
    ///
    /// # Errors
    /// When there is no such node or GPU.
    pub fn set_foreign_amounts(
        &self,
        node: &str,
        gpu: &GpuUuid,
        amounts: Vec<Amount>,
    ) -> Result<(), FleetError> {
        self.change_gpu(node, gpu, |gpu| {
            gpu.foreign = amounts;
            Ok(())
        })
    }

    /// A pod's process on that GPU holds `bytes` from now on. A pod with several GPUs is started on
    /// each.
    ///
    /// # Errors
    /// When there is no such node or GPU.
    pub fn start_pod(
        &self,
        node: &str,
        gpu: &GpuUuid,
        pod: &PodRef,
        bytes: Bytes,
    ) -> Result<(), FleetError> {
        self.start_pod_with(node, gpu, pod, Amount::Fixed(bytes))
    }

    /// The same by a curve.
    ///
    /// # Errors
    /// When there is no such node or GPU.
    pub fn start_pod_with(
        &self,
        node: &str,
        gpu: &GpuUuid,
        pod: &PodRef,
        amount: Amount,
    ) -> Result<(), FleetError> {
        self.change_gpu(node, gpu, |gpu| {
            gpu.put_pod(pod, amount);
            Ok(())
        })
    }

    /// The pod's process on that GPU holds `bytes` from now on.
    ///
    /// # Errors
    /// When there is no such node or GPU, or the pod has no process there.
    pub fn set_pod_memory(
        &self,
        node: &str,
        gpu: &GpuUuid,
        pod: &PodUid,
        bytes: Bytes,
    ) -> Result<(), FleetError> {
        self.change_gpu(node, gpu, |gpu| match gpu.pods.get_mut(pod) {
            Some(held) => {
                held.set(Amount::Fixed(bytes));
                Ok(())
            }
            None => Err(FleetError::UnknownPod {
                node: node.into(),
                gpu: gpu.uuid.clone(),
                pod: pod.clone(),
            }),
        })
    }

    /// Ends the pod's processes on all of the node's GPUs. Its entries in the device book stay
    /// until [`Self::unassign_devices`]. A pod without processes is no error.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn stop_pod(&self, node: &str, pod: &PodUid) -> Result<(), FleetError> {
        self.change(node, |node| {
            for gpu in &mut node.gpus {
                gpu.pods.remove(pod);
            }
            Ok(())
        })
    }

    /// The kubelet gives a replica of that GPU to a container. As with the real PodResources the
    /// entry names the pod without its UID; [`Self::assign`] enters anything.
    ///
    /// # Errors
    /// When there is no such node or GPU.
    pub fn assign_device(
        &self,
        node: &str,
        gpu: &GpuUuid,
        pod: &PodRef,
        container: &str,
    ) -> Result<(), FleetError> {
        self.change(node, |state| {
            let unknown = || FleetError::UnknownGpu { node: node.into(), gpu: gpu.clone() };
            let resource = state.resource(gpu).ok_or_else(unknown)?;
            state.devices.push(DeviceAssignment {
                namespace: Arc::clone(&pod.namespace),
                pod: Arc::clone(&pod.name),
                uid: None,
                container: Arc::from(container),
                resource,
                gpu: gpu.clone(),
            });
            Ok(())
        })
    }

    /// Enters a device into the kubelet's book, unchecked.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn assign(&self, node: &str, device: DeviceAssignment) -> Result<(), FleetError> {
        self.change(node, |node| {
            node.devices.push(device);
            Ok(())
        })
    }

    /// The kubelet takes the pod's devices back.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn unassign_devices(&self, node: &str, pod: &PodRef) -> Result<(), FleetError> {
        self.change(node, |node| {
            node.unassign(&pod.namespace, &pod.name);
            Ok(())
        })
    }

    /// The GPU falls ill or recovers.
    ///
    /// # Errors
    /// When there is no such node or GPU.
    pub fn set_health(&self, node: &str, gpu: &GpuUuid, health: Health) -> Result<(), FleetError> {
        self.change_gpu(node, gpu, |gpu| {
            gpu.health = health;
            Ok(())
        })
    }

    /// Whether the node can tell memory apart by pod.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn set_attribution(&self, node: &str, attribution: Attribution) -> Result<(), FleetError> {
        self.change(node, |node| {
            node.attribution = attribution;
            Ok(())
        })
    }

    /// The agent is lost (it refuses, its streams end) or back.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn set_lost(&self, node: &str, is_lost: bool) -> Result<(), FleetError> {
        self.change(node, |node| {
            node.faults.lost = is_lost.then_some(Loss::Refused);
            Ok(())
        })
    }

    /// All that is wrong with the agent, in place of what was.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn set_faults(&self, node: &str, faults: Faults) -> Result<(), FleetError> {
        self.change(node, |node| {
            node.faults = faults;
            Ok(())
        })
    }

    /// The agent's process ends and begins anew: another run, samplings from 1, peaks from now.
    /// Its streams stay; a process that serves many nodes cannot end for one.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn restart_agent(&self, node: &str) -> Result<(), FleetError> {
        let now = self.0.clock.now();
        self.change(node, |node| {
            node.restart_agent(now);
            Ok(())
        })
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

    fn change_gpu(
        &self,
        node: &str,
        uuid: &GpuUuid,
        change: impl FnOnce(&mut Gpu) -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        self.change(node, |state| match state.gpu_mut(uuid) {
            Some(gpu) => change(gpu),
            None => Err(FleetError::UnknownGpu { node: node.into(), gpu: uuid.clone() }),
        })
    }
}

#[cfg(test)]
mod tests;
