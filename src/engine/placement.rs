//! Which GPUs of a node a pod would get, and what each would be charged.
//!
//! *Steered* containers get the GPU chosen here. For the others the device plugin chooses: its
//! choice is predicted from its own book, and every GPU that it could take must have room.

use std::sync::Arc;

use super::accounting::{Closed, DevicesLeft, GpuState, NodeView};
use super::ledger::{PluginAllocation, Policy};
use super::request::{GpuAsk, Share, Vram};
use super::score::{self, Terms};
use super::{Bytes, GpuUuid, Reason};

/// Where a pod would go on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Bytes on each GPU that the pod would be charged on.
    pub charged: Vec<(GpuUuid, Bytes)>,
    /// GPUs of each container: chosen where steered, possible where not.
    pub containers: Vec<ContainerPlacement>,
    /// How good the place is, 0 to 1: the mean over the containers' GPUs.
    pub score: f64,
    /// The smallest part of a GPU's memory that a container was given.
    pub least_fraction: f64,
}

/// GPUs of one container.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerPlacement {
    /// The container.
    pub container: Arc<str>,
    /// Its GPUs.
    pub gpus: Vec<GpuUuid>,
    /// The annotation through which it learns them.
    pub steered_by: Option<Arc<str>>,
}

impl Placement {
    /// No place was found, and the pod is let through all the same.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { charged: Vec::new(), containers: Vec::new(), score: 0.0, least_fraction: 1.0 }
    }
}

/// What a node's GPUs are judged by, besides the view.
#[derive(Debug, Clone, Copy)]
pub struct Terrain<'a> {
    /// The configuration.
    pub policy: &'a Policy,
    /// GPUs are shared through the MPS daemon, which caps each client.
    pub is_mps: bool,
    /// How fresh the reading is, 0 to 1.
    pub freshness: f64,
}

/// Finds GPUs for the pod.
///
/// # Errors
/// The reason of the GPU that came nearest.
pub fn place(view: &NodeView, ask: &GpuAsk, terrain: Terrain<'_>) -> Result<Placement, Reason> {
    let mut draft = Draft::new(view, terrain, ask.all_shares().count() == 1);
    let mut shares: Vec<&Share> = ask.shares.iter().collect();
    shares
        .sort_by_key(|share| std::cmp::Reverse(share.vram.bytes().unwrap_or(Bytes::new(u64::MAX))));
    for share in shares {
        let gpus = draft.choose(share)?;
        draft.take(share, &gpus);
    }
    for share in &ask.early {
        let gpus = draft.choose_alone(share)?;
        draft.take_alone(share, &gpus);
    }
    let is_short = |left: &DevicesLeft| ask.devices_of(&left.resource) > left.count;
    if view.devices_left.iter().any(is_short) {
        return Err(Reason::DevicesKept);
    }
    Ok(draft.finish())
}

/// Whether the share fits the GPU on top of `taken` bytes, and how well.
///
/// # Errors
/// Why it does not.
pub fn judge(
    gpu: &GpuState,
    taken: Bytes,
    vram: Vram,
    terrain: Terrain<'_>,
) -> Result<Terms, Reason> {
    match gpu.closed {
        Some(Closed::Unhealthy) => return Err(Reason::GpuUnhealthy),
        Some(Closed::Unattributed) => return Err(Reason::Unattributed),
        Some(Closed::Exclusive) if vram == Vram::Exclusive => return Err(Reason::NoEmptyGpu),
        Some(Closed::Exclusive) => return Err(Reason::NotEnoughVram),
        None => {}
    }
    let free = gpu.free - taken;
    let bytes = match vram.bytes() {
        Some(bytes) => bytes,
        None if is_empty(gpu, taken, terrain.policy) => free,
        None => return Err(Reason::NoEmptyGpu),
    };
    if bytes > free || bytes == Bytes::ZERO {
        return Err(Reason::NotEnoughVram);
    }
    if terrain.is_mps && bytes.get() > gpu.total.get() / u64::from(gpu.replicas.max(1)) {
        return Err(Reason::AboveMpsShare);
    }
    Ok(score::terms(gpu.total, gpu.utilization_ratio, free, bytes, terrain.freshness))
}

fn is_empty(gpu: &GpuState, taken: Bytes, policy: &Policy) -> bool {
    gpu.tenants == 0 && taken == Bytes::ZERO && gpu.foreign <= policy.exclusive_foreign
}

