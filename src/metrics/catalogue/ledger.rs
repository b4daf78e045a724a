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
        PENDING_PODS,
        PENDING_VRAM,
        UNPLACEABLE_PODS,
        GPUS_NEEDED,
        NODES_NEEDED,
        SLOTS,
        WORKLOAD_SLOTS,
        WORKLOAD_FOOTPRINT,
        FRAGMENTATION_RATIO,
        NODE_IDLE,
        WAITING_PODS,
        LONGEST_WAIT,
        HOLDS,
        NOMINATED_CLAIMS,
        RESERVED_CLAIMS,
        BINDINGS_IN_DOUBT,
        COMFYUI_UP,
        COMFYUI_PROMPTS,
        COMFYUI_TORCH,
        POD_WORKING,
        POD_CACHE,
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

pub(crate) const PENDING_PODS: Metric = Metric {
    name: "filmgate_pending_pods",
    kind: Kind::Gauge,
    labels: &["namespace"],
    help: "Pods of this scheduler that ask for a GPU, may run (no scheduling gate) and are neither \
           bound nor being bound.",
    purpose: "Scaling and alerts on pods that wait.",
    series: "namespaces with GPU pods",
};

pub(crate) const PENDING_VRAM: Metric = Metric {
    name: "filmgate_pending_vram_bytes",
    kind: Kind::Gauge,
    labels: &["namespace"],
    help: "What those pods ask over all their GPUs; a pod of unknown need, which takes whole GPUs, \
           counts as nothing.",
    purpose: "How much memory is missing.",
    series: "namespaces with GPU pods",
};

pub(crate) const UNPLACEABLE_PODS: Metric = Metric {
    name: "filmgate_unplaceable_pods",
    kind: Kind::Gauge,
    labels: &["reason"],
    help: "Pending pods that would not fit even on an empty node of any kind in this fleet, by the \
           reason that came nearest.",
    purpose: "Alert above 0: waiting does not help, nor more nodes of these kinds.",
    series: "6: bad_request, no_such_gpu, not_enough_gpus, needs_steering, above_mps_share, \
             not_enough_vram",
};

pub(crate) const GPUS_NEEDED: Metric = Metric {
    name: "filmgate_gpu_equivalents_needed",
    kind: Kind::Gauge,
    labels: &[],
    help: "Whole empty GPUs that, added, would let every pending pod run that is not unplaceable.",
    purpose: "What a node autoscaler should add: none of them asks an extender.",
    series: "1",
};

pub(crate) const NODES_NEEDED: Metric = Metric {
    name: "filmgate_node_equivalents_needed",
    kind: Kind::Gauge,
    labels: &[],
    help: "The same in whole empty nodes.",
    purpose: "Replicas of a Deployment whose pods take a node each, to make an autoscaler add nodes.",
    series: "1",
};

pub(crate) const SLOTS: Metric = Metric {
    name: "filmgate_slots",
    kind: Kind::Gauge,
    labels: &["size"],
    help: "How many more pods with one GPU and that much VRAM fit now, one after the other, if no \
           others came; over all GPU resources.",
    purpose: "Room that is left.",
    series: "5: 8Gi, 12Gi, 16Gi, 24Gi, 40Gi",
};

pub(crate) const WORKLOAD_SLOTS: Metric = Metric {
    name: "filmgate_workload_slots",
    kind: Kind::Gauge,
    labels: &["namespace", "workload"],
    help: "How many more pods like the workload's youngest fit now, if no others came.",
    purpose: "How far a workload can scale out.",
    series: "50: the workloads with the most pods",
};

pub(crate) const WORKLOAD_FOOTPRINT: Metric = Metric {
    name: "filmgate_workload_footprint_bytes",
    kind: Kind::Gauge,
    labels: &["namespace", "workload", "quantile"],
    help: "The most that the workload's running pods held on one GPU within the agents' peak \
           window: quantiles 0.5, 0.95 and 1 over its pods.",
    purpose: "What to declare in filmgate.dev/vram.",
    series: "150: 3 for each of the 50 workloads with the most pods",
};

pub(crate) const FRAGMENTATION_RATIO: Metric = Metric {
    name: "filmgate_fragmentation_ratio",
    kind: Kind::Gauge,
    labels: &[],
    help: "The part of the free VRAM, 0 to 1, that a typical pod of this fleet cannot use.",
    purpose: "Whether free memory is in pieces that nobody wants.",
    series: "1; none without pods",
};

pub(crate) const NODE_IDLE: Metric = Metric {
    name: "filmgate_node_idle_seconds",
    kind: Kind::Gauge,
    labels: &["node"],
    help: "For how long the node has had no pod with a GPU, nobody on the way, and no more than \
           headroom in use; 0 while it has, or is not read.",
    purpose: "Which nodes are safe to drain.",
    series: "nodes with GPUs",
};

pub(crate) const WAITING_PODS: Metric = Metric {
    name: "filmgate_waiting_pods",
    kind: Kind::Gauge,
    labels: &[],
    help: "Pods that wait for VRAM: every node that they were offered refused them.",
    purpose: "The line that freed memory is given to.",
    series: "1",
};

pub(crate) const LONGEST_WAIT: Metric = Metric {
    name: "filmgate_longest_wait_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "For how long the pod has waited that has waited longest; 0 while nobody waits.",
    purpose: "Alert when a pod waits longer than its owner would.",
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

pub(crate) const COMFYUI_UP: Metric = Metric {
    name: "filmgate_comfyui_up",
    kind: Kind::Gauge,
    labels: &["namespace", "pod"],
    help: "Whether the pod's ComfyUI told its prompts when it was asked last.",
    purpose: "Which ComfyUI hangs, or cannot be reached.",
    series: "pods that are asked; none without `comfyui` in the configuration",
};

pub(crate) const COMFYUI_PROMPTS: Metric = Metric {
    name: "filmgate_comfyui_queue_prompts",
    kind: Kind::Gauge,
    labels: &["namespace", "pod", "state"],
    help: "Prompts that run and prompts that are pending in the pod's ComfyUI. A pod that has not \
           told of late has no series.",
    purpose: "How much work waits; which pod idles.",
    series: "2 for each pod that is asked",
};

pub(crate) const COMFYUI_TORCH: Metric = Metric {
    name: "filmgate_comfyui_torch_vram_bytes",
    kind: Kind::Gauge,
    labels: &["namespace", "pod", "device", "kind"],
    help: "What PyTorch's allocator has taken from a device that the pod sees (total), and what of \
           that no tensor is in (free).",
    purpose: "What a pod could give back without unloading a model.",
    series: "2 for each device of the pods that are asked, 32 for a pod at most",
};

pub(crate) const POD_WORKING: Metric = Metric {
    name: "filmgate_pod_working_bytes",
    kind: Kind::Gauge,
    labels: &["namespace", "pod", "node", "gpu"],
    help: "What a pod's processes hold of a GPU, less its cache. Pods whose prompts are not known \
           have no series.",
    purpose: "What the pod needs for its work.",
    series: "pods that are asked, by GPU",
};

pub(crate) const POD_CACHE: Metric = Metric {
    name: "filmgate_pod_cache_bytes",
    kind: Kind::Gauge,
    labels: &["namespace", "pod", "node", "gpu"],
    help: "What a pod's processes hold of a GPU above the pod's charge while its ComfyUI has no \
           prompt; 0 while it has one.",
    purpose: "What idle pods keep from others.",
    series: "pods that are asked, by GPU",
};
