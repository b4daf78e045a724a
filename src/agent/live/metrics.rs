//! A node's truth in Prometheus' words.
//!
//! Each scrape shows the newest sampling and nothing else: a pod that is gone leaves no series.
//! `gpu` is NVML's index, `UUID` and `modelName` are as dcgm-exporter has them, so that the two
//! join; `namespace`, `pod` and `container` are kube-state-metrics'.

use std::collections::BTreeMap;

use prometheus::{CounterVec, GaugeVec, Registry, TextEncoder};

use super::{ContainerMemory, Truth};
use crate::agent::book::Book;
use crate::agent::hardware::{Driver, Gpu, GpuState, Mig};
use crate::engine::{Attribution, Bytes, GpuReading};
use crate::metrics::catalogue::{Metric, agent};

/// The exposition of a sampling.
#[must_use]
pub fn render(truth: &Truth) -> String {
    let page = Page { registry: Registry::new(), truth };
    page.node();
    page.memory();
    page.load();
    page.faults();
    page.pods();
    TextEncoder::new().encode_to_string(&page.registry.gather()).unwrap_or_default()
}

struct Page<'a> {
    registry: Registry,
    truth: &'a Truth,
}

impl Page<'_> {
    /// The metric's family. Names are fixed and differ: registering them cannot fail.
    fn family(&self, metric: &Metric) -> Option<GaugeVec> {
        let family = GaugeVec::new(metric.opts(), metric.labels).ok()?;
        self.registry.register(Box::new(family.clone())).ok()?;
        Some(family)
    }

    fn set(family: Option<&GaugeVec>, labels: &[&str], value: f64) {
        if let Some(gauge) = family.and_then(|one| one.get_metric_with_label_values(labels).ok()) {
            gauge.set(value);
        }
    }

    fn node(&self) {
        let truth = self.truth;
        let node = truth.reading.node.as_str();
        let single = |metric: &Metric, value: f64| {
            Self::set(self.family(metric).as_ref(), &[node], value);
        };
        single(&agent::SAMPLED_AT, truth.began_at.as_duration().as_secs_f64());
        single(&agent::SAMPLING, truth.took.as_secs_f64());
        single(&agent::KUBELET_UP, flag(truth.no_book.is_none()));
        single(&agent::DRIVER_UP, flag(matches!(truth.hardware.driver, Driver::Ready { .. })));
        single(&agent::UNREAD_GPUS, truth.hardware.unread.len() as f64);
        let modes = self.family(&agent::ATTRIBUTION);
        let is_full = truth.reading.attribution == Attribution::Full;
        for (mode, is_it) in [("full", is_full), ("degraded", !is_full)] {
            Self::set(modes.as_ref(), &[node, mode], flag(is_it));
        }
        if let Driver::Ready { version } = &truth.hardware.driver {
            let info = self.family(&agent::DRIVER_INFO);
            Self::set(info.as_ref(), &[node, version], 1.0);
        }
    }

    /// One value per device that has it.
    fn per_gpu(&self, metric: &Metric, value: impl Fn(&Gpu) -> Option<f64>) {
        let family = self.family(metric);
        for gpu in &self.truth.hardware.gpus {
            if let Some(value) = value(gpu) {
                let index = gpu.index.to_string();
                Self::set(family.as_ref(), &self.labels(gpu, &index), value);
            }
        }
    }

    fn labels<'a>(&'a self, gpu: &'a Gpu, index: &'a str) -> [&'a str; 6] {
        let node = self.truth.reading.node.as_str();
        let profile = match &gpu.mig {
            Mig::Instance { profile, .. } => profile,
            _ => "",
        };
        let pci = gpu.pci_bus_id.as_deref().unwrap_or_default();
        [node, index, gpu.uuid.as_str(), &gpu.model, pci, profile]
    }

    fn memory(&self) {
        let shown = |gpu: &Gpu| self.truth.reading.gpu(&gpu.uuid);
        let amount = |pick: fn(&GpuReading) -> Bytes| {
            move |gpu: &Gpu| shown(gpu).map(|gpu| pick(gpu).get() as f64)
        };
        self.per_gpu(&agent::MEMORY_TOTAL, amount(|gpu| gpu.total));
        self.per_gpu(&agent::MEMORY_USED, amount(|gpu| gpu.used));
        self.per_gpu(&agent::MEMORY_RESERVED, amount(|gpu| gpu.reserved));
        self.per_gpu(&agent::MEMORY_FOREIGN, amount(GpuReading::foreign));
    }

    fn load(&self) {
        self.per_gpu(&agent::UTILIZATION, |gpu| gpu.utilization_ratio);
        self.per_gpu(&agent::MEMORY_UTILIZATION, |gpu| gpu.memory_utilization_ratio);
        self.per_gpu(&agent::TEMPERATURE, |gpu| gpu.temperature_celsius);
        self.per_gpu(&agent::POWER, |gpu| gpu.power_watts);
    }

    fn faults(&self) {
        self.per_gpu(&agent::HEALTHY, |gpu| Some(flag(gpu.state == GpuState::Ready)));
        self.per_gpu(&agent::RETIRED_PAGES, |gpu| gpu.retired_pages.map(f64::from));
        let rows = |gpu: &Gpu| gpu.remapped_rows;
        let all = |gpu: &Gpu| {
            rows(gpu).map(|rows| f64::from(rows.corrected) + f64::from(rows.uncorrected))
        };
        self.per_gpu(&agent::REMAPPED_ROWS, all);
        let pending = |gpu: &Gpu| rows(gpu).map(|rows| flag(rows.is_pending));
        self.per_gpu(&agent::ROW_REMAP_PENDING, pending);
        let failed = |gpu: &Gpu| rows(gpu).map(|rows| flag(rows.has_failed));
        self.per_gpu(&agent::ROW_REMAP_FAILED, failed);
        self.throttling();
        self.count(&agent::ECC_ERRORS, |gpu| {
            let kinds = gpu.ecc_errors.map(|errors| {
                [("corrected", errors.corrected), ("uncorrected", errors.uncorrected)]
            });
            kinds.into_iter().flatten().map(|(kind, count)| (kind.to_owned(), count)).collect()
        });
        self.count(&agent::XID_ERRORS, |gpu| {
            gpu.xids.iter().map(|(xid, count)| (xid.to_string(), *count)).collect()
        });
    }

    fn throttling(&self) {
        let family = self.family(&agent::THROTTLED);
        for gpu in &self.truth.hardware.gpus {
            let index = gpu.index.to_string();
            for reason in gpu.throttle_reasons.iter().flatten() {
                let labels = [&self.labels(gpu, &index)[..], &[reason]].concat();
                Self::set(family.as_ref(), &labels, 1.0);
            }
        }
    }

    /// Counts of each device by kind.
    fn count(&self, metric: &Metric, counts: impl Fn(&Gpu) -> Vec<(String, u64)>) {
        let Ok(family) = CounterVec::new(metric.opts(), metric.labels) else { return };
        if self.registry.register(Box::new(family.clone())).is_err() {
            return;
        }
        for gpu in &self.truth.hardware.gpus {
            let index = gpu.index.to_string();
            for (kind, count) in counts(gpu) {
                let labels = [&self.labels(gpu, &index)[..], &[kind.as_str()]].concat();
                if let Ok(counter) = family.get_metric_with_label_values(&labels) {
                    counter.inc_by(count as f64);
                }
            }
        }
    }

    fn pods(&self) {
        let used = self.family(&agent::POD_MEMORY_USED);
        let peak = self.family(&agent::POD_MEMORY_PEAK);
        for (labels, (now, most)) in self.by_name() {
            let labels = labels.each_ref().map(String::as_str);
            Self::set(used.as_ref(), &labels, now.get() as f64);
            Self::set(peak.as_ref(), &labels, most.get() as f64);
        }
    }

    /// By names, which a restarted container shares with the one before it.
    fn by_name(&self) -> BTreeMap<[String; 6], (Bytes, Bytes)> {
        let mut sums: BTreeMap<[String; 6], (Bytes, Bytes)> = BTreeMap::new();
        for holder in &self.truth.holders {
            let Some(gpu) = self.truth.reading.gpu(&holder.gpu) else { continue };
            let node = self.truth.reading.node.to_string();
            let [namespace, pod, container] = names(holder, &self.truth.book);
            let uuid = gpu.uuid.to_string();
            let labels = [node, gpu.index.to_string(), uuid, namespace, pod, container];
            let (used, peak) = sums.entry(labels).or_default();
            *used += holder.used;
            *peak = (*peak).max(holder.peak).max(*used);
        }
        sums
    }
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Namespace, pod and container, as far as the kubelet tells them; of a pod that it does not know
/// the UID stands for the name.
pub(super) fn names(holder: &ContainerMemory, book: &Book) -> [String; 3] {
    if let Some(pod) = book.pods.iter().find(|pod| pod.uid == holder.pod) {
        let is_it = |(id, _): &&(_, _)| Some(id) == holder.container.as_ref();
        let container = pod.containers.iter().find(is_it).map(|(_, name)| name.to_string());
        return [pod.namespace.to_string(), pod.name.to_string(), container.unwrap_or_default()];
    }
    let listed = book.assignments.iter().find(|device| device.uid.as_ref() == Some(&holder.pod));
    match listed {
        Some(device) => [device.namespace.to_string(), device.pod.to_string(), String::new()],
        None => [String::new(), holder.pod.to_string(), String::new()],
    }
}
