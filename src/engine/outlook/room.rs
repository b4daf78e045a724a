//! What a node has to give, small enough to try thousands of pods on: the rules of
//! [`placement`](crate::engine::placement), without scores and names.
//!
//! Where admission picks the best score, the tightest GPU is picked here, as the default weights do.
//! A placement in flight, over within seconds, refuses nobody here.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::engine::accounting::GpuState;
use crate::engine::ledger::{PluginAllocation, Policy};
use crate::engine::request::{GpuAsk, Share, Vram};
use crate::engine::{Bytes, Reason};

/// What one node has to give.
#[derive(Debug, Clone, Default)]
pub(super) struct Room {
    pools: Vec<Pool>,
}

/// GPUs of one extended resource.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) resource: Arc<str>,
    /// Devices that kube-scheduler counts as left.
    pub(super) devices: u32,
    pub(super) gpus: Vec<Slot>,
    is_packed: bool,
}

/// One GPU.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// What a newcomer may have.
    pub(super) open: Bytes,
    /// The most that one pod may have: the MPS daemon's cap.
    pub(super) most: Bytes,
    /// How many more pods it takes, whatever is free.
    pub(super) pods: u32,
    /// A pod of unknown need may have it.
    pub(super) is_empty: bool,
    replicas: u32,
    /// Replicas that containers have.
    assigned: u32,
}

/// How a node's GPUs are shared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sharing<'a> {
    pub(super) policy: &'a Policy,
    pub(super) is_mps: bool,
    /// Memory cannot be told apart by pod: one pod a GPU.
    pub(super) is_degraded: bool,
}

impl Room {
    /// What the GPUs have to give now.
    pub(super) fn of(gpus: &[GpuState], sharing: Sharing<'_>) -> Self {
        Self::with(gpus, sharing.policy, |gpu| Slot::now(gpu, sharing))
    }

    /// What they would give if nobody were there.
    pub(super) fn emptied(gpus: &[GpuState], sharing: Sharing<'_>) -> Self {
        Self::with(gpus, sharing.policy, |gpu| Slot::emptied(gpu, sharing))
    }

    fn with(gpus: &[GpuState], policy: &Policy, slot: impl Fn(&GpuState) -> Slot) -> Self {
        let is_packed = policy.plugin_allocation == PluginAllocation::Packed;
        let mut room = Self::default();
        for gpu in gpus {
            let at = room.pools.iter().position(|pool| pool.resource == gpu.resource);
            let at = at.unwrap_or_else(|| {
                let resource = gpu.resource.clone();
                room.pools.push(Pool { resource, devices: 0, gpus: Vec::new(), is_packed });
                room.pools.len() - 1
            });
            room.pools[at].devices += gpu.replicas;
            room.pools[at].gpus.push(slot(gpu));
        }
        room
    }

    /// Devices of its resources that the pod has, or will have.
    pub(super) fn give_devices(&mut self, ask: &GpuAsk) {
        for pool in &mut self.pools {
            pool.devices = pool.devices.saturating_sub(ask.devices_of(&pool.resource));
        }
    }

    /// No GPU takes more pods than it has replicas. For nodes that do not exist yet: what is then
    /// said of a number of GPUs holds however they are spread over nodes.
    pub(super) fn capped_by_replicas(mut self) -> Self {
        for slot in self.pools.iter_mut().flat_map(|pool| &mut pool.gpus) {
            slot.pods = slot.pods.min(slot.replicas.max(1));
        }
        self
    }

    pub(super) fn pools(&self) -> &[Pool] {
        &self.pools
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.pools.iter().flat_map(|pool| &pool.gpus)
    }

    fn pool(&self, resource: &str) -> Option<(usize, &Pool)> {
        self.pools.iter().enumerate().find(|(_, pool)| *pool.resource == *resource)
    }

