//! The gauges, computed at the scrape: no series outlives its GPU, node or hold.
//!
//! What is said of the fleet, only the leader says, so that sums over replicas are true.

use super::Gate;
use crate::engine::accounting::GpuState;
use crate::engine::ledger::OverCharge;
use crate::engine::{Bytes, Ledger, NodeName, PodRef, Time};
use crate::extender::writer::SideWrites;
use crate::metrics::catalogue::{Metric, ledger as fleet, replica};
use crate::metrics::exposition::Exposition;

/// What a replica says of itself.
struct OwnFigures {
    ages: Vec<(NodeName, f64)>,
    side_writes: Option<SideWrites>,
    expired_holds: u64,
    is_leading: bool,
}

/// What the leader says of the fleet.
struct FleetFigures {
    gpus: Vec<GpuFigures>,
    unmanaged: Vec<(NodeName, usize)>,
    over_charges: Vec<PodFigure>,
    holds: usize,
    nominations: usize,
    reservations: usize,
    waiting: usize,
    in_doubt: usize,
}

/// Figures of one GPU, copied under the lock and written as text after it.
struct GpuFigures {
    node: NodeName,
    gpu: GpuState,
    overdrawn: Bytes,
}

impl Gate {
    /// Everything that Prometheus reads.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        let now = self.clock.now();
        let is_leading = self.is_leading();
        let (own, fleet) = self.with_ledger(|ledger| {
            let fleet = is_leading.then(|| FleetFigures::of(ledger));
            (self.own_figures(ledger, is_leading, now), fleet)
        });
        let mut page = Exposition::after(self.metrics().render());
        own.write(&mut page);
        if let Some(fleet) = fleet {
            fleet.write(&mut page);
        }
        page.finish()
    }

    fn own_figures(&self, ledger: &Ledger, is_leading: bool, now: Time) -> OwnFigures {
        let ages = ledger.reading_ages(now);
        OwnFigures {
            ages: ages.map(|(node, age)| (node.clone(), age.as_secs_f64())).collect(),
            side_writes: self.writer.side_writes(),
            expired_holds: ledger.expired_holds(),
            is_leading,
        }
    }
}

impl OwnFigures {
    fn write(&self, page: &mut Exposition) {
        let mut ages = page.family(&replica::READING_AGE);
        for (node, age) in &self.ages {
            ages.sample([node.as_str()], format_args!("{age:.3}"));
        }
        self.write_side_writes(page);
        page.single(&replica::HOLDS_EXPIRED, self.expired_holds);
        page.single(&replica::LEADER, u8::from(self.is_leading));
        page.family(&replica::BUILD_INFO).sample([env!("CARGO_PKG_VERSION")], 1);
    }

    fn write_side_writes(&self, page: &mut Exposition) {
        let Some(SideWrites { wakes, events }) = self.side_writes else { return };
        for (metric, counts) in [(&replica::WAKE_WRITES, wakes), (&replica::EVENT_WRITES, events)] {
            let mut family = page.family(metric);
            family.sample(["sent"], counts.sent);
            family.sample(["failed"], counts.failed);
            family.sample(["dropped"], counts.dropped);
        }
    }
}

impl FleetFigures {
    fn of(ledger: &Ledger) -> Self {
        let headroom = ledger.policy().headroom;
        let mut gpus = Vec::new();
        ledger.for_each_gpu(|node, gpu| {
            let overdrawn = gpu.overdrawn(headroom);
            gpus.push(GpuFigures { node: node.clone(), gpu: gpu.clone(), overdrawn });
        });
        let unmanaged = ledger.unmanaged_pods();
        Self {
            gpus,
            unmanaged: unmanaged.map(|(node, pods)| (node.clone(), pods)).collect(),
            over_charges: ledger.over_charges().map(PodFigure::of).collect(),
            holds: ledger.claims().filter(|(_, claim)| claim.is_held()).count(),
            nominations: ledger.nominations(),
            reservations: ledger.reservations(),
            waiting: ledger.waiting().count(),
            in_doubt: ledger.in_doubt().count(),
        }
    }

    fn write(&self, page: &mut Exposition) {
        self.write_gpus(page);
        self.write_pods(page);
        page.single(&fleet::WAITING_PODS, self.waiting);
        page.single(&fleet::HOLDS, self.holds);
        page.single(&fleet::NOMINATED_CLAIMS, self.nominations);
        page.single(&fleet::RESERVED_CLAIMS, self.reservations);
        page.single(&fleet::BINDINGS_IN_DOUBT, self.in_doubt);
    }

    fn write_gpus(&self, page: &mut Exposition) {
        self.write_gpu_gauge(page, &fleet::GPU_CHARGED, |one| one.gpu.charged);
        self.write_gpu_gauge(page, &fleet::GPU_HELD, |one| one.gpu.held);
        self.write_gpu_gauge(page, &fleet::GPU_KEPT, |one| one.gpu.kept);
        self.write_gpu_gauge(page, &fleet::GPU_FREE, |one| one.gpu.open_bytes());
        self.write_gpu_gauge(page, &fleet::OVERDRAWN, |one| one.overdrawn);
    }

    fn write_gpu_gauge(
        &self,
        page: &mut Exposition,
        metric: &'static Metric,
        bytes: impl Fn(&GpuFigures) -> Bytes,
    ) {
        let mut family = page.family(metric);
        for one in &self.gpus {
            let index = one.gpu.index.to_string();
            let labels = [one.node.as_str(), &index, one.gpu.uuid.as_str(), &one.gpu.model];
            family.sample(labels, bytes(one).get());
        }
    }

    fn write_pods(&self, page: &mut Exposition) {
        let mut unmanaged = page.family(&fleet::UNMANAGED_PODS);
        for (node, pods) in &self.unmanaged {
            unmanaged.sample([node.as_str()], pods);
        }
        let mut over_charges = page.family(&fleet::POD_OVER_CHARGE);
        for PodFigure { pod, node, gpu, bytes } in &self.over_charges {
            let labels = [&*pod.namespace, &*pod.name, node.as_str(), &gpu.to_string()];
            over_charges.sample(labels, bytes.get());
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
}