/// A placement in the making.
struct Draft<'a> {
    view: &'a NodeView,
    terrain: Terrain<'a>,
    /// Bytes that earlier shares of this pod take, per GPU.
    taken: Vec<Bytes>,
    containers: Vec<ContainerPlacement>,
    scores: Vec<f64>,
    least_fraction: f64,
    is_only_share: bool,
}

impl<'a> Draft<'a> {
    fn new(view: &'a NodeView, terrain: Terrain<'a>, is_only_share: bool) -> Self {
        Self {
            view,
            terrain,
            is_only_share,
            taken: vec![Bytes::ZERO; view.gpus.len()],
            containers: Vec::new(),
            scores: Vec::new(),
            least_fraction: 1.0,
        }
    }

    /// Positions of the GPUs that the share gets, or may get.
    fn choose(&self, share: &Share) -> Result<Vec<usize>, Reason> {
        let gpus = self.offered(&share.resource);
        if gpus.is_empty() {
            return Err(Reason::NoSuchGpu);
        }
        // A steered container takes a device too: one that the prediction for another pod counts
        // as left.
        let is_steered = share.steered_by.is_some();
        if self.view.is_predicted || (self.view.is_placing && !is_steered) {
            return Err(Reason::PlacementInFlight);
        }
        if is_steered {
            return self.best(gpus, share);
        }
        let is_shared = gpus.iter().any(|gpu| self.view.gpus[*gpu].replicas > 1);
        if share.gpus > 1 && is_shared {
            return Err(Reason::NeedsSteering);
        }
        self.all_possible(&gpus, share, is_shared)
    }

    /// An init container runs alone; a steered one on the devices that the others get later where
    /// it can.
    fn choose_alone(&self, share: &Share) -> Result<Vec<usize>, Reason> {
        let nothing_taken = Draft::new(self.view, self.terrain, self.is_only_share);
        if share.steered_by.is_none() {
            return nothing_taken.choose(share);
        }
        let used: Vec<_> = self
            .offered(&share.resource)
            .into_iter()
            .filter(|gpu| self.taken[*gpu] > Bytes::ZERO)
            .collect();
        let again = nothing_taken.best(used, share);
        again.or_else(|_| nothing_taken.choose(share))
    }

    fn offered(&self, resource: &str) -> Vec<usize> {
        let gpus = self.view.gpus.iter().enumerate();
        gpus.filter(|(_, gpu)| *gpu.resource == *resource).map(|(position, _)| position).collect()
    }

    /// The `share.gpus` distinct GPUs with the best scores.
    fn best(&self, gpus: Vec<usize>, share: &Share) -> Result<Vec<usize>, Reason> {
        let wanted = share.gpus as usize;
        let mut refusals = Vec::new();
        let mut fitting = Vec::with_capacity(gpus.len());
        for gpu in gpus {
            match self.judge(gpu, share.vram) {
                Ok(terms) => fitting.push((self.terrain.policy.weights.score(terms), gpu)),
                Err(reason) => refusals.push(reason),
            }
        }
        if fitting.len() < wanted {
            let some_fit = !fitting.is_empty();
            let nearest = nearest(refusals).unwrap_or(Reason::NoSuchGpu);
            return Err(if some_fit { Reason::NotEnoughGpus } else { nearest });
        }
        fitting.sort_by(|(left, _), (right, _)| right.total_cmp(left));
        Ok(fitting.into_iter().take(wanted).map(|(_, gpu)| gpu).collect())
    }

    /// Every GPU that the device plugin could give; all must have room.
    fn all_possible(
        &self,
        gpus: &[usize],
        share: &Share,
        is_shared: bool,
    ) -> Result<Vec<usize>, Reason> {
        let left = self.with_replicas_left(gpus);
        let possible = if is_shared && self.is_only_share { self.next_by_rule(left) } else { left };
        if possible.len() < share.gpus as usize {
            return Err(Reason::NotEnoughGpus);
        }
        for gpu in &possible {
            self.judge(*gpu, share.vram)?;
        }
        Ok(possible)
    }

    fn with_replicas_left(&self, gpus: &[usize]) -> Vec<usize> {
        let has_left = |gpu: &usize| self.staying(*gpu) < self.view.gpus[*gpu].replicas;
        gpus.iter().copied().filter(has_left).collect()
    }