    /// Takes the pod where it fits; whether it did.
    pub(super) fn take(&mut self, ask: &GpuAsk) -> bool {
        if !self.may_take(ask) {
            return false;
        }
        let is_only = ask.all_shares().count() == 1;
        let mut draft = Draft { room: self, taken: Vec::new(), is_only };
        let mut shares: Vec<&Share> = ask.shares.iter().collect();
        shares.sort_by_key(|share| Reverse(share.vram.bytes().unwrap_or(Bytes::new(u64::MAX))));
        let all = shares.into_iter().map(|share| (share, false));
        let mut all = all.chain(ask.early.iter().map(|share| (share, true)));
        if !all.all(|(share, is_early)| draft.add(share, is_early)) {
            return false;
        }
        let taken = draft.taken;
        for (pool, gpu, bytes, shares) in taken {
            self.pools[pool].gpus[gpu].take(bytes, shares);
        }
        self.give_devices(ask);
        true
    }

    /// Why not even the empty node takes the pod.
    pub(super) fn refusal(&self, ask: &GpuAsk) -> Reason {
        let pools = || ask.all_shares().map(|share| (share, self.pool(&share.resource)));
        let is_short = |(share, pool): (&Share, Option<(usize, &Pool)>)| {
            pool.is_some_and(|(_, pool)| pool.gpus.len() < share.gpus as usize)
        };
        let needs_steering = |(share, pool): (&Share, Option<(usize, &Pool)>)| {
            pool.is_some_and(|(_, pool)| pool.needs_steering(share))
        };
        let is_capped = |(share, pool): (&Share, Option<(usize, &Pool)>)| {
            pool.is_some_and(|(_, pool)| pool.caps(share))
        };
        if pools().any(|(_, pool)| pool.is_none()) {
            Reason::NoSuchGpu
        } else if !self.has_devices(ask) || pools().any(is_short) {
            Reason::NotEnoughGpus
        } else if pools().any(needs_steering) {
            Reason::NeedsSteering
        } else if pools().any(is_capped) {
            Reason::AboveMpsShare
        } else {
            Reason::NotEnoughVram
        }
    }

    /// What most nodes of a full fleet fail, at little cost.
    fn may_take(&self, ask: &GpuAsk) -> bool {
        self.has_devices(ask)
            && ask.all_shares().all(|share| {
                let pool = self.pool(&share.resource);
                pool.is_some_and(|(_, pool)| pool.fitting(share.vram) >= share.gpus as usize)
            })
    }

    fn has_devices(&self, ask: &GpuAsk) -> bool {
        ask.all_shares().all(|share| {
            let pool = self.pool(&share.resource);
            pool.is_some_and(|(_, pool)| ask.devices_of(&share.resource) <= pool.devices)
        })
    }
}

/// A pod that is being placed.
struct Draft<'a> {
    room: &'a Room,
    /// Pool, GPU, bytes and containers of this pod there.
    taken: Vec<(usize, usize, Bytes, u32)>,
    is_only: bool,
}

impl Draft<'_> {
    fn add(&mut self, share: &Share, is_early: bool) -> bool {
        let Some((at, pool)) = self.room.pool(&share.resource) else { return false };
        let wanted = share.gpus as usize;
        let mut fitting = Vec::new();
        for gpu in self.candidates(pool, share) {
            let own = self.taken.iter().find(|taken| (taken.0, taken.1) == (at, gpu));
            let own = own.map_or(Bytes::ZERO, |taken| taken.2);
            match pool.gpus[gpu].need(share.vram, own, is_early) {
                Some(more) => fitting.push((pool.gpus[gpu].open - own - more, gpu, more)),
                None if share.steered_by.is_none() => return false,
                None => {}
            }
        }
        if fitting.len() < wanted {
            return false;
        }
        fitting.sort_unstable();
        fitting.truncate(wanted);
        fitting.into_iter().for_each(|(_, gpu, more)| self.note(at, gpu, more, is_early));
        true
    }

    /// GPUs that the share may get: where the device plugin chooses, all of them must have room.
    fn candidates(&self, pool: &Pool, share: &Share) -> Vec<usize> {
        let all = 0..pool.gpus.len();
        if share.steered_by.is_some() {
            return all.collect();
        }
        if pool.needs_steering(share) {
            return Vec::new();
        }
        let left = all.filter(|gpu| pool.gpus[*gpu].assigned < pool.gpus[*gpu].replicas);
        let left: Vec<usize> = left.collect();
        if !pool.is_shared() || !self.is_only {
            return left;
        }
        let assigned = left.iter().map(|gpu| pool.gpus[*gpu].assigned);
        let next = if pool.is_packed { assigned.max() } else { assigned.min() };
        left.into_iter().filter(|gpu| Some(pool.gpus[*gpu].assigned) == next).collect()
    }

    fn note(&mut self, pool: usize, gpu: usize, more: Bytes, is_early: bool) {
        let containers = u32::from(!is_early);
        match self.taken.iter_mut().find(|taken| (taken.0, taken.1) == (pool, gpu)) {
            Some(taken) => {
                taken.2 += more;
                taken.3 += containers;
            }
            None => self.taken.push((pool, gpu, more, containers)),
        }
    }
}

