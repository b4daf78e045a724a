//! A node's truth in Prometheus' words.
//!
//! Each scrape shows the newest sampling and nothing else: a pod that is gone leaves no series.
//! `gpu` is NVML's index, `UUID` and `modelName` are as dcgm-exporter has them, so that the two
//! join; `namespace`, `pod` and `container` are kube-state-metrics'.

use std::collections::BTreeMap;

use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};

use super::{ContainerMemory, Truth};
use crate::agent::book::Book;
use crate::agent::hardware::{Driver, Gpu, GpuState, Mig};
use crate::engine::{Attribution, Bytes, GpuReading};

const GPU_LABELS: [&str; 6] = ["node", "gpu", "UUID", "modelName", "pci_bus_id", "GPU_I_PROFILE"];
const POD_LABELS: [&str; 6] = ["node", "gpu", "UUID", "namespace", "pod", "container"];

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
    /// A family under that name. Names are fixed and differ: registering them cannot fail.
    fn family(&self, name: &str, help: &str, labels: &[&str]) -> Option<GaugeVec> {
        let family = GaugeVec::new(Opts::new(name, help), labels).ok()?;
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
        let single = |name: &str, help: &str, value: f64| {
            Self::set(self.family(name, help, &["node"]).as_ref(), &[node], value);
        };
        let began = truth.began_at.as_duration().as_secs_f64();
        single("filmgate_agent_sampled_timestamp_seconds", "When the sampling began.", began);
        let took = truth.took.as_secs_f64();
        single("filmgate_agent_sampling_seconds", "How long the sampling took.", took);
        let kubelet = f64::from(u8::from(truth.no_book.is_none()));
        single("filmgate_agent_kubelet_up", "Whether the kubelet's book could be read.", kubelet);
        let is_ready = matches!(truth.hardware.driver, Driver::Ready { .. });
        let driver = f64::from(u8::from(is_ready));
        single("filmgate_agent_driver_up", "Whether the NVIDIA driver answers.", driver);
        let unread = truth.hardware.unread.len() as f64;
        let help = "GPUs that the driver counts, and that never told who they are.";
        single("filmgate_agent_unread_gpus", help, unread);
        let help = "1 for the way in which memory is attributed to pods.";
        let modes = self.family("filmgate_agent_attribution", help, &["node", "mode"]);
        let is_full = truth.reading.attribution == Attribution::Full;
        for (mode, is_it) in [("full", is_full), ("degraded", !is_full)] {
            Self::set(modes.as_ref(), &[node, mode], f64::from(u8::from(is_it)));
        }
        if let Driver::Ready { version } = &truth.hardware.driver {
            let help = "The NVIDIA driver's version.";
            let info = self.family("filmgate_agent_driver_info", help, &["node", "version"]);
            Self::set(info.as_ref(), &[node, version], 1.0);
        }
    }

    /// One value per device that has it.
    fn per_gpu(&self, name: &str, help: &str, value: impl Fn(&Gpu) -> Option<f64>) {
        let family = self.family(name, help, &GPU_LABELS);
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
        self.per_gpu("filmgate_gpu_memory_total_bytes", "All of it.", amount(|gpu| gpu.total));
        let help = "In use by anyone, without what the driver reserves.";
        self.per_gpu("filmgate_gpu_memory_used_bytes", help, amount(|gpu| gpu.used));
        let help = "Reserved by the driver and firmware.";
        self.per_gpu("filmgate_gpu_memory_reserved_bytes", help, amount(|gpu| gpu.reserved));
        let help = "In use by no pod.";
        self.per_gpu("filmgate_gpu_memory_foreign_bytes", help, amount(GpuReading::foreign));
    }

    fn load(&self) {
        let help = "Part of the time since the sampling before in which a kernel ran.";
        self.per_gpu("filmgate_gpu_utilization_ratio", help, |gpu| gpu.utilization_ratio);
        let help = "Part of that time in which memory was read or written.";
        let name = "filmgate_gpu_memory_utilization_ratio";
        self.per_gpu(name, help, |gpu| gpu.memory_utilization_ratio);
        let help = "Core temperature.";
        self.per_gpu("filmgate_gpu_temperature_celsius", help, |gpu| gpu.temperature_celsius);
        self.per_gpu("filmgate_gpu_power_watts", "Power drawn.", |gpu| gpu.power_watts);
    }

    fn faults(&self) {
        let help = "Whether it can be asked, and can take work.";
        let is_ready = |gpu: &Gpu| f64::from(u8::from(gpu.state == GpuState::Ready));
        self.per_gpu("filmgate_gpu_healthy", help, |gpu| Some(is_ready(gpu)));
        let help = "Pages retired because of memory errors.";
        self.per_gpu("filmgate_gpu_retired_pages", help, |gpu| gpu.retired_pages.map(f64::from));
        let rows = |gpu: &Gpu| gpu.remapped_rows;
        let help = "Rows remapped because of memory errors.";
        let all = |gpu: &Gpu| rows(gpu).map(|rows| f64::from(rows.corrected + rows.uncorrected));
        self.per_gpu("filmgate_gpu_remapped_rows", help, all);
        let help = "Whether a row could not be remapped: the GPU should be replaced.";
        let failed = |gpu: &Gpu| rows(gpu).map(|rows| f64::from(u8::from(rows.has_failed)));
        self.per_gpu("filmgate_gpu_row_remap_failed", help, failed);
        self.throttling();
        let help = "ECC errors since the driver was loaded.";
        self.count("filmgate_gpu_ecc_errors_total", help, "kind", |gpu| {
            let kinds = gpu.ecc_errors.map(|errors| {
                [("corrected", errors.corrected), ("uncorrected", errors.uncorrected)]
            });
            kinds.into_iter().flatten().map(|(kind, count)| (kind.to_owned(), count)).collect()
        });
        let help = "XID errors since the agent's start.";
        self.count("filmgate_gpu_xid_errors_total", help, "xid", |gpu| {
            gpu.xids.iter().map(|(xid, count)| (xid.to_string(), *count)).collect()
        });
    }

    fn throttling(&self) {
        let help = "1 for each reason that holds its clocks back.";
        let labels = [&GPU_LABELS[..], &["reason"]].concat();
        let family = self.family("filmgate_gpu_throttled", help, &labels);
        for gpu in &self.truth.hardware.gpus {
            let index = gpu.index.to_string();
            for reason in gpu.throttle_reasons.iter().flatten() {
                let labels = [&self.labels(gpu, &index)[..], &[reason]].concat();
                Self::set(family.as_ref(), &labels, 1.0);
            }
        }
    }

    /// Counts of each device by kind.
    fn count(
        &self,
        name: &str,
        help: &str,
        kind: &str,
        counts: impl Fn(&Gpu) -> Vec<(String, u64)>,
    ) {
        let labels = [&GPU_LABELS[..], &[kind]].concat();
        let Ok(family) = CounterVec::new(Opts::new(name, help), &labels) else { return };
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
        let help = "What a container's processes hold on a GPU.";
        let used = self.family("filmgate_pod_gpu_memory_used_bytes", help, &POD_LABELS);
        let help = "The most that they held at any sampling in the peak window.";
        let peak = self.family("filmgate_pod_gpu_memory_peak_bytes", help, &POD_LABELS);
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
