//! One simulated node: its GPUs, the kubelet's device book, and what is wrong with its agent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::gpu::{Gpu, GpuSpec};
use crate::agent::curve::Amount;
use crate::agent::{gpu_uuid, peaks_cover};
use crate::engine::{
    AgentRun, Attribution, Bytes, DeviceAssignment, GpuUuid, Health, NodeName, PodRef, Reading,
    Time,
};

/// How an agent is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Loss {
    /// It refuses, and ends the streams that it had.
    Refused,
    /// It says nothing any more.
    Hung,
}

/// In which order streams show samplings that nobody asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Delivery {
    /// As they are made.
    #[default]
    InOrder,
    /// Every second one is the one before it again.
    Repeated,
    /// Every third one is the one two before it.
    OutOfOrder,
}

/// What is wrong with a simulated agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// It cannot be reached.
    pub lost: Option<Loss>,
    /// Its samplings are delivered that much after they were made.
    pub late: Duration,
    /// The order of delivery.
    pub delivery: Delivery,
    /// The first GPU shows more memory in use than it has.
    pub has_impossible_numbers: bool,
}

/// What a node is to be.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::agent) struct NodePlan {
    pub(in crate::agent) name: String,
    pub(in crate::agent) attribution: Attribution,
    pub(in crate::agent) gpus: Vec<GpuPlan>,
    pub(in crate::agent) devices: Vec<DeviceAssignment>,
    pub(in crate::agent) faults: Faults,
}

/// What a GPU is to be, and all that runs on it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::agent) struct GpuPlan {
    pub(in crate::agent) spec: GpuSpec,
    pub(in crate::agent) health: Health,
    pub(in crate::agent) foreign: Vec<Amount>,
    pub(in crate::agent) pods: Vec<(PodRef, Amount)>,
}

/// Readings kept for [`Delivery`] to reach back to, the newest included.
const REMEMBERED: usize = 3;

#[derive(Debug)]
pub(super) struct Node {
    name: NodeName,
    run: AgentRun,
    run_started: Time,
    sampling: u64,
    /// Readings shown to streams.
    shown: u64,
    /// The last of them, newest last.
    recent: VecDeque<Arc<Reading>>,
    pub(super) attribution: Attribution,
    pub(super) gpus: Vec<Gpu>,
    pub(super) devices: Vec<DeviceAssignment>,
    pub(super) faults: Faults,
}

impl Node {
    pub(super) fn new(name: NodeName, specs: Vec<GpuSpec>, now: Time) -> Self {
        let mut node = Self {
            name,
            run: new_run(),
            run_started: now,
            sampling: 0,
            shown: 0,
            recent: VecDeque::new(),
            attribution: Attribution::Full,
            gpus: Vec::new(),
            devices: Vec::new(),
            faults: Faults::default(),
        };
        node.set_gpus(specs, now);
        node
    }

    /// Puts these GPUs in. One that stays what it was keeps its processes.
    pub(super) fn set_gpus(&mut self, specs: Vec<GpuSpec>, now: Time) {
        let mut old = std::mem::take(&mut self.gpus).into_iter();
        for (spec, index) in specs.into_iter().zip(0..) {
            let is_same =
                |gpu: &Gpu| gpu.spec.total == spec.total && gpu.spec.reserved == spec.reserved;
            let gpu = match old.next().filter(is_same) {
                Some(kept) => kept.with_spec(spec),
                None => Gpu::new(spec, index, gpu_uuid(self.name.as_str(), index), now),
            };
            self.gpus.push(gpu);
        }
    }

    /// Becomes what the plan says. Pods that stay keep their peaks.
    pub(super) fn become_exactly(&mut self, plan: NodePlan, now: Time) {
        self.attribution = plan.attribution;
        self.devices = plan.devices;
        self.faults = plan.faults;
        self.set_gpus(plan.gpus.iter().map(|gpu| gpu.spec.clone()).collect(), now);
        for (gpu, plan) in self.gpus.iter_mut().zip(plan.gpus) {
            gpu.health = plan.health;
            gpu.foreign = plan.foreign;
            gpu.pods.retain(|uid, _| plan.pods.iter().any(|(pod, _)| pod.uid == *uid));
            for (pod, amount) in plan.pods {
                gpu.put_pod(&pod, amount);
            }
        }
    }

    pub(super) fn gpu_mut(&mut self, uuid: &GpuUuid) -> Option<&mut Gpu> {
        self.gpus.iter_mut().find(|gpu| gpu.uuid == *uuid)
    }

    /// Brings every GPU's peaks and truth up to now.
    pub(super) fn observe(&mut self, now: Time) {
        for gpu in &mut self.gpus {
            gpu.observe(now);
        }
    }

    /// The agent's process ends and another begins: a new run, whose peaks begin now.
    pub(super) fn restart_agent(&mut self, now: Time) {
        self.run = new_run();
        self.run_started = now;
        self.sampling = 0;
        self.recent.clear();
        for gpu in &mut self.gpus {
            gpu.forget_peaks(now);
        }
    }

    /// Samples.
    pub(super) fn sample(&mut self, now: Time, window: Duration) -> Reading {
        self.sampling += 1;
        let is_attributed = self.attribution == Attribution::Full;
        let mut reading = Reading {
            node: self.name.clone(),
            agent: self.run.clone(),
            sampling: self.sampling,
            peaks_cover: peaks_cover(now.since(self.run_started), window),
            attribution: self.attribution.clone(),
            gpus: self.gpus.iter_mut().map(|gpu| gpu.reading(now, window, is_attributed)).collect(),
            devices: self.devices.clone(),
            is_book_old: false,
        };
        if self.faults.has_impossible_numbers
            && let Some(gpu) = reading.gpus.first_mut()
        {
            gpu.used = gpu.total + Bytes::gib(1);
        }
        reading
    }

    /// What streams show of a sampling: it, or what the order of delivery makes of it.
    pub(super) fn show(&mut self, reading: Arc<Reading>) -> Arc<Reading> {
        self.shown += 1;
        let back = match self.faults.delivery {
            Delivery::Repeated if self.shown.is_multiple_of(2) => 1,
            Delivery::OutOfOrder if self.shown.is_multiple_of(3) => 2,
            _ => 0,
        };
        self.recent.push_back(reading);
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        let newest = self.recent.len() - 1;
        // A copy: what is sent again is a message of its own.
        Arc::new((*self.recent[newest.saturating_sub(back)]).clone())
    }

    /// Removes the device book's entries of that pod.
    pub(super) fn unassign(&mut self, namespace: &str, pod: &str) {
        self.devices.retain(|device| &*device.namespace != namespace || &*device.pod != pod);
    }

    /// The extended resource of that GPU.
    pub(super) fn resource(&self, uuid: &GpuUuid) -> Option<Arc<str>> {
        let gpu = self.gpus.iter().find(|gpu| gpu.uuid == *uuid)?;
        Some(Arc::clone(&gpu.spec.resource))
    }
}

/// A run's name: random, since no two runs may share one.
fn new_run() -> AgentRun {
    AgentRun::from(format!("{:016x}", rand::random::<u64>()))
}
