//! The driver's words, the kubelet's book and `/proc` put together. Pure.
//!
//! What is in doubt errs to *foreign*, and so to a refusal: a process that nobody can name, or that
//! is gone. Where the driver does not say what processes hold, the node's attribution is degraded.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::agent::book::{Book, Offer};
use crate::agent::hardware::{Gpu, GpuState, Hardware, Memory, Mig, Process, Processes};
use crate::agent::owner::Owner;
use crate::engine::{Attribution, Bytes, GpuUuid, Health, PodUid};

/// The resource of a GPU that no device plugin offers.
const UNOFFERED: &str = "nvidia.com/gpu";

/// A device as the node's reading shows it, before peaks are known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Device {
    /// Position among the hardware's GPUs.
    pub(super) position: usize,
    pub(super) resource: Arc<str>,
    pub(super) replicas: u32,
    pub(super) memory: Memory,
    pub(super) health: Health,
    /// What each container's processes hold on it, by pod and container id.
    pub(super) holders: BTreeMap<Holder, Bytes>,
}

/// Whose memory it is: a pod's, and of which container, where the cgroup tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Holder {
    pub(super) pod: PodUid,
    pub(super) container: Option<Arc<str>>,
}

/// The devices that pods can be given, each with what pods hold on it. A GPU without memory, and
/// one that is split into instances, is none.
pub(super) fn devices(
    hardware: &Hardware,
    book: &Book,
    mut owner: impl FnMut(u32) -> Owner,
) -> Vec<Device> {
    let gpus = hardware.gpus.iter().enumerate();
    let given = gpus.filter(|(_, gpu)| gpu.mig != Mig::Parent && gpu.memory.total > Bytes::ZERO);
    let device = |(position, gpu): (usize, &Gpu)| {
        let offer = offer(gpu, book);
        let memory = believable(gpu.memory);
        Device {
            position,
            resource: offer.resource,
            replicas: offer.replicas,
            memory,
            health: health(gpu, book),
            holders: holders(&gpu.processes, memory.total, &mut owner),
        }
    };
    given.map(device).collect()
}

/// Whether every process' memory is known and can be told apart by pod.
pub(super) fn attribution(hardware: &Hardware, blindness: Option<Arc<str>>) -> Attribution {
    let hidden = hardware.gpus.iter().filter(|gpu| gpu.mig != Mig::Parent).find_map(why_hidden);
    match blindness.or(hidden) {
        Some(why) => Attribution::Degraded { why },
        None => Attribution::Full,
    }
}

fn why_hidden(gpu: &Gpu) -> Option<Arc<str>> {
    match &gpu.processes {
        Processes::Hidden { why } => Some(Arc::clone(why)),
        Processes::Known(processes) if processes.iter().any(|one| one.memory.is_none()) => {
            let index = gpu.index;
            Some(format!("the driver does not say what processes hold on GPU {index}").into())
        }
        Processes::Known(_) => None,
    }
}

fn offer(gpu: &Gpu, book: &Book) -> Offer {
    let by_nobody = || match &gpu.mig {
        Mig::Instance { profile, .. } => format!("nvidia.com/mig-{profile}").into(),
        _ => UNOFFERED.into(),
    };
    let offer = book.offers.get(&gpu.uuid).cloned();
    offer.unwrap_or_else(|| Offer { resource: by_nobody(), replicas: 1 })
}

fn health(gpu: &Gpu, book: &Book) -> Health {
    let impossible = gpu.memory.used > gpu.memory.total;
    let is_held_back = !book.offers.is_empty() && !book.offers.contains_key(&gpu.uuid);
    let why: Arc<str> = match &gpu.state {
        GpuState::Failing { why } | GpuState::Silent { why } => Arc::clone(why),
        GpuState::Ready if impossible => "NVML says that more is in use than there is".into(),
        GpuState::Ready if is_held_back => "the device plugin does not offer it".into(),
        GpuState::Ready => return Health::Healthy,
    };
    Health::Unhealthy { why }
}

/// No figure above the device's memory: readers refuse a whole node for one.
fn believable(memory: Memory) -> Memory {
    let total = memory.total;
    Memory { total, used: memory.used.min(total), reserved: memory.reserved.min(total), ..memory }
}

fn holders(
    processes: &Processes,
    total: Bytes,
    owner: &mut impl FnMut(u32) -> Owner,
) -> BTreeMap<Holder, Bytes> {
    let Processes::Known(processes) = processes else { return BTreeMap::new() };
    let mut holders: BTreeMap<Holder, Bytes> = BTreeMap::new();
    for Process { pid, memory } in processes {
        if let (Owner::Pod { uid, container }, Some(bytes)) = (owner(*pid), memory) {
            let sum = holders.entry(Holder { pod: uid, container }).or_default();
            *sum = (*sum + *bytes).min(total);
        }
    }
    holders
}

/// What each pod holds on the device.
pub(super) fn by_pod(device: &Device) -> BTreeMap<PodUid, Bytes> {
    let mut pods: BTreeMap<PodUid, Bytes> = BTreeMap::new();
    for (holder, bytes) in &device.holders {
        let sum = pods.entry(holder.pod.clone()).or_default();
        *sum = (*sum + *bytes).min(device.memory.total);
    }
    pods
}

/// The UUID of the device at that position.
pub(super) fn uuid<'a>(hardware: &'a Hardware, device: &Device) -> &'a GpuUuid {
    &hardware.gpus[device.position].uuid
}
