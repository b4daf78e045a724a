//! What can happen to a simulated fleet.

use std::sync::Arc;

use super::gpu::Gpu;
use super::node::{Faults, Loss};
use super::{FleetError, SimulatedFleet};
use crate::agent::curve::Amount;
use crate::engine::{Attribution, Bytes, DeviceAssignment, GpuUuid, Health, PodRef, PodUid};

impl SimulatedFleet {
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
