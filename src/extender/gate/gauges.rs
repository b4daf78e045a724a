//! The gauges, computed at the scrape: no series outlives its GPU, node or hold.

use std::fmt::Write as _;

use super::Gate;
use crate::engine::accounting::GpuState;
use crate::engine::ledger::OverCharge;
use crate::engine::{Bytes, NodeName, PodRef};
use crate::extender::writer::SideWrites;

/// Figures of one GPU, copied under the lock and written as text after it.
struct GpuFigures {
    labels: GpuLabels,
    bytes: [Bytes; 5],
}

struct GpuLabels {
    node: NodeName,
    gpu: GpuState,
}

const GPU_GAUGES: [(&str, &str); 5] = [
    (
        "filmgate_gpu_charged_bytes",
        "Held against pods that are bound or being bound, and measured of others.",
    ),
    ("filmgate_gpu_held_bytes", "Held for pods on their way."),
    (
        "filmgate_gpu_kept_bytes",
        "Kept for pods that waited too long, or for which others were asked to leave.",
    ),
    ("filmgate_gpu_free_bytes", "What a newcomer may have."),
    (
        "filmgate_overdrawn_bytes",
        "By how much charges, measurements and foreign memory exceed what the GPU has to give.",
    ),
];

struct Figures {
    gpus: Vec<GpuFigures>,
    ages: Vec<(NodeName, f64)>,
    unmanaged: Vec<(NodeName, usize)>,
    over_charges: Vec<PodFigure>,
    side_writes: Option<SideWrites>,
    holds: usize,
    nominations: usize,
    reservations: usize,
    waiting: usize,
    in_doubt: usize,
    expired_holds: u64,
    is_leading: bool,
}

impl Gate {
    /// Everything that Prometheus reads.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        let figures = self.figures();
        let mut text = self.metrics().render();
        figures.write(&mut text);
        text
    }

    fn figures(&self) -> Figures {
        let now = self.clock.now();
        self.with_ledger(|ledger| {
            let headroom = ledger.policy().headroom;
            let mut gpus = Vec::new();
            ledger.for_each_gpu(|node, gpu| {
                let bytes =
                    [gpu.charged, gpu.held, gpu.kept, gpu.open_bytes(), gpu.overdrawn(headroom)];
                let labels = GpuLabels { node: node.clone(), gpu: gpu.clone() };
                gpus.push(GpuFigures { labels, bytes });
            });
            let ages = ledger.reading_ages(now);
            Figures {
                gpus,
                unmanaged: ledger
                    .unmanaged_pods()
                    .map(|(node, pods)| (node.clone(), pods))
                    .collect(),
                over_charges: ledger.over_charges().map(PodFigure::of).collect(),
                side_writes: self.writer.side_writes(),
                ages: ages.map(|(node, age)| (node.clone(), age.as_secs_f64())).collect(),
                holds: ledger.claims().filter(|(_, claim)| claim.is_held()).count(),
                nominations: ledger.nominations(),
                reservations: ledger.reservations(),
                waiting: ledger.waiting().count(),
                in_doubt: ledger.in_doubt().count(),
                expired_holds: ledger.expired_holds(),
                is_leading: self.is_leading(),
            }
        })
    }
}

