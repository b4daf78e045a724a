//! What ComfyUI says of itself in each pod, and what follows for the pod's memory.
//!
//! ComfyUI keeps models in VRAM after a prompt as long as the device has room, so what is measured
//! of its pod is partly cache. Memory above what the pod is charged for, while nothing runs or
//! waits there, is *cache*; all the rest is *working*.
//!
//! This is information for people and autoscalers. It lies beside the ledger, which does not know
//! it: no admission hangs on what a pod says of itself.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::account::Tenant;
use super::{Bytes, Ledger, NodeName, PodRef, PodUid, Time};

/// Prompts of one ComfyUI.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Those that are executed.
    pub running: u64,
    /// Those that wait.
    pub pending: u64,
}

impl Queue {
    /// Those that wait and those that are executed.
    #[must_use]
    pub const fn depth(self) -> u64 {
        self.running.saturating_add(self.pending)
    }
}

/// What PyTorch's allocator has of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TorchDevice {
    /// ComfyUI's name of the device.
    pub name: Arc<str>,
    /// Its number among those that the pod sees.
    pub index: u32,
    /// What the allocator has taken from the device.
    pub torch_total_bytes: Bytes,
    /// What of that no tensor is in.
    pub torch_free_bytes: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// One of a fixed list.
    pub code: &'static str,
    /// For people.
    pub text: Arc<str>,
}

/// What came of asking once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// When it was asked.
    pub asked_at: Time,
    /// Until when an answer counts; afterwards nothing is known.
    pub until: Time,
    /// Its prompts.
    pub queue: Result<Queue, Trouble>,
    /// Its devices.
    pub devices: Result<Vec<TorchDevice>, Trouble>,
}

/// What is known of one ComfyUI.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// It told its prompts when it was asked last.
    pub is_up: bool,
    /// What was wrong with the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// Its prompts; absent where it has not told them of late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// For how long it has not been asked.
    pub age_seconds: f64,
    /// Its devices, as far as it has told them of late.
    pub devices: Vec<TorchDevice>,
}

/// A pod's memory on one GPU, told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSplit<'a> {
    /// The pod.
    pub pod: &'a PodRef,
    /// Its node.
    pub node: &'a NodeName,
    /// NVML's index.
    pub gpu: u32,
    /// What of the measured memory is not cache.
    pub working: Bytes,
    /// What its idle ComfyUI holds above what the pod is charged.
    pub cache: Bytes,
}

/// Something that was told, and until when it counts.
#[derive(Debug, Clone)]
struct Told<T> {
    until: Time,
    what: T,
}

impl<T> Told<T> {
    fn now(&self, now: Time) -> Option<&T> {
        (now < self.until).then_some(&self.what)
    }
}

#[derive(Debug, Clone)]
struct Instance {
    asked_at: Time,
    is_up: bool,
    trouble: Option<Trouble>,
    queue: Option<Told<Queue>>,
    devices: Option<Told<Vec<TorchDevice>>>,
}

/// What is known of every pod's ComfyUI.
#[derive(Debug, Clone, Default)]
pub struct Instances(HashMap<PodUid, Instance>);

impl Instances {
    /// Notes what came of asking a pod. An earlier answer counts on for its time.
    pub fn note(&mut self, pod: &PodUid, poll: Poll) {
        let Poll { asked_at, until, queue, devices } = poll;
        let before = self.0.remove(pod);
        let (queue_before, devices_before) =
            before.map_or((None, None), |before| (before.queue, before.devices));
        let trouble = queue.as_ref().err().or(devices.as_ref().err()).cloned();
        let instance = Instance {
            asked_at,
            is_up: queue.is_ok(),
            trouble,
            queue: queue.ok().map(|what| Told { until, what }).or(queue_before),
            devices: devices.ok().map(|what| Told { until, what }).or(devices_before),
        };
        self.0.insert(pod.clone(), instance);
    }

    /// Forgets all others.
    pub fn keep(&mut self, is_kept: impl Fn(&PodUid) -> bool) {
        self.0.retain(|pod, _| is_kept(pod));
    }

    /// Every pod of which something is known.
    pub fn pods(&self) -> impl Iterator<Item = &PodUid> {
        self.0.keys()
    }

    /// What is known of the pod; `None` where it was never asked.
    #[must_use]
    pub fn state(&self, pod: &PodUid, now: Time) -> Option<State> {
        let instance = self.0.get(pod)?;
        let devices = instance.devices.as_ref().and_then(|told| told.now(now));
        Some(State {
            is_up: instance.is_up,
            trouble: instance.trouble.clone(),
            queue: self.queue(pod, now),
            age_seconds: now.since(instance.asked_at).as_secs_f64(),
            devices: devices.cloned().unwrap_or_default(),
        })
    }

    /// The pod's prompts; `None` where it has not told them of late.
    #[must_use]
    pub fn queue(&self, pod: &PodUid, now: Time) -> Option<Queue> {
        self.0.get(pod)?.queue.as_ref()?.now(now).copied()
    }

    /// The prompts of every pod that has told them of late.
    #[must_use]
    pub fn queues(&self, now: Time) -> HashMap<PodUid, Queue> {
        let known = self.pods().filter_map(|pod| Some((pod.clone(), self.queue(pod, now)?)));
        known.collect()
    }

    /// Says of each tenant what its ComfyUI does.
    pub fn tell<'t>(&self, tenants: impl IntoIterator<Item = &'t mut Tenant>, now: Time) {
        for tenant in tenants {
            let Some(queue) = self.queue(&tenant.uid, now) else { continue };
            tenant.queue_depth = Some(queue.depth());
            tenant.cache_bytes = Some(cache(queue, tenant.over_charge_bytes.unwrap_or_default()));
        }
    }
}

/// What of the memory above a pod's charge is cache.
const fn cache(queue: Queue, over_charge: Bytes) -> Bytes {
    if queue.depth() == 0 { over_charge } else { Bytes::ZERO }
}

impl Ledger {
    /// The memory of every pod whose prompts are known, by GPU that it holds some of.
    pub fn told_apart<'a>(
        &'a self,
        instances: &'a Instances,
        now: Time,
    ) -> impl Iterator<Item = PodSplit<'a>> {
        let known = instances.pods().filter_map(move |pod| {
            let queue = instances.queue(pod, now)?;
            let (name, claim) = self.claim(pod).filter(|(_, claim)| claim.was_bound())?;
            let reading = self.node(name.as_str())?.reading.as_ref()?;
            Some((queue, name, claim, reading))
        });
        known.flat_map(|(queue, node, claim, reading)| {
            let held = reading.gpus.iter().filter_map(|gpu| Some((gpu, claim.memory_on(gpu)?)));
            held.map(move |(gpu, memory)| {
                let cache = cache(queue, claim.over_charge_on(gpu));
                PodSplit {
                    pod: &claim.pod,
                    node,
                    gpu: gpu.index,
                    working: memory.used - cache,
                    cache,
                }
            })
        })
    }
}
