//! Why a node is refused: a short fixed list.
//!
//! kube-scheduler writes these texts into the pod's condition, and a condition that changes wakes
//! the pod. So a text never carries a number: numbers go to `explain` and to the pod's event.

use serde::Serialize;

/// Why a node cannot take a pod now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The annotations say something that cannot be meant; the text for people is the request's.
    BadRequest,
    /// No watch event ever named this node.
    UnknownNode,
    /// No agent has sent a reading of this node yet.
    NeverRead,
    /// The last reading is older than `staleAfter`, under the policy `reject`.
    StaleReading,
    /// The last reading has figures that cannot be true.
    ImpossibleReading,
    /// The node has no GPU of the resource asked for.
    NoSuchGpu,
    /// Fewer distinct GPUs than asked for have room.
    NotEnoughGpus,
    /// Every GPU that could take the pod is unhealthy.
    GpuUnhealthy,
    /// Measured and promised memory leave too little.
    NotEnoughVram,
    /// A pod of unknown need takes a whole GPU, and none is empty.
    NoEmptyGpu,
    /// Memory cannot be told apart by pod here, and the GPU is in use.
    Unattributed,
    /// Above what the MPS daemon grants one client (total / replicas).
    AboveMpsShare,
    /// Several GPUs for a container that filmgate cannot steer could be replicas of one GPU.
    NeedsSteering,
    /// The devices that are left are kept for a pod that precedes this one.
    DevicesKept,
    /// Another pod's GPU on the node is not known yet, so the plugin's next choice is not either.
    PlacementInFlight,
}

impl Reason {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 15] = [
        Self::BadRequest,
        Self::UnknownNode,
        Self::NeverRead,
        Self::StaleReading,
        Self::ImpossibleReading,
        Self::NoSuchGpu,
        Self::NotEnoughGpus,
        Self::GpuUnhealthy,
        Self::NotEnoughVram,
        Self::NoEmptyGpu,
        Self::Unattributed,
        Self::AboveMpsShare,
        Self::NeedsSteering,
        Self::DevicesKept,
        Self::PlacementInFlight,
    ];

    /// The text that kube-scheduler shows.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "invalid filmgate.dev annotation",
            Self::UnknownNode => "node unknown to filmgate",
            Self::NeverRead => "no GPU telemetry yet",
            Self::StaleReading => "no fresh GPU telemetry",
            Self::ImpossibleReading => "impossible GPU telemetry",
            Self::NoSuchGpu => "no such GPU",
            Self::NotEnoughGpus => "not enough distinct GPUs with free VRAM",
            Self::GpuUnhealthy => "GPU unhealthy",
            Self::NotEnoughVram => "not enough free VRAM",
            Self::NoEmptyGpu => "no empty GPU for a pod that declares no VRAM",
            Self::Unattributed => "GPU in use and VRAM not attributable to pods",
            Self::AboveMpsShare => "more VRAM than an MPS client may use",
            Self::NeedsSteering => "several shared GPUs need steering",
            Self::DevicesKept => "GPU devices kept for another pod",
            Self::PlacementInFlight => "placement in flight",
        }
    }

    /// The value of the label `reason` in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownNode => "unknown_node",
            Self::NeverRead => "never_read",
            Self::StaleReading => "stale_reading",
            Self::ImpossibleReading => "impossible_reading",
            Self::NoSuchGpu => "no_such_gpu",
            Self::NotEnoughGpus => "not_enough_gpus",
            Self::GpuUnhealthy => "gpu_unhealthy",
            Self::NotEnoughVram => "not_enough_vram",
            Self::NoEmptyGpu => "no_empty_gpu",
            Self::Unattributed => "unattributed",
            Self::AboveMpsShare => "above_mps_share",
            Self::NeedsSteering => "needs_steering",
            Self::DevicesKept => "devices_kept",
            Self::PlacementInFlight => "placement_in_flight",
        }
    }
}
