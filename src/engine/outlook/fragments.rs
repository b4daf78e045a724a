//! How much of the free memory is in pieces that a typical pod cannot use.
//!
//! After FGD (Weng et al., *Beware of Fragmentation*, USENIX ATC 2023), for video memory. A typical
//! pod asks for `k` GPUs with `b` bytes on each; `p` is the part of the fleet's pods, pending and
//! bound, that ask so. On one node it cannot use the free memory of GPUs that have less than `b`
//! free, nor any of it where fewer than `k` GPUs have as much, or devices are short:
//!
//! ```text
//!          Σ over typical pods  p · Σ over nodes  free memory that this pod cannot use
//! ratio = ─────────────────────────────────────────────────────────────────────────────
//!                              Σ over nodes  free memory
//! ```

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::room::{Pool, Room, Slot};
use super::survey::Survey;
use crate::engine::Bytes;
use crate::engine::request::{GpuAsk, Vram};

/// Rarer asks are not typical: the cost of a scrape is bounded by this.
const MOST_TYPES: usize = 50;

/// What a pod asks, as its hungriest container has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Typical {
    resource: Arc<str>,
    gpus: u32,
    /// On each; `None`: an empty GPU.
    bytes: Option<Bytes>,
}

/// `None` where there are no pods.
pub(super) fn ratio(survey: &Survey, rooms: &[Room]) -> Option<f64> {
    let mut mix: BTreeMap<Typical, usize> = BTreeMap::new();
    for typical in survey.living().filter_map(|facts| Typical::of(facts.ask.as_ref().ok()?)) {
        *mix.entry(typical).or_default() += 1;
    }
    let mut mix: Vec<_> = mix.into_iter().collect();
    mix.sort_by_key(|(_, pods)| Reverse(*pods));
    mix.truncate(MOST_TYPES);
    let pods: usize = mix.iter().map(|(_, pods)| pods).sum();
    let free: f64 = rooms.iter().map(open).sum();
    if pods == 0 {
        return None;
    }
    if free == 0.0 {
        return Some(0.0);
    }
    let usable = |typical: &Typical| rooms.iter().map(|room| typical.usable(room)).sum::<f64>();
    let weighted = mix.iter().map(|(typical, count)| *count as f64 * usable(typical));
    Some((1.0 - weighted.sum::<f64>() / pods as f64 / free).clamp(0.0, 1.0))
}

fn open(room: &Room) -> f64 {
    room.slots().map(|slot| slot.open.get() as f64).sum()
}

impl Typical {
    fn of(ask: &GpuAsk) -> Option<Self> {
        let bytes = ask.most_per_gpu();
        let resource = ask.all_shares().next()?.resource.clone();
        Some(Self { resource, gpus: ask.most_gpus(), bytes })
    }

    /// Free memory of the node that such a pod can use.
    fn usable(&self, room: &Room) -> f64 {
        let vram = self.bytes.map_or(Vram::Exclusive, Vram::Declared);
        let in_pool = |pool: &Pool| {
            let fitting = || pool.gpus.iter().filter(|slot| slot.fits(vram));
            let is_enough = fitting().count() >= self.gpus as usize && self.gpus <= pool.devices;
            let open = |slot: &Slot| slot.open.get() as f64;
            if is_enough { fitting().map(open).sum() } else { 0.0 }
        };
        let pools = room.pools().iter().filter(|pool| pool.resource == self.resource);
        pools.map(in_pool).sum()
    }
}
