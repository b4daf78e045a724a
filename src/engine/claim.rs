//! What a pod has in the ledger: at most one claim, on one node.

use super::reading::{Attribution, DeviceAssignment, GpuReading, PodMemory, Reading};
use super::{Bytes, GpuAsk, GpuUuid, PodRef, PodUid, Time};

/// Bytes that a pod has, or is about to have, on a node's GPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Whose it is.
    pub pod: PodRef,
    /// How far it has come.
    pub state: ClaimState,
    /// What was decided: bytes on each GPU. Empty for a pod that someone else bound.
    pub planned: Vec<(GpuUuid, Bytes)>,
    /// `planned` is what the bound pod says. Until it was seen, another Binding than ours may be
    /// the one that took place; afterwards an edit of the pod's annotation changes nothing.
    pub is_confirmed: bool,
    /// What the pod asks; `None` where its annotations cannot be read (any more): then nothing
    /// says what it needs or whether it is steered, and the worst is assumed.
    pub ask: Option<GpuAsk>,
    /// A sampling began after the pod was bound, so the kubelet's book means this pod and not an
    /// earlier one of the same name.
    pub is_book_current: bool,
    /// Whether it was found where it was sent.
    pub landing: Landing,
    /// GPUs on which it holds more than it is charged, and how much more when that was told last.
    pub grown: Vec<(GpuUuid, Bytes)>,
    /// Why the place was kept for it, where pods were asked to leave it. Stays with the claim while
    /// it is *binding*, so that a Binding which fails does not cost the place.
    pub nomination: Option<Box<Nomination>>,
}

/// What is known of the GPU that a pod has come to, next to the one that it was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// Nobody asks: this process did not send it.
    Unwatched,
    /// It was sent, and has not been found.
    Awaited,
    /// It is where it was sent.
    Hit,
    /// It is, or was, on another GPU.
    Miss,
}

/// A place that pods were asked to leave for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nomination {
    /// Of the pod that gets the place: it is kept from pods of the same or a lower priority.
    pub priority: i32,
    /// Who was asked to leave.
    pub victims: Vec<PodUid>,
    /// Since when.
    pub since: Time,
    /// When it ends; `None` while a victim is there.
    pub until: Option<Time>,
}

/// How far a claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// Advice: the pod will probably be bound here. Ends by itself.
    Held {
        /// When.
        until: Time,
    },
    /// Advice: the pod has waited for too long, and what becomes free here is kept for it.
    Reserved {
        /// Of the pod: the place is kept from pods of the same or a lower priority.
        priority: i32,
        /// Since when.
        since: Time,
    },
    /// Advice: pods were asked to leave so that this one fits; see [`Claim::nomination`].
    Nominated,
    /// A Binding may have been sent. Ends only with the API server's word.
    Binding {
        /// The outcome is unknown: only a fence tells it.
        in_doubt: bool,
    },
    /// The pod is bound here.
    Bound {
        /// Since we know.
        since: Time,
    },
    /// The pod is gone; its memory may not be.
    Leaving {
        /// No sampling that began earlier ends the claim.
        not_before: Time,
    },
}

impl ClaimState {
    /// A fixed word for people and programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::Reserved { .. } => "reserved",
            Self::Nominated => "nominated",
            Self::Binding { in_doubt: false } => "binding",
            Self::Binding { in_doubt: true } => "inDoubt",
            Self::Bound { .. } => "bound",
            Self::Leaving { .. } => "leaving",
        }
    }
}

