//! The account that a burst is judged by: what there is on the GPUs, what the API server's pods are
//! owed of it, and what is left. A function of what is seen from outside; filmgate has no part in it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;

use filmgate::engine::{Bytes, GpuUuid};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

const GPU: &str = "nvidia.com/gpu";
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";

/// A GPU.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// Its node.
    pub node: String,
    /// Its UUID.
    pub uuid: GpuUuid,
    /// What pods can have of it: its total without what the driver reserves, headroom, and what is
    /// in use by no pod.
    pub room: Bytes,
    /// So little of it is in use by no pod that one may have it alone.
    pub is_clean: bool,
}

/// All GPUs, and the devices that each node offers.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// The GPUs.
    pub gpus: Vec<Gpu>,
    /// Devices by node.
    pub devices: HashMap<String, u32>,
}

/// A pod with a GPU, as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its UID.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Where it is bound.
    pub node: Option<String>,
    /// The GPUs that it was sent to.
    pub sent_to: Vec<GpuUuid>,
    /// How many it asks for.
    pub gpus: u32,
    /// What it declares for each; `None`: it has each alone.
    pub vram: Option<Bytes>,
    /// Any GPU of its node may be its own.
    pub is_steered: bool,
    /// Its priority.
    pub priority: i32,
    /// When it was created.
    pub created_at: i64,
    /// It is about to go.
    pub is_leaving: bool,
    /// It has ended.
    pub is_over: bool,
}

/// What the processes of a pod that is gone still hold.
#[derive(Clone, Debug)]
pub struct Remains {
    /// On which GPU.
    pub gpu: GpuUuid,
    /// How much.
    pub bytes: Bytes,
}

/// A GPU of which more is promised than it has.
#[derive(Clone, Debug)]
pub struct Overdrawn {
    /// Which.
    pub gpu: GpuUuid,
    /// By how much.
    pub by: Bytes,
    /// To whom.
    pub tenants: Vec<String>,
}

impl fmt::Display for Overdrawn {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} by {}: {}", self.gpu, self.by, self.tenants.join(", "))
    }
}

impl Seen {
    /// `None` where it asks for no GPU.
    pub fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let container = spec.containers.first()?;
        let limits = container.resources.as_ref()?.limits.as_ref()?;
        let annotations = pod.annotations();
        let sent_to = annotations.get("filmgate.dev/gpu").map(String::as_str).unwrap_or_default();
        let vram = annotations.get("filmgate.dev/vram");
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        Some(Self {
            uid: pod.uid()?,
            name: pod.name_any(),
            node: spec.node_name.clone(),
            sent_to: sent_to.split(',').filter(|gpu| !gpu.is_empty()).map(GpuUuid::from).collect(),
            gpus: limits.get(GPU)?.0.parse().ok()?,
            vram: vram.map(|text| Bytes::parse_quantity(text).expect("a quantity")),
            is_steered: container.env.iter().flatten().any(|one| one.name == VISIBLE_DEVICES),
            priority: spec.priority.unwrap_or(0),
            created_at: pod.creation_timestamp().map_or(0, |at| at.0.as_second()),
            is_leaving: pod.metadata.deletion_timestamp.is_some(),
            is_over: matches!(phase, Some("Succeeded" | "Failed")),
        })
    }

    /// It is bound, and its processes may run.
    pub fn is_tenant(&self) -> bool {
        self.node.is_some() && !self.is_over
    }

    /// It is to be bound.
    pub fn waits(&self) -> bool {
        self.node.is_none() && !self.is_over && !self.is_leaving
    }

    /// What it is owed of that GPU.
    fn owed(&self, gpu: &Gpu) -> Option<Bytes> {
        // One that was told no GPU may be on any.
        let is_here = self.node.as_ref() == Some(&gpu.node)
            && (self.sent_to.is_empty() || self.sent_to.contains(&gpu.uuid));
        (self.is_tenant() && is_here).then(|| self.vram.unwrap_or(gpu.room))
    }
}

