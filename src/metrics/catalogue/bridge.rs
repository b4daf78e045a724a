//! What `filmgate bridge` says of the ComfyUI elsewhere.

use super::{Chapter, Kind, Metric};

pub(crate) const CHAPTER: Chapter = Chapter {
    title: "The bridge",
    about: "Where `filmgate bridge` runs; see [colab.md](colab.md).",
    metrics: &[TUNNEL_UP, GPU_MEMORY_TOTAL, GPU_MEMORY_FREE, TOLD, RESTARTS],
};

pub(crate) const TUNNEL_UP: Metric = Metric {
    name: "filmgate_bridge_tunnel_up",
    kind: Kind::Gauge,
    labels: &[],
    help: "1 while the tunnel that was told last counts as up, 0 while it counts as down.",
    purpose: "Whether the GPU elsewhere takes part; alert where it should.",
    series: "1; none before a tunnel is told",
};

pub(crate) const GPU_MEMORY_TOTAL: Metric = Metric {
    name: "filmgate_bridge_gpu_memory_total_bytes",
    kind: Kind::Gauge,
    labels: &["gpu", "modelName"],
    help: "All memory of a GPU behind the tunnel, as its ComfyUI told it at the last look.",
    purpose: "What is there beside the cluster's own GPUs.",
    series: "GPUs behind the tunnel, 16 at most; none while it does not answer",
};

pub(crate) const GPU_MEMORY_FREE: Metric = Metric {
    name: "filmgate_bridge_gpu_memory_free_bytes",
    kind: Kind::Gauge,
    labels: &["gpu", "modelName"],
    help: "What of that nothing has.",
    purpose: "Whether the next model fits there.",
    series: "GPUs behind the tunnel, 16 at most; none while it does not answer",
};

pub(crate) const TOLD: Metric = Metric {
    name: "filmgate_bridge_urls_told_total",
    kind: Kind::Counter,
    labels: &["outcome"],
    help: "URLs that were told by one who may, by what came of them: changed, unchanged, or why they were refused.",
    purpose: "Whether the notebook tells its URL; what is wrong with it.",
    series: "one for each outcome that was seen, 28 at most",
};

pub(crate) const RESTARTS: Metric = Metric {
    name: "filmgate_bridge_restarts_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Workloads that were restarted since they read the URL.",
    purpose: "A tunnel that comes and goes.",
    series: "1",
};
