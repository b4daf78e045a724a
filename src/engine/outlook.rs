//! What the fleet could still take, and what it lacks: for people, and for whoever adds or removes
//! nodes.
//!
//! ```text
//! Ledger ── copied under the lock ──▶ Survey ── computed outside ──▶ Outlook
//! ```
//!
//! Nothing here decides about a pod. What is said of free room is what admission would allow now,
//! one pod after the other; what a node selector, an affinity or a taint forbids is not known.

mod demand;
mod fragments;
mod picked;
mod room;
mod slots;
mod survey;
mod workloads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Bytes, NodeName, Reason};

pub use demand::{Pending, Shortage};
pub use picked::Picked;
pub use survey::{Survey, Surveyed};
pub use workloads::{Footprint, WorkloadOutlook};

use demand::Demand;
use survey::Fleet;

/// What the fleet could still take, and what it lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Pods of this scheduler that are to run and are not bound, for each namespace that has a pod
    /// with a GPU.
    pub pending: BTreeMap<Arc<str>, Pending>,
    /// How many of them would not fit even on empty nodes, for each of [`Outlook::UNPLACEABLE`].
    pub unplaceable: Vec<(Reason, usize)>,
    /// How many more pods of each of [`Outlook::SIZES`] fit, if they came alone.
    pub slots: Vec<(Bytes, u64)>,
    /// The part of the free memory that a typical pod cannot use; `None` as long as no pod tells
    /// what is typical.
    pub fragmentation_ratio: Option<f64>,
    /// What would have to be added for the pending pods.
    pub shortage: Shortage,
    /// The workloads with the most pods.
    pub workloads: Vec<WorkloadOutlook>,
    /// For how long each node with GPUs has had nothing on them; zero where it has.
    pub idle: Vec<(NodeName, Duration)>,
}

impl Outlook {
    /// Why a pod would not fit even on an empty node, nearest to fitting last.
    pub const UNPLACEABLE: [Reason; 6] = [
        Reason::BadRequest,
        Reason::NoSuchGpu,
        Reason::NotEnoughGpus,
        Reason::NeedsSteering,
        Reason::AboveMpsShare,
        Reason::NotEnoughVram,
    ];

    /// Sizes for which places are counted.
    pub const SIZES: [Bytes; 5] =
        [Bytes::gib(8), Bytes::gib(12), Bytes::gib(16), Bytes::gib(24), Bytes::gib(40)];

    /// The outlook of what was surveyed.
    #[must_use]
    pub fn of(survey: &Survey) -> Self {
        let Fleet { rooms, ballooned, kinds } = Fleet::of(survey);
        let demand = Demand::of(survey);
        let (homeless, unplaceable) = demand.sort_out(&kinds);
        Self {
            unplaceable,
            slots: Self::SIZES.map(|size| (size, slots::of_size(&rooms, size))).into(),
            fragmentation_ratio: fragments::ratio(survey, &rooms),
            workloads: workloads::of(survey, &rooms),
            idle: survey.idle(),
            // Fills the rooms.
            shortage: Shortage::of(homeless, rooms, &ballooned),
            pending: demand.pending,
        }
    }
}
