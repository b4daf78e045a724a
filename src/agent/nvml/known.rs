//! What is known of a machine's GPUs: the last that each of them told.

use std::sync::Arc;

use super::fault::{Fault, Reach};
use super::xids::XidBook;
use crate::agent::hardware::{Gpu, GpuState};
use crate::engine::GpuUuid;

/// The GPUs that have answered at least once, in NVML's order.
#[derive(Debug, Default)]
pub(super) struct Known {
    boards: Vec<KnownBoard>,
}

#[derive(Debug)]
struct KnownBoard {
    /// The GPU and, after it, its MIG instances.
    gpus: Vec<Gpu>,
    /// Whether it has been away: when it answers again, it was initialised anew.
    was_gone: bool,
}

impl KnownBoard {
    fn is(&self, uuid: &GpuUuid) -> bool {
        self.gpus.first().is_some_and(|gpu| gpu.uuid == *uuid)
    }

    /// Keeps what its processes hold, and nothing that would have to be measured.
    fn silence(&mut self, fault: &Fault) {
        self.was_gone |= matches!(fault.reach, Reach::Gpu | Reach::Driver);
        for gpu in &mut self.gpus {
            if !matches!(gpu.state, GpuState::Silent { .. }) {
                tracing::warn!(gpu = %gpu.uuid, why = %fault.why, "GPU cannot be asked");
            }
            gpu.state = GpuState::Silent { why: Arc::clone(&fault.why) };
            gpu.utilization_ratio = None;
            gpu.memory_utilization_ratio = None;
            gpu.temperature_celsius = None;
            gpu.power_watts = None;
            gpu.throttle_reasons = None;
        }
    }

    fn is_silent(&self) -> bool {
        self.gpus.first().is_some_and(|gpu| matches!(gpu.state, GpuState::Silent { .. }))
    }
}

impl Known {
    /// A GPU has told about itself and its instances.
    pub(super) fn heard(&mut self, gpus: Vec<Gpu>, xids: &XidBook) {
        let Some(uuid) = gpus.first().map(|gpu| gpu.uuid.clone()) else { return };
        let board = KnownBoard { gpus, was_gone: false };
        match self.boards.iter_mut().find(|board| board.is(&uuid)) {
            Some(known) => {
                if known.is_silent() {
                    tracing::info!(gpu = %uuid, "GPU can be asked again");
                }
                if known.was_gone {
                    xids.forgive(&uuid);
                }
                *known = board;
            }
            None => self.boards.push(board),
        }
        self.boards.sort_by_key(|board| board.gpus.first().map(|gpu| gpu.index));
    }

    /// A GPU cannot be asked.
    pub(super) fn silence(&mut self, uuid: &GpuUuid, fault: &Fault) {
        for board in self.boards.iter_mut().filter(|board| board.is(uuid)) {
            board.silence(fault);
        }
    }

    /// No GPU can be asked.
    pub(super) fn silence_all(&mut self, fault: &Fault) {
        for board in &mut self.boards {
            board.silence(fault);
        }
    }

    /// These GPUs have answered since NVML was opened. The others are silent, and what their pods
    /// hold is not forgotten. Returns whether there are any.
    ///
    /// `all_told`: NVML counts none beside these, so the others are gone.
    pub(super) fn miss_all_but(&mut self, heard: &[GpuUuid], all_told: bool) -> bool {
        let (why, reach) = match all_told {
            true => ("the driver no longer counts it", Reach::Gpu),
            false => ("it has not answered since NVML was opened anew", Reach::Nothing),
        };
        let fault = Fault { reach, why: why.into() };
        let mut misses_any = false;
        for board in &mut self.boards {
            if !heard.iter().any(|uuid| board.is(uuid)) {
                board.silence(&fault);
                misses_any = true;
            }
        }
        misses_any
    }

    /// All of them, with the XID errors seen so far and what those say.
    pub(super) fn gpus(&self, xids: &XidBook, harmless: &[u64]) -> Vec<Gpu> {
        let gpus = self.boards.iter().flat_map(|board| &board.gpus);
        gpus.map(|gpu| with_xids(gpu.clone(), xids, harmless)).collect()
    }
}

fn with_xids(mut gpu: Gpu, xids: &XidBook, harmless: &[u64]) -> Gpu {
    gpu.xids = xids.counts(&gpu);
    let standing = xids.standing(&gpu, harmless);
    if let (GpuState::Ready, Some(xid)) = (&gpu.state, standing) {
        gpu.state = GpuState::Failing { why: format!("XID {xid}").into() };
    }
    gpu
}
