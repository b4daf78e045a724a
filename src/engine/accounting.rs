//! What is left on each GPU of a node.
//!
//! For each GPU, all terms from one sampling:
//!
//! ```text
//! foreign = max(0, used − Σ measured)
//! free    = total − reserved − headroom − foreign − Σ max(charge, measured)
//! ```
//!
//! over the pods that have a claim or a measurement there. Everything is a function of the last
//! reading and the claims: there are no counters to drift.

use std::sync::Arc;

use super::claim::{Claim, ClaimState};
use super::ledger::Policy;
use super::reading::{Attribution, GpuReading, Health, Reading};
use super::{Bytes, GpuUuid, PodUid, Time};

/// One node's GPUs as a pod would find them, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    /// Every GPU, in the reading's order.
    pub gpus: Vec<GpuState>,
    /// Where a bound pod's devices are is not known yet, so the plugin's next choice is not either.
    pub is_placing: bool,
    /// A pod is on its way to a GPU that was predicted: nobody may take a device before it.
    pub is_predicted: bool,
    /// Until when the view holds: the end of the first hold in it.
    pub valid_until: Option<Time>,
}

/// One GPU as a pod would find it.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuState {
    /// NVML's UUID.
    pub uuid: GpuUuid,
    /// NVML's index.
    pub index: u32,
    /// The product's name.
    pub model: Arc<str>,
    /// The extended resource that it is offered as.
    pub resource: Arc<str>,
    /// All of its memory.
    pub total: Bytes,
    /// What the driver reserves.
    pub reserved: Bytes,
    /// In use by anyone.
    pub used: Bytes,
    /// In use by no pod.
    pub foreign: Bytes,
    /// Σ max(charge, measured) over pods whose claim is bound or being bound, and over
    /// measurements without a claim.
    pub charged: Bytes,
    /// Σ over claims that are only held, beyond what is measured of their pods.
    pub held: Bytes,
    /// What a newcomer may have.
    pub free: Bytes,
    /// Claims on it, and pods measured on it without one.
    pub tenants: u32,
    /// Why no newcomer may have anything, whatever is free.
    pub closed: Option<Closed>,
    /// Replicas that the device plugin offers.
    pub replicas: u32,
    /// Replicas that the kubelet's book gives to containers.
    pub assigned: u32,
    /// Those of them whose pods are gone, or nobody knows: they may be free by now.
    pub vacating: u32,
    /// Part of the time in which a kernel ran; 0 where unknown.
    pub utilization_ratio: f64,
}

/// Why a GPU takes no newcomer, whatever is free on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It is unhealthy.
    Unhealthy,
    /// A pod of unknown need has all of it.
    Exclusive,
    /// Its memory cannot be told apart by pod, and someone is on it.
    Unattributed,
}

/// What a claim costs one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Position of the GPU in the reading.
    pub gpu: usize,
    /// Bytes held against the pod.
    pub bytes: Bytes,
    /// It has the whole GPU.
    pub is_exclusive: bool,
}

/// The node's GPUs for a pod that is not `except`: with that pod's own claim left out.
#[must_use]
pub fn view(
    reading: &Reading,
    claims: &[Claim],
    policy: &Policy,
    now: Time,
    except: Option<&PodUid>,
) -> NodeView {
    let mut tally: Vec<Tally> = reading.gpus.iter().map(Tally::of_measurements).collect();
    let mut view = NodeView::default();
    for claim in claims.iter().filter(|claim| Some(&claim.pod.uid) != except) {
        match claim.state {
            ClaimState::Held { until } if until <= now => continue,
            ClaimState::Held { until } => {
                view.valid_until = Some(view.valid_until.map_or(until, |first| first.min(until)));
            }
            _ => {
                view.is_placing |= claim.is_placing(reading);
                view.is_predicted |= claim.is_predicted(reading);
            }
        }
        for charge in charges(claim, reading) {
            tally[charge.gpu].add(claim, charge);
        }
    }
    let is_degraded = reading.attribution != Attribution::Full;
    let states = reading.gpus.iter().zip(tally);
    view.gpus = states.map(|(gpu, tally)| tally.state(gpu, policy, is_degraded)).collect();
    count_devices(&mut view, reading, claims);
    view
}