impl Figures {
    fn write(&self, to: &mut String) {
        for (at, (name, help)) in GPU_GAUGES.into_iter().enumerate() {
            head(to, name, help, "gauge");
            for gpu in &self.gpus {
                gpu.labels.write(to, name);
                let _infallible = writeln!(to, " {}", gpu.bytes[at].get());
            }
        }
        head(to, "filmgate_reading_age_seconds", "Age of each node's last reading.", "gauge");
        for (node, age) in &self.ages {
            let node = escaped(node.as_str());
            let _infallible =
                writeln!(to, "filmgate_reading_age_seconds{{node=\"{node}\"}} {age:.3}");
        }
        self.write_pods(to);
        self.write_side_writes(to);
        single(to, "filmgate_holds", "Holds open now.", "gauge", self.holds as u64);
        let help = "Places kept for pods for which others were asked to leave.";
        single(to, "filmgate_nominated_claims", help, "gauge", self.nominations as u64);
        let help = "Places reserved for pods that have waited too long.";
        single(to, "filmgate_reserved_claims", help, "gauge", self.reservations as u64);
        let help = "Holds that ended unused.";
        single(to, "filmgate_holds_expired_total", help, "counter", self.expired_holds);
        let help = "Pods that wait for VRAM.";
        single(to, "filmgate_waiting_pods", help, "gauge", self.waiting as u64);
        let help = "Bindings whose outcome is not known.";
        single(to, "filmgate_bindings_in_doubt", help, "gauge", self.in_doubt as u64);
        let help = "Whether this replica leads, so that kube-scheduler is answered: 1, or 0.";
        single(to, "filmgate_leader", help, "gauge", u64::from(self.is_leading));
        head(to, "filmgate_build_info", "The version that runs.", "gauge");
        let version = env!("CARGO_PKG_VERSION");
        let _infallible = writeln!(to, "filmgate_build_info{{version=\"{version}\"}} 1");
    }
}

impl Figures {
    fn write_pods(&self, to: &mut String) {
        let help = "Pods with a GPU that were bound without a decision of filmgate's.";
        head(to, "filmgate_unmanaged_pods", help, "gauge");
        for (node, pods) in &self.unmanaged {
            let node = escaped(node.as_str());
            let _infallible = writeln!(to, "filmgate_unmanaged_pods{{node=\"{node}\"}} {pods}");
        }
        let help = "By how much a pod's processes hold more of a GPU than the pod is charged. \
                    Pods that do not have no series.";
        head(to, "filmgate_pod_over_charge_bytes", help, "gauge");
        for one in &self.over_charges {
            one.write(to, "filmgate_pod_over_charge_bytes");
        }
    }

    fn write_side_writes(&self, to: &mut String) {
        let Some(SideWrites { wakes, events }) = self.side_writes else { return };
        for (name, help, counts) in [
            ("filmgate_wake_writes_total", "Wakes of waiting pods, by outcome.", wakes),
            ("filmgate_event_writes_total", "Events on pods, by outcome.", events),
        ] {
            head(to, name, help, "counter");
            for (outcome, count) in
                [("sent", counts.sent), ("failed", counts.failed), ("dropped", counts.dropped)]
            {
                let _infallible = writeln!(to, "{name}{{outcome=\"{outcome}\"}} {count}");
            }
        }
    }
}

/// Bytes of one pod on one GPU.
struct PodFigure {
    pod: PodRef,
    node: NodeName,
    gpu: u32,
    bytes: Bytes,
}

impl PodFigure {
    fn of(over: OverCharge<'_>) -> Self {
        let OverCharge { claim, node, gpu, bytes } = over;
        Self { pod: claim.pod.clone(), node: node.clone(), gpu, bytes }
    }

    /// The API server lets no character into these names that would have to be escaped.
    fn write(&self, to: &mut String, name: &str) {
        let Self { pod: PodRef { namespace, name: pod, .. }, node, gpu, bytes } = self;
        let _infallible = writeln!(
            to,
            "{name}{{namespace=\"{namespace}\",pod=\"{pod}\",node=\"{node}\",gpu=\"{gpu}\"}} {}",
            bytes.get()
        );
    }
}

impl GpuLabels {
    fn write(&self, to: &mut String, name: &str) {
        let (node, uuid) = (escaped(self.node.as_str()), escaped(self.gpu.uuid.as_str()));
        let (index, model) = (self.gpu.index, escaped(&self.gpu.model));
        let _infallible = write!(
            to,
            "{name}{{node=\"{node}\",gpu=\"{index}\",UUID=\"{uuid}\",modelName=\"{model}\"}}"
        );
    }
}

fn head(to: &mut String, name: &str, help: &str, kind: &str) {
    let _infallible = writeln!(to, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn single(to: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    head(to, name, help, kind);
    let _infallible = writeln!(to, "{name} {value}");
}

/// A label's value in the exposition format.
fn escaped(value: &str) -> std::borrow::Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").into()
}
