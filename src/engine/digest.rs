//! A node's answer to the usual ask, prepared while nothing is asked.
//!
//! Nearly every pod has one steered container that needs so many bytes of one GPU, and
//! kube-scheduler asks about thousands of nodes for each. Whether such a pod fits is then one
//! comparison, and its score a walk over three numbers per GPU. A digest never decides otherwise
//! than [`placement::place`] does (a property test holds them equal); where it could, it abstains.

use std::sync::Arc;

use super::accounting::NodeView;
use super::ledger::{Node, Policy, StalePolicy};
use super::placement::{self, Terrain};
use super::request::{GpuAsk, Share, Vram};
use super::score::{self, Weights};
use super::{Bytes, Reason, Time};

/// One steered container with one GPU and a known need.
#[derive(Debug, Clone, Copy)]
pub(super) struct UsualAsk {
    /// `None`: no node has such a resource.
    resource: Option<ResourceId>,
    bytes: Bytes,
}

impl UsualAsk {
    /// The ask as a usual one, where it is.
    pub(super) fn of(ask: &GpuAsk, resources: &Resources) -> Option<Self> {
        let [share] = &*ask.shares else { return None };
        let Share { gpus: 1, steered_by: Some(_), resource, vram, .. } = share else { return None };
        let bytes = vram.bytes().filter(|bytes| *bytes > Bytes::ZERO)?;
        ask.early.is_empty().then(|| Self { resource: resources.find(resource), bytes })
    }
}

/// Names of extended resources that GPUs have, as numbers.
#[derive(Debug, Default)]
pub(super) struct Resources(Vec<Arc<str>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ResourceId(u32);

impl Resources {
    fn find(&self, name: &str) -> Option<ResourceId> {
        let position = self.0.iter().position(|known| **known == *name)?;
        u32::try_from(position).ok().map(ResourceId)
    }

    /// `None` where there are more of them than can be.
    fn intern(&mut self, name: &Arc<str>) -> Option<ResourceId> {
        self.find(name).or_else(|| {
            self.0.push(name.clone());
            self.find(name)
        })
    }
}

/// What a node says to any usual ask.
#[derive(Debug, Clone)]
pub(super) struct Digest {
    stance: Stance,
    /// From then on it abstains: a hold in it has ended, or the reading is stale.
    until: Option<Time>,
    read_at: Time,
    /// GPUs with room, alike ones once; the first apart, since it mostly is the only one.
    open: Option<Open>,
    more_open: Box<[Open]>,
}

#[derive(Debug, Clone, Copy)]
enum Stance {
    /// The node itself must be asked.
    Abstains,
    /// Nobody is taken.
    Refuses(Reason),
    /// Up to `most` bytes on one GPU; to more than that the node says `shortfall`.
    Takes { resource: ResourceId, most: Bytes, shortfall: Reason },
}

/// What the score needs of a GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Open {
    free: Bytes,
    total: Bytes,
    utilization_ratio: f64,
}

impl Digest {
    /// The digest of a node. It abstains where GPUs differ in kind, or are capped, or where
    /// someone is on the way to a predicted one, or a place is kept: then it depends on who asks.
    pub(super) fn of(node: &Node, policy: &Policy, resources: &mut Resources) -> Self {
        let open = open_gpus(&node.view);
        let stance = stance(node, &open, policy, resources).unwrap_or(Stance::Abstains);
        let mut open = open.into_iter();
        let mut digest = Self {
            stance,
            until: None,
            read_at: Time::ZERO,
            open: open.next(),
            more_open: open.collect(),
        };
        digest.read_again(node, policy);
        digest
    }

    /// The node was read again, and nothing had moved.
    pub(super) fn read_again(&mut self, node: &Node, policy: &Policy) {
        let stale_at = match policy.stale_policy {
            StalePolicy::Declared => None,
            StalePolicy::Reject => Some(node.read_at + policy.stale_after),
        };
        self.until = stale_at.into_iter().chain(node.view.valid_until).min();
        self.read_at = node.read_at;
    }

    /// Whether the pod fits; `None` where it abstains.
    pub(super) fn fits(&self, ask: UsualAsk, now: Time) -> Option<Result<(), Reason>> {
        if self.until.is_some_and(|until| until <= now) {
            return None;
        }
        match self.stance {
            Stance::Abstains => None,
            Stance::Refuses(reason) => Some(Err(reason)),
            Stance::Takes { resource, .. } if ask.resource != Some(resource) => {
                Some(Err(Reason::NoSuchGpu))
            }
            Stance::Takes { most, .. } if ask.bytes <= most => Some(Ok(())),
            Stance::Takes { shortfall, .. } => Some(Err(shortfall)),
        }
    }

    /// How good the best GPU is for a pod that fits.
    pub(super) fn score(&self, ask: UsualAsk, policy: &Policy, now: Time) -> f64 {
        let freshness = score::freshness(now.since(self.read_at), policy.stale_after);
        let open = self.open.iter().chain(&self.more_open);
        let fitting = open.filter(|gpu| ask.bytes <= gpu.free);
        fitting.map(|gpu| gpu.score(ask.bytes, &policy.weights, freshness)).fold(0.0, f64::max)
    }
}

impl Open {
    fn score(&self, bytes: Bytes, weights: &Weights, freshness: f64) -> f64 {
        let Self { free, total, utilization_ratio } = *self;
        weights.score(score::terms(total, utilization_ratio, free, bytes, freshness))
    }
}

fn open_gpus(view: &NodeView) -> Vec<Open> {
    let mut open: Vec<Open> = Vec::new();
    for gpu in view.gpus.iter().filter(|gpu| gpu.open_bytes() > Bytes::ZERO) {
        let (free, total) = (gpu.free, gpu.total);
        let one = Open { free, total, utilization_ratio: gpu.utilization_ratio };
        if !open.contains(&one) {
            open.push(one);
        }
    }
    open
}

/// `None` where it abstains.
fn stance(
    node: &Node,
    open: &[Open],
    policy: &Policy,
    resources: &mut Resources,
) -> Option<Stance> {
    if let Err(reason) = node.check_usable(policy, node.read_at) {
        return Some(Stance::Refuses(reason));
    }
    let view = &node.view;
    let resource = &view.gpus.first()?.resource;
    let is_alike = view.gpus.iter().all(|gpu| gpu.resource == *resource);
    let is_kept = node.claims.iter().any(|claim| claim.precedence().is_some());
    if node.is_mps || view.is_predicted || !is_alike || is_kept {
        return None;
    }
    let terrain = Terrain { policy, is_mps: false, freshness: 0.0 };
    let too_much = Vram::Declared(Bytes::new(u64::MAX));
    let refusal = |gpu| placement::judge(gpu, Bytes::ZERO, too_much, terrain).err();
    let refusals: Option<Vec<Reason>> = view.gpus.iter().map(refusal).collect();
    Some(Stance::Takes {
        resource: resources.intern(resource)?,
        most: open.iter().map(|gpu| gpu.free).max().unwrap_or(Bytes::ZERO),
        shortfall: placement::nearest(refusals?)?,
    })
}
