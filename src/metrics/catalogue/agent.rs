//! What each agent says of its node.

use super::{Chapter, Kind, Metric};

pub(crate) const CHAPTER: Chapter = Chapter {
    title: "Agent",
    about: "Each scrape shows the newest sampling; see [agent.md](agent.md). Counts of series are a node's. A figure that a \
            GPU does not have is left out.",
    metrics: &[
        MEMORY_TOTAL,
        MEMORY_USED,
        MEMORY_RESERVED,
        MEMORY_FOREIGN,
        UTILIZATION,
        MEMORY_UTILIZATION,
        TEMPERATURE,
        POWER,
        HEALTHY,
        RETIRED_PAGES,
        REMAPPED_ROWS,
        ROW_REMAP_PENDING,
        ROW_REMAP_FAILED,
        THROTTLED,
        ECC_ERRORS,
        XID_ERRORS,
        POD_MEMORY_USED,
        POD_MEMORY_PEAK,
        SAMPLED_AT,
        SAMPLING,
        KUBELET_UP,
        DRIVER_UP,
        DRIVER_INFO,
        UNREAD_GPUS,
        ATTRIBUTION,
    ],
};

/// The labels of a GPU, and one more.
macro_rules! gpu_labels {
    ($($more:literal)?) => {
        &["node", "gpu", "UUID", "modelName", "pci_bus_id", "GPU_I_PROFILE" $(, $more)?]
    };
}

const GPU_LABELS: &[&str] = gpu_labels!();
const POD_LABELS: &[&str] = &["node", "gpu", "UUID", "namespace", "pod", "container"];

pub(crate) const MEMORY_TOTAL: Metric = Metric {
    name: "filmgate_gpu_memory_total_bytes",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "All of the GPU's memory.",
    purpose: "The size of the fleet.",
    series: "GPUs",
};

pub(crate) const MEMORY_USED: Metric = Metric {
    name: "filmgate_gpu_memory_used_bytes",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "In use by anyone, without what the driver reserves.",
    purpose: "How full a GPU really is.",
    series: "GPUs",
};

pub(crate) const MEMORY_RESERVED: Metric = Metric {
    name: "filmgate_gpu_memory_reserved_bytes",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Reserved by the driver and firmware.",
    purpose: "What no pod can have.",
    series: "GPUs",
};

pub(crate) const MEMORY_FOREIGN: Metric = Metric {
    name: "filmgate_gpu_memory_foreign_bytes",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "In use by no pod.",
    purpose: "Who else is on the GPU: a display, a process of the node, a leak.",
    series: "GPUs",
};

pub(crate) const UTILIZATION: Metric = Metric {
    name: "filmgate_gpu_utilization_ratio",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Part of the time since the sampling before in which a kernel ran.",
    purpose: "Whether the GPU computes.",
    series: "GPUs that tell it",
};

pub(crate) const MEMORY_UTILIZATION: Metric = Metric {
    name: "filmgate_gpu_memory_utilization_ratio",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Part of that time in which memory was read or written.",
    purpose: "Whether memory is what limits it.",
    series: "GPUs that tell it",
};

pub(crate) const TEMPERATURE: Metric = Metric {
    name: "filmgate_gpu_temperature_celsius",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Core temperature.",
    purpose: "Cooling.",
    series: "GPUs that tell it",
};

pub(crate) const POWER: Metric = Metric {
    name: "filmgate_gpu_power_watts",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Power drawn.",
    purpose: "What the fleet draws.",
    series: "GPUs that tell it",
};

pub(crate) const HEALTHY: Metric = Metric {
    name: "filmgate_gpu_healthy",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Whether it can be asked, and can take work: 1, or 0.",
    purpose: "Alert at 0.",
    series: "GPUs",
};

pub(crate) const RETIRED_PAGES: Metric = Metric {
    name: "filmgate_gpu_retired_pages",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Pages retired because of memory errors.",
    purpose: "Wear of the memory.",
    series: "GPUs that tell it",
};

pub(crate) const REMAPPED_ROWS: Metric = Metric {
    name: "filmgate_gpu_remapped_rows",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Rows remapped because of memory errors.",
    purpose: "Wear of the memory.",
    series: "GPUs that tell it",
};