impl Pool {
    /// GPUs on which one container fits.
    pub(super) fn fitting(&self, vram: Vram) -> usize {
        self.gpus.iter().filter(|gpu| gpu.fits(vram)).count()
    }

    fn is_shared(&self) -> bool {
        self.gpus.iter().any(|gpu| gpu.replicas > 1)
    }

    /// Several GPUs for a container that filmgate cannot steer could be replicas of one.
    fn needs_steering(&self, share: &Share) -> bool {
        share.steered_by.is_none() && share.gpus > 1 && self.is_shared()
    }

    /// The MPS daemon grants no client so much.
    fn caps(&self, share: &Share) -> bool {
        share.vram.bytes().is_some_and(|bytes| self.gpus.iter().all(|gpu| gpu.most < bytes))
    }
}

impl Slot {
    fn now(gpu: &GpuState, sharing: Sharing<'_>) -> Self {
        let policy = sharing.policy;
        let is_empty =
            gpu.closed.is_none() && gpu.tenants == 0 && gpu.foreign <= policy.exclusive_foreign;
        let assigned = gpu.assigned.saturating_sub(gpu.vacating);
        let open = gpu.open_bytes();
        Self { open, is_empty, assigned, ..Self::emptied(gpu, sharing) }
    }

    fn emptied(gpu: &GpuState, sharing: Sharing<'_>) -> Self {
        let replicas = gpu.replicas.max(1);
        let share = Bytes::new(gpu.total.get() / u64::from(replicas));
        Self {
            open: gpu.total - gpu.reserved - sharing.policy.headroom,
            most: if sharing.is_mps { share } else { Bytes::new(u64::MAX) },
            pods: if sharing.is_degraded { 1 } else { u32::MAX },
            is_empty: true,
            replicas: gpu.replicas,
            assigned: 0,
        }
    }

    /// Bytes that a container adds to the `own` ones of its pod; `None` where it does not fit. One
    /// that runs before the others needs only what is above theirs.
    fn need(&self, vram: Vram, own: Bytes, is_early: bool) -> Option<Bytes> {
        let beside = if is_early { Bytes::ZERO } else { own };
        let free = self.open - beside;
        let bytes = match vram.bytes() {
            Some(bytes) => bytes,
            None if self.is_empty && beside == Bytes::ZERO => free,
            None => return None,
        };
        let fits = bytes > Bytes::ZERO && bytes <= free && bytes <= self.most && self.pods > 0;
        fits.then(|| if is_early { bytes - own } else { bytes })
    }

    pub(super) fn fits(&self, vram: Vram) -> bool {
        self.need(vram, Bytes::ZERO, false).is_some()
    }

    fn take(&mut self, bytes: Bytes, containers: u32) {
        self.open = self.open - bytes;
        self.pods = self.pods.saturating_sub(1);
        self.assigned += containers;
        self.is_empty = false;
    }
}
