//! The gauges, computed at the scrape: no series outlives its GPU, node or hold.
//!
//! What is said of the fleet, only the leader says, so that sums over replicas are true.

use std::sync::Arc;
use std::time::Duration;

mod comfyui;

use comfyui::ComfyUiFigures;

use super::Gate;
use crate::engine::accounting::GpuState;
use crate::engine::comfyui::Instances;
use crate::engine::ledger::OverCharge;
use crate::engine::outlook::{Footprint, Survey};
use crate::engine::{Bytes, Ledger, NodeName, Outlook, PodRef, Time};
use crate::extender::writer::SideWrites;
use crate::metrics::catalogue::{Metric, ledger as fleet, replica};
use crate::metrics::exposition::{Exposition, Family};

/// What a replica says of itself.
struct OwnFigures {
    ages: Vec<(NodeName, f64)>,
    side_writes: Option<SideWrites>,
    expired_holds: u64,
    is_leading: bool,
    kube_scheduler_skew: Option<i64>,
}

/// What the leader says of the fleet.
struct FleetFigures {
    survey: Survey,
    unmanaged: Vec<(NodeName, usize)>,
    over_charges: Vec<PodFigure>,
    holds: usize,
    nominations: usize,
    reservations: usize,
    waiting: usize,
    longest_wait: Duration,
    in_doubt: usize,
    comfyui: ComfyUiFigures,
}

