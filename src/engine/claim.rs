//! What a pod has in the ledger: at most one claim, on one node.

use super::reading::{Attribution, GpuReading, PodMemory, Reading};
use super::{Bytes, GpuAsk, GpuUuid, PodRef, Time};

/// Bytes that a pod has, or is about to have, on a node's GPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Whose it is.
    pub pod: PodRef,
    /// How far it has come.
    pub state: ClaimState,
    /// What was decided: bytes on each GPU. Empty for a pod that someone else bound.
    pub planned: Vec<(GpuUuid, Bytes)>,
    /// What the pod asks; `None` where its annotations cannot be read any more.
    pub ask: Option<GpuAsk>,
    /// A sampling began after the pod was bound, so the kubelet's book means this pod and not an
    /// earlier one of the same name.
    pub is_book_current: bool,
}

/// How far a claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// Advice: the pod will probably be bound here. Ends by itself.
    Held {
        /// When.
        until: Time,
    },
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

impl Claim {
    /// Advice only.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.state, ClaimState::Held { .. })
    }

    /// It has, or is promised, whole GPUs.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.ask.as_ref().is_some_and(|ask| ask.most_per_gpu().is_none())
    }

    /// What the pod's processes hold on that GPU.
    #[must_use]
    pub fn memory_on<'a>(&self, gpu: &'a GpuReading) -> Option<&'a PodMemory> {
        gpu.pods.iter().find(|memory| memory.uid == self.pod.uid)
    }

    /// The GPUs that the claim is charged on.
    #[must_use]
    pub fn places<'a>(&'a self, reading: &'a Reading) -> Vec<&'a GpuUuid> {
        let planned = self.planned.iter().map(|(gpu, _)| gpu);
        if matches!(self.state, ClaimState::Held { .. } | ClaimState::Binding { .. }) {
            return planned.collect();
        }
        let seen = self.seen(reading);
        if self.is_settled(&seen, reading) {
            return seen;
        }
        let listed = self.listed(reading);
        let is_planned_moot = !self.is_steered() && !listed.is_empty();
        let planned = planned.filter(|_| !is_planned_moot);
        let places: Vec<_> = planned.chain(listed).chain(seen).collect();
        if places.is_empty() { self.anywhere(reading) } else { places }
    }

    /// Bytes expected on that GPU. While the agent's peaks do not cover the window, what was
    /// charged at bind stands in for peaks that nobody remembers.
    #[must_use]
    pub fn expected_on(&self, gpu: &GpuUuid, window_is_young: bool) -> Bytes {
        let decided = self.planned_on(gpu);
        match self.sole_declaration() {
            Some(declared) if window_is_young => declared.max(decided),
            Some(declared) => declared,
            None => {
                decided.max(self.ask.as_ref().and_then(GpuAsk::most_per_gpu).unwrap_or(Bytes::ZERO))
            }
        }
    }

    /// The devices that the pod has are not known yet.
    #[must_use]
    pub fn is_placing(&self, reading: &Reading) -> bool {
        match self.state {
            ClaimState::Held { .. } | ClaimState::Leaving { .. } => false,
            ClaimState::Binding { .. } => true,
            ClaimState::Bound { .. } => {
                self.listed(reading).is_empty() && !self.is_settled(&self.seen(reading), reading)
            }
        }
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
        let is_own = |uid: Option<&super::PodUid>| match uid {
            Some(uid) => *uid == self.pod.uid,
            None => self.is_book_current,
        };
        let entries = reading.devices.iter().filter(|device| {
            device.pod == self.pod.name
                && device.namespace == self.pod.namespace
                && is_own(device.uid.as_ref())
        });
        entries.map(|device| &device.gpu).collect()
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
