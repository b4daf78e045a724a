//! A node's answer to the usual ask, prepared while nothing is asked.
//!
//! Nearly every pod has one steered container that needs so many bytes of one GPU, and
//! kube-scheduler asks about thousands of nodes for each. Whether such a pod fits is then one
//! comparison, and its score a walk over three numbers per GPU. A digest never decides otherwise
//! than [`placement::place`] does (a property test holds them equal); where it could, it abstains.

use std::sync::Arc;

use super::accounting::NodeView;
use super::ledger::Policy;
use super::placement::{self, Terrain};
use super::request::{GpuAsk, Share, Vram};
use super::score::{self, Weights};
use super::{Bytes, Reason};

/// One steered container with one GPU and a known need.
#[derive(Debug, Clone, Copy)]
pub(super) struct UsualAsk<'a> {
    resource: &'a Arc<str>,
    bytes: Bytes,
}

impl GpuAsk {
    /// The ask as a usual one, where it is.
    pub(super) fn usual(&self) -> Option<UsualAsk<'_>> {
        let [share] = &*self.shares else { return None };
        let Share { gpus: 1, steered_by: Some(_), resource, vram, .. } = share else { return None };
        let bytes = vram.bytes().filter(|bytes| *bytes > Bytes::ZERO)?;
        self.early.is_empty().then_some(UsualAsk { resource, bytes })
    }
}

/// What a node says to any usual ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Digest(Option<Prepared>);

#[derive(Debug, Clone)]
struct Prepared {
    /// Of every GPU of the node.
    resource: Arc<str>,
    /// The most that a newcomer may have on one GPU.
    most: Bytes,
    /// Why more than that is refused.
    shortfall: Reason,
    /// GPUs with room, alike ones once.
    open: Vec<Open>,
}

/// What the score needs of a GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Open {
    free: Bytes,
    total: Bytes,
    utilization_ratio: f64,
}

impl Digest {
    /// The digest of that view; it abstains where GPUs differ in kind, or are capped, or where
    /// someone is on the way to a predicted one.
    pub(super) fn of(view: &NodeView, is_mps: bool, policy: &Policy) -> Self {
        Self(Self::prepare(view, is_mps, policy))
    }

    fn prepare(view: &NodeView, is_mps: bool, policy: &Policy) -> Option<Prepared> {
        let resource = &view.gpus.first()?.resource;
        let is_alike = view.gpus.iter().all(|gpu| gpu.resource == *resource);
        if is_mps || view.is_predicted || !is_alike {
            return None;
        }
        let terrain = Terrain { policy, is_mps, freshness: 0.0 };
        let too_much = Vram::Declared(Bytes::new(u64::MAX));
        let refusal = |gpu| placement::judge(gpu, Bytes::ZERO, too_much, terrain).err();
        let refusals: Option<Vec<Reason>> = view.gpus.iter().map(refusal).collect();
        let mut open: Vec<Open> = Vec::new();
        for gpu in view.gpus.iter().filter(|gpu| gpu.open_bytes() > Bytes::ZERO) {
            let (free, total) = (gpu.free, gpu.total);
            let one = Open { free, total, utilization_ratio: gpu.utilization_ratio };
            if !open.contains(&one) {
                open.push(one);
            }
        }
        Some(Prepared {
            resource: resource.clone(),
            most: open.iter().map(|gpu| gpu.free).max().unwrap_or(Bytes::ZERO),
            shortfall: placement::nearest(refusals?)?,
            open,
        })
    }

    /// Whether the pod fits; `None` where it abstains.
    pub(super) fn fits(&self, ask: UsualAsk<'_>) -> Option<Result<(), Reason>> {
        let prepared = self.0.as_ref()?;
        if prepared.resource != *ask.resource {
            return Some(Err(Reason::NoSuchGpu));
        }
        Some(if ask.bytes <= prepared.most { Ok(()) } else { Err(prepared.shortfall) })
    }

    /// How good the best GPU is for a pod that fits.
    pub(super) fn score(&self, ask: UsualAsk<'_>, weights: &Weights, freshness: f64) -> f64 {
        let open = self.0.iter().flat_map(|prepared| &prepared.open);
        let fitting = open.filter(|gpu| ask.bytes <= gpu.free);
        let scores = fitting.map(|gpu| {
            let Open { free, total, utilization_ratio } = *gpu;
            weights.score(score::terms(total, utilization_ratio, free, ask.bytes, freshness))
        });
        scores.fold(0.0, f64::max)
    }
}