impl Ground {
    /// GPUs of which more is promised to pods, and held by those that are gone, than there is.
    pub fn overdrawn<'a>(
        &self,
        pods: impl Iterator<Item = &'a Seen> + Clone,
        remains: &[Remains],
    ) -> Vec<Overdrawn> {
        let overdrawn = |gpu: &Gpu| {
            let owed = pods.clone().filter_map(|pod| Some((pod, pod.owed(gpu)?)));
            let left = self.held_by_the_gone(gpu, remains);
            let by = owed.clone().map(|(_, bytes)| bytes).sum::<Bytes>() + left - gpu.room;
            let tenants: Vec<_> =
                owed.map(|(pod, bytes)| format!("{} {bytes}", pod.name)).collect();
            let is_promised = !tenants.is_empty() && by > Bytes::ZERO;
            is_promised.then(|| Overdrawn { gpu: gpu.uuid.clone(), by, tenants })
        };
        self.gpus.iter().filter_map(overdrawn).collect()
    }

    fn held_by_the_gone(&self, gpu: &Gpu, remains: &[Remains]) -> Bytes {
        remains.iter().filter(|one| one.gpu == gpu.uuid).map(|one| one.bytes).sum()
    }

    /// Pods that wait and could be bound now, all of them together.
    pub fn left_out<'a>(
        &self,
        pods: impl Iterator<Item = &'a Seen> + Clone,
        remains: &[Remains],
    ) -> Vec<String> {
        let mut places = Places::left(self, pods.clone(), remains);
        let mut waiting: Vec<_> = pods.filter(|pod| pod.waits()).collect();
        waiting.sort_by_key(|pod| (Reverse(pod.priority), pod.created_at, &pod.name));
        waiting.retain(|pod| places.take(pod));
        waiting.into_iter().map(|pod| pod.name.clone()).collect()
    }
}

/// What is left.
struct Places<'a> {
    gpus: Vec<Place<'a>>,
    devices: HashMap<String, u32>,
}

struct Place<'a> {
    gpu: &'a Gpu,
    free: Bytes,
    is_empty: bool,
}

impl<'a> Places<'a> {
    fn left<'p>(
        ground: &'a Ground,
        pods: impl Iterator<Item = &'p Seen> + Clone,
        remains: &[Remains],
    ) -> Self {
        let place = |gpu: &'a Gpu| {
            let owed: Vec<_> = pods.clone().filter_map(|pod| pod.owed(gpu)).collect();
            let held = ground.held_by_the_gone(gpu, remains);
            let is_empty = owed.is_empty() && held == Bytes::ZERO;
            Place { gpu, free: gpu.room - owed.into_iter().sum() - held, is_empty }
        };
        let gpus = ground.gpus.iter().map(place).collect();
        let mut devices = ground.devices.clone();
        for pod in pods.clone().filter(|pod| pod.is_tenant()) {
            if let Some(left) = pod.node.as_ref().and_then(|node| devices.get_mut(node)) {
                *left = left.saturating_sub(pod.gpus);
            }
        }
        Self { gpus, devices }
    }

    /// Gives the pod a place, as tight as there is; whether there is one.
    fn take(&mut self, pod: &Seen) -> bool {
        let nodes: Vec<String> = self.devices.keys().cloned().collect();
        let found = nodes.into_iter().filter_map(|node| Some((self.on(&node, pod)?, node)));
        let tightest = |gpus: &[usize]| gpus.iter().map(|gpu| self.gpus[*gpu].free).sum::<Bytes>();
        let Some((gpus, node)) = found.min_by_key(|(gpus, _)| tightest(gpus)) else { return false };
        for gpu in gpus {
            let place = &mut self.gpus[gpu];
            place.free = pod.vram.map_or(Bytes::ZERO, |vram| place.free - vram);
            place.is_empty = false;
        }
        self.devices.entry(node).and_modify(|left| *left -= pod.gpus);
        true
    }

    /// GPUs of the node that the pod could have.
    fn on(&self, node: &str, pod: &Seen) -> Option<Vec<usize>> {
        let here = self.gpus.iter().enumerate().filter(|(_, place)| place.gpu.node == node);
        let has_choice = here.clone().count() > 1;
        let suits = |place: &Place<'_>| match pod.vram {
            Some(vram) => vram <= place.free,
            None => place.is_empty && place.gpu.is_clean && place.free > Bytes::ZERO,
        };
        let mut found: Vec<_> = here.filter(|(_, place)| suits(place)).map(|(at, _)| at).collect();
        found.sort_by_key(|at| self.gpus[*at].free);
        let is_offered = self.devices[node] >= pod.gpus && (pod.is_steered || !has_choice);
        (is_offered && found.len() >= pod.gpus as usize).then(|| {
            found.truncate(pod.gpus as usize);
            found
        })
    }
}

#[cfg(test)]
mod tests;