impl Gate {
    /// Everything that Prometheus reads.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        let now = self.clock.now();
        let is_leading = self.is_leading();
        let (own, fleet) = self.with_ledger(|ledger| {
            let scheduler = &self.settings.scheduler_name;
            let fleet = is_leading.then(|| {
                self.with_comfyui(|instances| FleetFigures::of(ledger, instances, scheduler, now))
            });
            (self.own_figures(ledger, is_leading, now), fleet)
        });
        let mut page = Exposition::after(self.metrics().render());
        own.write(&mut page);
        if let Some(fleet) = fleet {
            fleet.write(&mut page);
        }
        page.finish()
    }

    /// This replica's ledger, as far as figures of the fleet are made from it.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let now = self.clock.now();
        let survey = self.with_ledger(|ledger| ledger.survey(&self.settings.scheduler_name, now));
        survey.with_queues(self.with_comfyui(|instances| instances.queues(now)))
    }

    fn own_figures(&self, ledger: &Ledger, is_leading: bool, now: Time) -> OwnFigures {
        let ages = ledger.reading_ages(now);
        OwnFigures {
            ages: ages.map(|(node, age)| (node.clone(), age.as_secs_f64())).collect(),
            side_writes: self.writer.side_writes(),
            expired_holds: ledger.expired_holds(),
            is_leading,
            kube_scheduler_skew: *self.kube_scheduler_skew.lock(),
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
        let mut skew = page.family(&replica::KUBE_SCHEDULER_SKEW);
        self.kube_scheduler_skew.into_iter().for_each(|versions| skew.sample([], versions));
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
    fn of(ledger: &Ledger, instances: &Instances, scheduler: &Arc<str>, now: Time) -> Self {
        let unmanaged = ledger.unmanaged_pods();
        let waits = ledger.waiting().map(|one| now.since(one.since));
        Self {
            survey: ledger.survey(scheduler, now),
            unmanaged: unmanaged.map(|(node, pods)| (node.clone(), pods)).collect(),
            over_charges: ledger.over_charges().map(PodFigure::of).collect(),
            holds: ledger.claims().filter(|(_, claim)| claim.is_held()).count(),
            nominations: ledger.nominations(),
            reservations: ledger.reservations(),
            waiting: ledger.waiting().count(),
            longest_wait: waits.max().unwrap_or_default(),
            in_doubt: ledger.in_doubt().count(),
            comfyui: ComfyUiFigures::of(ledger, instances, now),
        }
    }

    fn write(&self, page: &mut Exposition) {
        self.write_gpus(page);
        self.write_pods(page);
        write_outlook(&Outlook::of(&self.survey), page);
        page.single(&fleet::WAITING_PODS, self.waiting);
        page.single(&fleet::LONGEST_WAIT, self.longest_wait.as_secs_f64());
        page.single(&fleet::HOLDS, self.holds);
        page.single(&fleet::NOMINATED_CLAIMS, self.nominations);
        page.single(&fleet::RESERVED_CLAIMS, self.reservations);
        page.single(&fleet::BINDINGS_IN_DOUBT, self.in_doubt);
        self.comfyui.write(page);
    }

    fn write_gpus(&self, page: &mut Exposition) {
        let headroom = self.survey.policy.headroom;
        self.write_gpu_gauge(page, &fleet::GPU_CHARGED, |gpu| gpu.charged);
        self.write_gpu_gauge(page, &fleet::GPU_HELD, |gpu| gpu.held);
        self.write_gpu_gauge(page, &fleet::GPU_KEPT, |gpu| gpu.kept);
        self.write_gpu_gauge(page, &fleet::GPU_FREE, GpuState::open_bytes);
        self.write_gpu_gauge(page, &fleet::OVERDRAWN, |gpu| gpu.overdrawn(headroom));
    }

    fn write_gpu_gauge(
        &self,
        page: &mut Exposition,
        metric: &'static Metric,
        bytes: impl Fn(&GpuState) -> Bytes,
    ) {
        let mut family = page.family(metric);
        for node in &self.survey.nodes {
            for gpu in &node.view.gpus {
                let index = gpu.index.to_string();
                let labels = [node.name.as_str(), &index, gpu.uuid.as_str(), &gpu.model];
                family.sample(labels, bytes(gpu).get());
            }
        }
    }

    fn write_pods(&self, page: &mut Exposition) {
        let mut unmanaged = page.family(&fleet::UNMANAGED_PODS);
        for (node, pods) in &self.unmanaged {
            unmanaged.sample([node.as_str()], pods);
        }
        PodFigure::write_all(&self.over_charges, page.family(&fleet::POD_OVER_CHARGE));
    }
}

fn write_outlook(outlook: &Outlook, page: &mut Exposition) {
    let mut pods = page.family(&fleet::PENDING_PODS);
    for (namespace, pending) in &outlook.pending {
        pods.sample([&**namespace], pending.pods);
    }
    let mut vram = page.family(&fleet::PENDING_VRAM);
    for (namespace, pending) in &outlook.pending {
        vram.sample([&**namespace], pending.vram.get());
    }
    let mut unplaceable = page.family(&fleet::UNPLACEABLE_PODS);
    for (reason, pods) in &outlook.unplaceable {
        unplaceable.sample([reason.label()], pods);
    }
    let mut slots = page.family(&fleet::SLOTS);
    for (size, pods) in &outlook.slots {
        slots.sample([&format!("{}Gi", size.get() >> 30)], pods);
    }
    let mut ratio = page.family(&fleet::FRAGMENTATION_RATIO);
    outlook.fragmentation_ratio.into_iter().for_each(|value| ratio.sample([], value));
    page.single(&fleet::GPUS_NEEDED, outlook.shortage.gpus);
    page.single(&fleet::NODES_NEEDED, outlook.shortage.nodes);
    write_workloads(outlook, page);
    let mut idle = page.family(&fleet::NODE_IDLE);
    for (node, time) in &outlook.idle {
        idle.sample([node.as_str()], format_args!("{:.3}", time.as_secs_f64()));
    }
}

fn write_workloads(outlook: &Outlook, page: &mut Exposition) {
    let mut slots = page.family(&fleet::WORKLOAD_SLOTS);
    for one in &outlook.workloads {
        let pods = one.slots.into_iter();
        pods.for_each(|pods| slots.sample([&*one.namespace, &*one.name], pods));
    }
    let mut footprints = page.family(&fleet::WORKLOAD_FOOTPRINT);
    for one in &outlook.workloads {
        let Some(Footprint { median, p95, most }) = one.footprint else { continue };
        for (quantile, bytes) in [("0.5", median), ("0.95", p95), ("1", most)] {
            footprints.sample([&*one.namespace, &*one.name, quantile], bytes.get());
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

    fn write_all(figures: &[Self], mut family: Family<'_>) {
        for Self { pod, node, gpu, bytes } in figures {
            let labels = [&*pod.namespace, &*pod.name, node.as_str(), &gpu.to_string()];
            family.sample(labels, bytes.get());
        }
    }
}