    /// The GPUs among which the plugin's rule does not decide: those with the fewest replicas in
    /// use (`distributed`) or the most (`packed`), whichever of the vacating ones are free by
    /// then. Unshared GPUs, and containers that come after another of their pod, may get any.
    fn next_by_rule(&self, left: Vec<usize>) -> Vec<usize> {
        let assigned = |gpu: &usize| self.view.gpus[*gpu].assigned;
        let staying = |gpu: &usize| self.staying(*gpu);
        match self.terrain.policy.plugin_allocation {
            PluginAllocation::Distributed => {
                let fewest = left.iter().map(assigned).min();
                left.into_iter().filter(|gpu| Some(staying(gpu)) <= fewest).collect()
            }
            PluginAllocation::Packed => {
                let is_surely_left = |gpu: &&usize| assigned(gpu) < self.view.gpus[**gpu].replicas;
                let most = left.iter().filter(is_surely_left).map(staying).max();
                left.into_iter().filter(|gpu| Some(assigned(gpu)) >= most).collect()
            }
        }
    }

    /// Replicas in use of which none is known to be given back.
    fn staying(&self, gpu: usize) -> u32 {
        let gpu = &self.view.gpus[gpu];
        gpu.assigned.saturating_sub(gpu.vacating)
    }

    fn judge(&self, gpu: usize, vram: Vram) -> Result<Terms, Reason> {
        judge(&self.view.gpus[gpu], self.taken[gpu], vram, self.terrain)
    }

    fn take(&mut self, share: &Share, gpus: &[usize]) {
        for gpu in gpus {
            let bytes = self.bytes(*gpu, share.vram, self.taken[*gpu]);
            self.note(*gpu, share.vram, bytes, self.taken[*gpu]);
            self.taken[*gpu] += bytes;
        }
        self.push(share, gpus);
    }

    fn take_alone(&mut self, share: &Share, gpus: &[usize]) {
        for gpu in gpus {
            let bytes = self.bytes(*gpu, share.vram, Bytes::ZERO);
            self.note(*gpu, share.vram, bytes, Bytes::ZERO);
            self.taken[*gpu] = self.taken[*gpu].max(bytes);
        }
        self.push(share, gpus);
    }

    fn bytes(&self, gpu: usize, vram: Vram, taken: Bytes) -> Bytes {
        vram.bytes().unwrap_or(self.view.gpus[gpu].free - taken)
    }

    fn note(&mut self, gpu: usize, vram: Vram, bytes: Bytes, taken: Bytes) {
        let state = &self.view.gpus[gpu];
        if let Ok(terms) = judge(state, taken, vram, self.terrain) {
            self.scores.push(self.terrain.policy.weights.score(terms));
        }
        let context = self.terrain.policy.cuda_context;
        let capped = if bytes > context { bytes - context } else { bytes };
        self.least_fraction = self.least_fraction.min(capped.ratio_of(state.total));
    }

    fn push(&mut self, share: &Share, gpus: &[usize]) {
        self.containers.push(ContainerPlacement {
            container: share.container.clone(),
            gpus: gpus.iter().map(|gpu| self.view.gpus[*gpu].uuid.clone()).collect(),
            steered_by: share.steered_by.clone(),
        });
    }

    fn finish(self) -> Placement {
        let gpus = self.view.gpus.iter().zip(&self.taken);
        let charged = gpus.filter(|(_, bytes)| **bytes > Bytes::ZERO);
        Placement {
            charged: charged.map(|(gpu, bytes)| (gpu.uuid.clone(), *bytes)).collect(),
            containers: self.containers,
            score: self.scores.iter().sum::<f64>() / self.scores.len().max(1) as f64,
            least_fraction: self.least_fraction,
        }
    }
}

/// Orders refusals of single GPUs by how near the pod came to fitting.
fn nearness(reason: Reason) -> (u8, Reason) {
    let rank = match reason {
        Reason::NotEnoughVram | Reason::NoEmptyGpu | Reason::AboveMpsShare => 2,
        Reason::Unattributed => 1,
        _ => 0,
    };
    (rank, reason)
}

/// Of the refusals of single GPUs the one that came nearest.
pub(super) fn nearest(refusals: impl IntoIterator<Item = Reason>) -> Option<Reason> {
    refusals.into_iter().max_by_key(|reason| nearness(*reason))
}