impl Claim {
    /// It is a hold.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.state, ClaimState::Held { .. })
    }

    /// Advice only: it may vanish at any moment.
    #[must_use]
    pub fn is_advice(&self) -> bool {
        use ClaimState::{Held, Nominated, Reserved};
        matches!(self.state, Held { .. } | Reserved { .. } | Nominated)
    }

    /// It is a reservation.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        matches!(self.state, ClaimState::Reserved { .. })
    }

    /// The priority of the pod that the place is kept for: pods of the same or a lower one find it
    /// taken, others pass around it.
    #[must_use]
    pub fn precedence(&self) -> Option<i32> {
        match self.state {
            ClaimState::Reserved { priority, .. } => Some(priority),
            _ => self.nominated().map(|nomination| nomination.priority),
        }
    }

    /// The nomination, where the claim is no more than that.
    #[must_use]
    pub fn nominated(&self) -> Option<&Nomination> {
        let nomination = self.nomination.as_deref();
        nomination.filter(|_| self.state == ClaimState::Nominated)
    }

    /// When it ends by itself, where that is known.
    #[must_use]
    pub fn until(&self) -> Option<Time> {
        match self.state {
            ClaimState::Held { until } => Some(until),
            _ => self.nominated()?.until,
        }
    }

    /// It has ended by itself.
    #[must_use]
    pub fn is_over(&self, now: Time) -> bool {
        self.until().is_some_and(|until| until <= now)
    }

    /// It is bound, or was.
    #[must_use]
    pub fn was_bound(&self) -> bool {
        matches!(self.state, ClaimState::Bound { .. } | ClaimState::Leaving { .. })
    }

    /// It has, or is promised, whole GPUs: by its own words, or because nothing tells its need.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        match &self.ask {
            Some(ask) => ask.most_per_gpu().is_none(),
            None => self.planned.is_empty(),
        }
    }

    /// What the pod's processes hold on that GPU.
    #[must_use]
    pub fn memory_on<'a>(&self, gpu: &'a GpuReading) -> Option<&'a PodMemory> {
        gpu.pods.iter().find(|memory| memory.uid == self.pod.uid)
    }

    /// The GPUs that the claim is charged on.
    #[must_use]
    pub fn places<'a>(&'a self, reading: &'a Reading) -> Vec<&'a GpuUuid> {
        // A GPU that the reading lacks was another machine's: the plan says nothing here.
        let there = |gpu: &&GpuUuid| reading.gpu(gpu).is_some();
        let planned: Vec<_> = self.planned.iter().map(|(gpu, _)| gpu).filter(there).collect();
        let places = match self.state {
            _ if self.is_advice() => return planned,
            ClaimState::Bound { .. } | ClaimState::Leaving { .. } => self.real(planned, reading),
            _ => planned,
        };
        if places.is_empty() { self.anywhere(reading) } else { places }
    }

    /// Where a bound pod is, by the book that is real: its processes once all are seen, then the
    /// kubelet's list, and the plan as long as it may still come true.
    fn real<'a>(&'a self, planned: Vec<&'a GpuUuid>, reading: &'a Reading) -> Vec<&'a GpuUuid> {
        let seen = self.seen(reading);
        if self.is_settled(&seen, reading) {
            return seen;
        }
        let listed = self.listed(reading);
        let is_unsteered = self.ask.as_ref().is_some_and(|ask| !ask.is_steered());
        let is_planned_moot = is_unsteered && !listed.is_empty();
        let planned = planned.into_iter().filter(|_| !is_planned_moot);
        planned.chain(listed).chain(seen).collect()
    }

    /// Bytes expected on that GPU: what was decided, and never less than what is declared now. An
    /// edit of a running pod raises that and does not lower it: its processes were told their share
    /// when they began, and may still take it.
    #[must_use]
    pub fn expected_on(&self, gpu: &GpuUuid) -> Bytes {
        let decided = self.planned_on(gpu);
        match self.sole_declaration() {
            Some(declared) => declared.max(decided),
            // Nobody decided: all of its containers may have come to lie on this GPU.
            None if self.planned.is_empty() => {
                self.ask.as_ref().and_then(GpuAsk::sum_per_gpu).unwrap_or(Bytes::ZERO)
            }
            // What is declared beyond the whole decision may be on any of its GPUs.
            None => {
                let planned = self.planned.iter().map(|(_, bytes)| *bytes).sum::<Bytes>();
                decided + (self.ask.as_ref().map_or(Bytes::ZERO, GpuAsk::total) - planned)
            }
        }
    }

    /// Someone else bound it: nothing was decided about it that can be believed.
    #[must_use]
    pub fn is_unmanaged(&self) -> bool {
        self.was_bound() && self.planned.is_empty()
    }

    /// How much more than it is charged its processes hold on the GPU. A pod that has the whole GPU
    /// cannot grow past that, and of one that nobody knows anything about there is no charge.
    #[must_use]
    pub fn over_charge_on(&self, gpu: &GpuReading) -> Bytes {
        let Some(memory) = self.memory_on(gpu).filter(|_| !self.is_exclusive()) else {
            return Bytes::ZERO;
        };
        match self.expected_on(&gpu.uuid) {
            Bytes::ZERO => Bytes::ZERO,
            charged => memory.used - charged,
        }
    }

    /// The GPUs that the bound pod was found on, by its processes or, where the device plugin
    /// chose, by the kubelet's list; `None` as long as nothing tells.
    #[must_use]
    pub fn found_on<'a>(&self, reading: &'a Reading) -> Option<Vec<&'a GpuUuid>> {
        let seen = self.seen(reading);
        if self.is_settled(&seen, reading) {
            return Some(seen);
        }
        let is_unsteered = self.ask.as_ref().is_some_and(|ask| !ask.is_steered());
        let listed = if is_unsteered { self.listed(reading) } else { Vec::new() };
        (!listed.is_empty()).then_some(listed)
    }

    /// Its processes are on a GPU that it was not sent to.
    #[must_use]
    pub fn is_elsewhere(&self, reading: &Reading) -> bool {
        self.found_on(reading).is_some_and(|found| self.has_strayed_to(&found))
    }

    /// The GPUs that it was found on are not all among those that it was sent to.
    #[must_use]
    pub fn has_strayed_to(&self, found: &[&GpuUuid]) -> bool {
        let was_sent = |gpu: &&GpuUuid| self.planned.iter().any(|(planned, _)| planned == *gpu);
        !self.planned.is_empty() && !found.iter().all(was_sent)
    }

    /// The devices that the pod has, or had until a moment ago, are not known: the device
    /// plugin's book is not what the reading shows.
    #[must_use]
    pub fn is_placing(&self, reading: &Reading) -> bool {
        match self.state {
            ClaimState::Binding { .. } => true,
            ClaimState::Bound { .. } | ClaimState::Leaving { .. } => {
                self.listed(reading).is_empty() && !self.is_settled(&self.seen(reading), reading)
            }
            _ => false,
        }
    }

    /// Its GPU was predicted and is not known yet: whatever takes a device before it does can
    /// make the prediction wrong.
    #[must_use]
    pub fn is_predicted(&self, reading: &Reading) -> bool {
        !self.planned.is_empty() && !self.is_steered() && self.is_placing(reading)
    }

    /// The pod keeps its devices, as far as anyone can tell.
    #[must_use]
    pub fn is_staying(&self) -> bool {
        matches!(self.state, ClaimState::Binding { .. } | ClaimState::Bound { .. })
    }

    /// Bytes decided for that GPU, or the most decided for any where the pod came to lie on
    /// another.
    fn planned_on(&self, gpu: &GpuUuid) -> Bytes {
        let here = self.planned.iter().find(|(planned, _)| planned == gpu).map(|(_, bytes)| *bytes);
        let anywhere = || self.planned.iter().map(|(_, bytes)| *bytes).max();
        here.or_else(anywhere).unwrap_or(Bytes::ZERO)
    }

    /// The declaration that alone says what each GPU is charged: a pod with one GPU container.
    fn sole_declaration(&self) -> Option<Bytes> {
        let mut shares = self.ask.as_ref()?.all_shares();
        let only = shares.next()?;
        if shares.next().is_some() { None } else { only.vram.bytes() }
    }

    fn is_steered(&self) -> bool {
        self.ask.as_ref().is_some_and(GpuAsk::is_steered)
    }

    fn seen<'a>(&self, reading: &'a Reading) -> Vec<&'a GpuUuid> {
        let holds = |memory: &PodMemory| memory.used > Bytes::ZERO || memory.peak > Bytes::ZERO;
        let gpus = reading.gpus.iter().filter(|gpu| self.memory_on(gpu).is_some_and(holds));
        gpus.map(|gpu| &gpu.uuid).collect()
    }

    /// Processes are seen on as many GPUs as the pod has devices: nothing more is to come.
    fn is_settled(&self, seen: &[&GpuUuid], reading: &Reading) -> bool {
        let devices = self.ask.as_ref().map_or(1, GpuAsk::devices).max(1) as usize;
        reading.attribution == Attribution::Full && seen.len() >= devices
    }

    fn listed<'a>(&self, reading: &'a Reading) -> Vec<&'a GpuUuid> {
        let entries = reading.devices.iter().filter(|device| self.owns(device));
        entries.map(|device| &device.gpu).collect()
    }

    /// The entry of the kubelet's book is this pod's.
    #[must_use]
    pub fn owns(&self, device: &DeviceAssignment) -> bool {
        let is_own = match &device.uid {
            Some(uid) => *uid == self.pod.uid,
            None => self.is_book_current,
        };
        is_own && device.pod == self.pod.name && device.namespace == self.pod.namespace
    }

    /// Someone else bound it and nothing shows where it is: it may be on any GPU it could have.
    fn anywhere<'a>(&self, reading: &'a Reading) -> Vec<&'a GpuUuid> {
        let wanted = |gpu: &&GpuReading| {
            self.ask
                .as_ref()
                .is_none_or(|ask| ask.all_shares().any(|share| share.resource == gpu.resource))
        };
        reading.gpus.iter().filter(wanted).map(|gpu| &gpu.uuid).collect()
    }
}