pub(crate) const ROW_REMAP_PENDING: Metric = Metric {
    name: "filmgate_gpu_row_remap_pending",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Whether rows wait to be remapped by a reset of the GPU.",
    purpose: "Reset it when it is idle.",
    series: "GPUs that tell it",
};

pub(crate) const ROW_REMAP_FAILED: Metric = Metric {
    name: "filmgate_gpu_row_remap_failed",
    kind: Kind::Gauge,
    labels: GPU_LABELS,
    help: "Whether a row could not be remapped: the GPU should be replaced.",
    purpose: "Alert at 1.",
    series: "GPUs that tell it",
};

pub(crate) const THROTTLED: Metric = Metric {
    name: "filmgate_gpu_throttled",
    kind: Kind::Gauge,
    labels: gpu_labels!("reason"),
    help: "1 for each reason that holds its clocks back.",
    purpose: "Why it is slow.",
    series: "GPUs, times NVML's 9 reasons",
};

pub(crate) const ECC_ERRORS: Metric = Metric {
    name: "filmgate_gpu_ecc_errors_total",
    kind: Kind::Counter,
    labels: gpu_labels!("kind"),
    help: "ECC errors since the driver was loaded.",
    purpose: "Alert on uncorrected ones.",
    series: "2 for each GPU that tells it",
};

pub(crate) const XID_ERRORS: Metric = Metric {
    name: "filmgate_gpu_xid_errors_total",
    kind: Kind::Counter,
    labels: gpu_labels!("xid"),
    help: "XID errors since the agent's start.",
    purpose: "Alert on any.",
    series: "GPUs, times the XIDs seen",
};

pub(crate) const POD_MEMORY_USED: Metric = Metric {
    name: "filmgate_pod_gpu_memory_used_bytes",
    kind: Kind::Gauge,
    labels: POD_LABELS,
    help: "What a container's processes hold on a GPU.",
    purpose: "Which pod holds which VRAM.",
    series: "containers with processes, by GPU",
};

pub(crate) const POD_MEMORY_PEAK: Metric = Metric {
    name: "filmgate_pod_gpu_memory_peak_bytes",
    kind: Kind::Gauge,
    labels: POD_LABELS,
    help: "The most that they held at any sampling in the peak window.",
    purpose: "What to declare in filmgate.dev/vram.",
    series: "containers with processes, by GPU",
};

pub(crate) const SAMPLED_AT: Metric = Metric {
    name: "filmgate_agent_sampled_timestamp_seconds",
    kind: Kind::Gauge,
    labels: &["node"],
    help: "When the sampling began.",
    purpose: "Whether the agent samples.",
    series: "1",
};

pub(crate) const SAMPLING: Metric = Metric {
    name: "filmgate_agent_sampling_seconds",
    kind: Kind::Gauge,
    labels: &["node"],
    help: "How long the sampling took.",
    purpose: "Whether the driver is slow.",
    series: "1",
};

pub(crate) const KUBELET_UP: Metric = Metric {
    name: "filmgate_agent_kubelet_up",
    kind: Kind::Gauge,
    labels: &["node"],
    help: "Whether the kubelet's book could be read: 1, or 0.",
    purpose: "Alert at 0: pods' names are not known.",
    series: "1",
};

pub(crate) const DRIVER_UP: Metric = Metric {
    name: "filmgate_agent_driver_up",
    kind: Kind::Gauge,
    labels: &["node"],
    help: "Whether the NVIDIA driver answers: 1, or 0.",
    purpose: "Alert at 0.",
    series: "1",
};

pub(crate) const DRIVER_INFO: Metric = Metric {
    name: "filmgate_agent_driver_info",
    kind: Kind::Gauge,
    labels: &["node", "version"],
    help: "The NVIDIA driver's version.",
    purpose: "Whether an upgrade is complete.",
    series: "1",
};

pub(crate) const UNREAD_GPUS: Metric = Metric {
    name: "filmgate_agent_unread_gpus",
    kind: Kind::Gauge,
    labels: &["node"],
    help: "GPUs that the driver counts, and that never told who they are.",
    purpose: "Alert above 0.",
    series: "1",
};

pub(crate) const ATTRIBUTION: Metric = Metric {
    name: "filmgate_agent_attribution",
    kind: Kind::Gauge,
    labels: &["node", "mode"],
    help: "1 for the way in which memory is attributed to pods, full or degraded.",
    purpose: "Where pods cannot share GPUs.",
    series: "2",
};
