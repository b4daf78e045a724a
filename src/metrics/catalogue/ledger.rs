//! What the leader's ledger says of the fleet.

use super::{Chapter, Kind, Metric};

pub(crate) const CHAPTER: Chapter = Chapter {
    title: "Extender: the leader, of the fleet",
    about: "Only the replica that leads shows these, so that sums over replicas are true.",
    metrics: &[
        GPU_CHARGED,
        GPU_HELD,
        GPU_KEPT,
        GPU_FREE,
        OVERDRAWN,
        POD_OVER_CHARGE,
        UNMANAGED_PODS,
        WAITING_PODS,
        HOLDS,
        NOMINATED_CLAIMS,
        RESERVED_CLAIMS,
        BINDINGS_IN_DOUBT,
    ],
};

const GPU_LABELS: &[&str] = &["node", "gpu", "UUID", "modelName"];

pub(crate) const GPU_CHARGED: Metric = Metric {
    name: "filmgate_gpu_charged_bytes",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Held against pods that are bound or being bound, and measured of others.",
    purpose: "How full a GPU is by filmgate's books.",
    series: "GPUs",
};

pub(crate) const GPU_HELD: Metric = Metric {
    name: "filmgate_gpu_held_bytes",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Held for pods on their way.",
    purpose: "What is promised for seconds.",
    series: "GPUs",
};

pub(crate) const GPU_KEPT: Metric = Metric {
    name: "filmgate_gpu_kept_bytes",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Kept for pods that waited too long, or for which others were asked to leave.",
    purpose: "What newcomers of the same or a lower priority pass around.",
    series: "GPUs",
};

pub(crate) const GPU_FREE: Metric = Metric {
    name: "filmgate_gpu_free_bytes",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "What a newcomer may have.",
    purpose: "Where the next pod can go.",
    series: "GPUs",
};

pub(crate) const OVERDRAWN: Metric = Metric {
    name: "filmgate_overdrawn_bytes",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "By how much charges, measurements and foreign memory exceed what the GPU has to give.",
    purpose: "Alert above 0: pods grew, or others bound pods here.",
    series: "GPUs",
};

pub(crate) const POD_OVER_CHARGE: Metric = Metric {
    name: "filmgate_pod_over_charge_bytes",
    kind: Kind::Gauge,
    labels: &["namespace", "pod", "node", "gpu"],
    help: "By how much a pod's processes hold more of a GPU than the pod is charged. Pods that do \
           not have no series.",
    purpose: "Whose declaration is too low.",
    series: "pods beyond their charge, by GPU",
};

pub(crate) const UNMANAGED_PODS: Metric = Metric {
    name: "filmgate_unmanaged_pods",
    kind: Kind::Gauge,
    labels: &["node"],
    help: "Pods with a GPU that were bound without a decision of filmgate's.",
    purpose: "Where another scheduler places GPU pods.",
    series: "nodes",
};

pub(crate) const WAITING_PODS: Metric = Metric {
    name: "filmgate_waiting_pods",
    kind: Kind::Gauge,
    labels: &[],
    help: "Pods that wait for VRAM: every node that they were offered refused them.",
    purpose: "The line that freed memory is given to.",
    series: "1",
};

pub(crate) const HOLDS: Metric = Metric {
    name: "filmgate_holds",
    kind: Kind::Gauge,
    labels: &[],
    help: "Holds open now.",
    purpose: "Pods between filter and bind.",
    series: "1",
};

pub(crate) const NOMINATED_CLAIMS: Metric = Metric {
    name: "filmgate_nominated_claims",
    kind: Kind::Gauge,
    labels: &[],
    help: "Places kept for pods for which others were asked to leave.",
    purpose: "Preemptions under way.",
    series: "1",
};

pub(crate) const RESERVED_CLAIMS: Metric = Metric {
    name: "filmgate_reserved_claims",
    kind: Kind::Gauge,
    labels: &[],
    help: "Places reserved for pods that have waited too long.",
    purpose: "Whether a pod starves.",
    series: "1",
};

pub(crate) const BINDINGS_IN_DOUBT: Metric = Metric {
    name: "filmgate_bindings_in_doubt",
    kind: Kind::Gauge,
    labels: &[],
    help: "Bindings whose outcome is not known.",
    purpose: "Whether the API server leaves Bindings unanswered.",
    series: "1",
};