/// The device plugin's book, as far as it is known.
fn count_devices(view: &mut NodeView, reading: &Reading, claims: &[Claim]) {
    for device in &reading.devices {
        let Some(gpu) = view.gpus.iter_mut().find(|gpu| gpu.uuid == device.gpu) else { continue };
        let stays = claims.iter().any(|claim| claim.is_staying() && claim.owns(device));
        gpu.assigned += 1;
        gpu.vacating += u32::from(!stays);
    }
}

/// What the claim costs each GPU of the reading. Charges follow the book that is real: the pod's
/// processes once they are seen, then the kubelet's list, then what was decided.
#[must_use]
pub fn charges(claim: &Claim, reading: &Reading) -> Vec<Charge> {
    let places = claim.places(reading);
    let at = |(gpu, uuid): (usize, &GpuReading)| {
        let expected = claim.expected_on(&uuid.uuid);
        let peak = claim.memory_on(uuid).map_or(Bytes::ZERO, |memory| memory.peak.max(memory.used));
        Charge { gpu, bytes: expected.max(peak), is_exclusive: claim.is_exclusive() }
    };
    let gpus = reading.gpus.iter().enumerate();
    gpus.filter(|(_, gpu)| places.contains(&&gpu.uuid)).map(at).collect()
}

/// Sums over the tenants of one GPU.
struct Tally<'a> {
    /// Measured without a claim, so far.
    unclaimed: Vec<(&'a PodUid, Bytes)>,
    charged: Bytes,
    held: Bytes,
    tenants: u32,
    is_exclusive: bool,
}

impl<'a> Tally<'a> {
    fn of_measurements(gpu: &'a GpuReading) -> Self {
        Self {
            unclaimed: gpu.pods.iter().map(|pod| (&pod.uid, pod.used)).collect(),
            charged: Bytes::ZERO,
            held: Bytes::ZERO,
            tenants: 0,
            is_exclusive: false,
        }
    }

    fn add(&mut self, claim: &Claim, charge: Charge) {
        let own = self.unclaimed.iter().position(|(uid, _)| **uid == claim.pod.uid);
        let measured = own.map_or(Bytes::ZERO, |own| self.unclaimed.swap_remove(own).1);
        if claim.is_held() {
            // A hold may vanish; what the pod's processes hold is no advice.
            self.charged += measured;
            self.held += charge.bytes - measured;
        } else {
            self.charged += charge.bytes;
        }
        self.tenants += 1;
        self.is_exclusive |= charge.is_exclusive;
    }

    fn state(self, gpu: &GpuReading, policy: &Policy, is_degraded: bool) -> GpuState {
        let charged = self.charged + self.unclaimed.iter().map(|(_, used)| *used).sum();
        let measured_tenants =
            self.unclaimed.iter().filter(|(_, used)| *used > Bytes::ZERO).count();
        let tenants = self.tenants + measured_tenants as u32;
        let foreign = gpu.foreign();
        let limit = gpu.total - gpu.reserved - policy.headroom;
        let is_used = tenants > 0 || gpu.used > policy.headroom;
        let closed = if gpu.health != Health::Healthy {
            Some(Closed::Unhealthy)
        } else if self.is_exclusive {
            Some(Closed::Exclusive)
        } else {
            (is_degraded && is_used).then_some(Closed::Unattributed)
        };
        GpuState {
            uuid: gpu.uuid.clone(),
            index: gpu.index,
            model: gpu.model.clone(),
            resource: gpu.resource.clone(),
            total: gpu.total,
            reserved: gpu.reserved,
            used: gpu.used,
            foreign,
            charged,
            held: self.held,
            free: limit - foreign - charged - self.held,
            tenants,
            closed,
            replicas: gpu.replicas,
            assigned: 0,
            vacating: 0,
            utilization_ratio: gpu.utilization_ratio.unwrap_or(0.0),
        }
    }
}

impl GpuState {
    /// What a newcomer may have: nothing on a closed GPU.
    #[must_use]
    pub fn open_bytes(&self) -> Bytes {
        if self.closed.is_some() { Bytes::ZERO } else { self.free }
    }

    /// By how much charges, measurements and foreign memory are above what the GPU has to give:
    /// a pod grew past its charge, or someone else bound pods here. Where memory is nobody's by
    /// measurement, the pod's own is not counted a second time.
    #[must_use]
    pub fn overdrawn(&self, headroom: Bytes) -> Bytes {
        let limit = self.total - self.reserved - headroom;
        let taken = match self.closed {
            Some(Closed::Unattributed) => self.foreign.max(self.charged),
            _ => self.foreign + self.charged,
        };
        taken - limit
    }
}
