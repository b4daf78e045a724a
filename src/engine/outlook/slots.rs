//! How many more pods of one kind fit, one after the other.

use super::room::{Pool, Room, Slot};
use crate::engine::Bytes;
use crate::engine::request::{GpuAsk, Vram};

/// Pods of one container with one GPU that filmgate chooses, of whichever resource.
pub(super) fn of_size(rooms: &[Room], size: Bytes) -> u64 {
    let pools = rooms.iter().flat_map(Room::pools);
    pools.map(|pool| in_pool(pool, Vram::Declared(size))).sum()
}

/// Pods with that ask.
pub(super) fn of_ask(rooms: &[Room], ask: &GpuAsk) -> u64 {
    match &*ask.shares {
        [share] if share.gpus == 1 && share.steered_by.is_some() && ask.early.is_empty() => {
            let pools = rooms.iter().flat_map(Room::pools);
            let pools = pools.filter(|pool| pool.resource == share.resource);
            pools.map(|pool| in_pool(pool, share.vram)).sum()
        }
        _ => rooms.iter().map(|room| one_by_one(room, ask)).sum(),
    }
}

/// On each GPU as many as its open memory holds; on the node no more than it has devices left.
fn in_pool(pool: &Pool, vram: Vram) -> u64 {
    let on = |slot: &Slot| match vram.bytes() {
        _ if !slot.fits(vram) => 0,
        Some(bytes) => (slot.open.get() / bytes.get()).min(u64::from(slot.pods)),
        None => 1,
    };
    pool.gpus.iter().map(on).sum::<u64>().min(u64::from(pool.devices))
}

fn one_by_one(room: &Room, ask: &GpuAsk) -> u64 {
    let mut left = room.clone();
    let mut pods = 0;
    while left.take(ask) {
        pods += 1;
    }
    pods
}
