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
//!
//! From `free` goes what is only promised: holds, what is *reserved* for a pod that has waited too
//! long, and *nominated* claims of pods for which others were asked to leave. The victims' charges are still there at first, and both are never needed
//! at once, so a GPU keeps the larger of the two:
//!
//! ```text
//! nominated = max(0, Σ nominated bytes − Σ max(charge, measured) of all their victims)
//! ```
//!
//! over the nominated claims that the asker must respect, each victim once. A newcomer must fit
//! now, beside what the victims hold, and later, beside those that take their places; the sum
//! above is what satisfies both, since victims only ever give back.

mod devices;

use std::sync::Arc;

use super::claim::{Claim, ClaimState};
use super::ledger::Policy;
use super::reading::{Attribution, GpuReading, Health, Reading};
use super::{Bytes, GpuUuid, PodUid, Time};

pub use devices::DevicesLeft;

/// One node's GPUs as a pod would find them, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    /// Every GPU, in the reading's order.
    pub gpus: Vec<GpuState>,
    /// Where a bound pod's devices are is not known yet, so the plugin's next choice is not either.
    pub is_placing: bool,
    /// A pod is on its way to a GPU that was predicted: nobody may take a device before it.
    pub is_predicted: bool,
    /// Where devices are kept for pods that precede the asker: what it may have of them.
    pub devices_left: Vec<DevicesLeft>,
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
    /// Σ over claims that precede a newcomer: reserved ones, and nominated ones beyond what their
    /// victims still hold.
    pub kept: Bytes,
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

/// Through whose eyes a node is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Its own claim is left out.
    pub pod: Option<&'a PodUid>,
    /// It passes around claims that are nominated or reserved for pods of a lower priority.
    pub priority: i32,
    /// What if these were gone: their claims, their measurements, their devices.
    pub gone: &'a [PodUid],
}

impl<'a> Asker<'a> {
    /// Someone without a claim, whom everybody precedes.
    #[must_use]
    pub const fn anyone() -> Self {
        Self { pod: None, priority: i32::MIN, gone: &[] }
    }

    /// The same asker, if those were gone.
    #[must_use]
    pub const fn without(self, gone: &'a [PodUid]) -> Self {
        Self { gone, ..self }
    }

    /// The claim does not count for it.
    #[must_use]
    pub fn overlooks(&self, claim: &Claim) -> bool {
        let uid = &claim.pod.uid;
        let is_lower = |priority: i32| priority < self.priority;
        Some(uid) == self.pod || self.gone.contains(uid) || claim.precedence().is_some_and(is_lower)
    }
}

/// The node's GPUs as the asker finds them.
#[must_use]
pub fn view(
    reading: &Reading,
    claims: &[Claim],
    policy: &Policy,
    now: Time,
    asker: Asker<'_>,
) -> NodeView {
    let counts = |claim: &&Claim| !asker.overlooks(claim) && !claim.is_over(now);
    let counted: Vec<&Claim> = claims.iter().filter(counts).collect();
    let victims = victims(&counted);
    let tally = |gpu| Tally::of_measurements(gpu, asker.gone);
    let mut tally: Vec<Tally> = reading.gpus.iter().map(tally).collect();
    let mut view = NodeView::default();
    for claim in &counted {
        view.valid_until = view.valid_until.into_iter().chain(claim.until()).min();
        if !claim.is_advice() {
            view.is_placing |= claim.is_placing(reading);
            view.is_predicted |= claim.is_predicted(reading);
        }
        let is_victim = victims.contains(&&claim.pod.uid);
        for charge in charges(claim, reading) {
            tally[charge.gpu].add(claim, charge, is_victim);
        }
    }
    tally.iter_mut().for_each(|tally| tally.note_leftovers(&victims));
    let is_degraded = reading.attribution != Attribution::Full;
    let states = reading.gpus.iter().zip(tally);
    view.gpus = states.map(|(gpu, tally)| tally.state(gpu, policy, is_degraded)).collect();
    view.devices_left = devices::left(&view.gpus, &counted, &victims);
    devices::count(&mut view, reading, claims, asker.gone);
    if !asker.gone.is_empty() {
        // Until they are gone, who is on the way to a predicted GPU has arrived. Until then all
        // that it could take are charged; but where the plugin sends the next one is not known.
        view.is_placing |= std::mem::take(&mut view.is_predicted);
    }
    view
}

/// Who was asked to leave, each once.
fn victims<'a>(claims: &[&'a Claim]) -> Vec<&'a PodUid> {
    let nominated = claims.iter().filter_map(|claim| claim.nominated());
    let mut victims: Vec<_> = nominated.flat_map(|nomination| &nomination.victims).collect();
    victims.sort_unstable();
    victims.dedup();
    victims
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
    nominated: Bytes,
    reserved: Bytes,
    /// What victims of nominated claims still hold.
    outgoing: Bytes,
    tenants: u32,
    is_exclusive: bool,
}

impl<'a> Tally<'a> {
    fn of_measurements(gpu: &'a GpuReading, gone: &[PodUid]) -> Self {
        let pods = gpu.pods.iter().filter(|pod| !gone.contains(&pod.uid));
        Self {
            unclaimed: pods.map(|pod| (&pod.uid, pod.used)).collect(),
            charged: Bytes::ZERO,
            held: Bytes::ZERO,
            nominated: Bytes::ZERO,
            reserved: Bytes::ZERO,
            outgoing: Bytes::ZERO,
            tenants: 0,
            is_exclusive: false,
        }
    }

    fn add(&mut self, claim: &Claim, charge: Charge, is_victim: bool) {
        let own = self.unclaimed.iter().position(|(uid, _)| **uid == claim.pod.uid);
        let measured = own.map_or(Bytes::ZERO, |own| self.unclaimed.swap_remove(own).1);
        if claim.is_advice() {
            // Advice may vanish; what the pod's processes hold is none.
            self.charged += measured;
            let promised = match claim.state {
                ClaimState::Held { .. } => &mut self.held,
                ClaimState::Reserved { .. } => &mut self.reserved,
                _ => &mut self.nominated,
            };
            *promised += charge.bytes - measured;
        } else {
            self.charged += charge.bytes;
            if is_victim {
                self.outgoing += charge.bytes;
            }
        }
        self.tenants += 1;
        self.is_exclusive |= charge.is_exclusive;
    }

    /// Victims whose charge has ended may hold memory all the same.
    fn note_leftovers(&mut self, victims: &[&PodUid]) {
        let leftovers = self.unclaimed.iter().filter(|(uid, _)| victims.contains(uid));
        self.outgoing += leftovers.map(|(_, used)| *used).sum();
    }

    fn state(self, gpu: &GpuReading, policy: &Policy, is_degraded: bool) -> GpuState {
        let charged = self.charged + self.unclaimed.iter().map(|(_, used)| *used).sum();
        let measured_tenants =
            self.unclaimed.iter().filter(|(_, used)| *used > Bytes::ZERO).count();
        let tenants = self.tenants + measured_tenants as u32;
        let foreign = gpu.foreign();
        let kept = self.nominated - self.outgoing + self.reserved;
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
            kept,
            free: limit - foreign - charged - self.held - kept,
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
