//! One simulated GPU: what it is, and what its processes hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::curve::Amount;
use crate::agent::peaks::PeakWindow;
use crate::engine::{Bytes, GpuReading, GpuUuid, Health, PodMemory, PodRef, PodUid, Time};

/// What a simulated GPU is. Built upon [`GpuSpec::gib`].
#[derive(Debug, Clone, PartialEq)]
pub struct GpuSpec {
    /// The product's name.
    pub model: Arc<str>,
    /// All of its memory.
    pub total: Bytes,
    /// Reserved by the driver.
    pub reserved: Bytes,
    /// The extended resource that it is offered as.
    pub resource: Arc<str>,
    /// Replicas that the device plugin offers.
    pub replicas: u32,
    /// Utilisation that readings show, 0 to 1.
    pub utilization_ratio: Option<f64>,
    /// Temperature that readings show.
    pub temperature_celsius: Option<f64>,
}

impl GpuSpec {
    /// A GPU of that many GiB, offered unshared as `nvidia.com/gpu`.
    #[must_use]
    pub fn gib(total: u64) -> Self {
        Self {
            model: Arc::from(format!("Simulated {total} GiB")),
            total: Bytes::gib(total),
            reserved: Bytes::ZERO,
            resource: Arc::from("nvidia.com/gpu"),
            replicas: 1,
            utilization_ratio: None,
            temperature_celsius: None,
        }
    }

    /// The same of another model.
    #[must_use]
    pub fn model(self, model: &str) -> Self {
        Self { model: Arc::from(model), ..self }
    }

    /// The same with memory reserved by the driver.
    #[must_use]
    pub fn reserved(self, reserved: Bytes) -> Self {
        Self { reserved, ..self }
    }

    /// The same, shared as that many replicas.
    #[must_use]
    pub fn replicas(self, replicas: u32) -> Self {
        Self { replicas, ..self }
    }

    /// The same under another extended resource.
    #[must_use]
    pub fn resource(self, resource: &str) -> Self {
        Self { resource: Arc::from(resource), ..self }
    }

    /// That many of them.
    #[must_use]
    pub fn times(self, count: usize) -> Vec<Self> {
        vec![self; count]
    }

    /// What processes can hold.
    #[must_use]
    pub fn capacity(&self) -> Bytes {
        self.total - self.reserved
    }
}

/// What is true of a simulated GPU, whatever its readings can show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truth {
    /// What its processes want to hold, the capacity notwithstanding.
    pub used: Bytes,
    /// What they can hold: the total without what the driver reserves.
    pub capacity: Bytes,
    /// `used` beyond the capacity: on a real GPU some process would have failed.
    pub overcommitted: Bytes,
    /// The most that was overcommitted at any time.
    pub most_overcommitted: Bytes,
    /// How long anything was.
    pub overcommitted_for: Duration,
}

/// A pod's processes on one GPU.
#[derive(Debug, Default)]
pub(super) struct PodUse {
    amount: Option<Amount>,
    peaks: PeakWindow,
}

impl PodUse {
    fn observe(&mut self, now: Time) {
        let held = self.amount.as_ref().map_or(Bytes::ZERO, |amount| amount.at(now));
        self.peaks.record(now, held);
    }

    /// From now on it holds `amount`.
    pub(super) fn set(&mut self, amount: Amount) {
        self.amount = Some(amount);
    }
}

#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) spec: GpuSpec,
    pub(super) index: u32,
    pub(super) uuid: GpuUuid,
    pub(super) health: Health,
    pub(super) foreign: Vec<Amount>,
    pub(super) pods: BTreeMap<PodUid, PodUse>,
    truth: Truth,
    observed_at: Time,
}

impl Gpu {
    pub(super) fn new(spec: GpuSpec, index: u32, uuid: GpuUuid, now: Time) -> Self {
        let truth = Truth { capacity: spec.capacity(), ..Truth::default() };
        Self {
            spec,
            index,
            uuid,
            health: Health::Healthy,
            foreign: Vec::new(),
            pods: BTreeMap::new(),
            truth,
            observed_at: now,
        }
    }

    /// The same processes on a GPU of that description.
    pub(super) fn with_spec(self, spec: GpuSpec) -> Self {
        Self { spec, ..self }
    }

    /// The pod's processes hold `amount` from now on.
    pub(super) fn put_pod(&mut self, pod: &PodRef, amount: Amount) {
        self.pods.entry(pod.uid.clone()).or_default().set(amount);
    }

    /// Forgets earlier peaks, as a restarted agent does.
    pub(super) fn forget_peaks(&mut self, now: Time) {
        for pod in self.pods.values_mut() {
            pod.peaks = PeakWindow::default();
            pod.observe(now);
        }
    }

    /// Brings peaks and truth up to now.
    pub(super) fn observe(&mut self, now: Time) {
        for pod in self.pods.values_mut() {
            pod.observe(now);
        }
        if self.truth.overcommitted > Bytes::ZERO {
            self.truth.overcommitted_for += now.since(self.observed_at);
        }
        self.observed_at = now;
        let pods: Bytes = self.pods.values().map(|pod| pod.peaks.current()).sum();
        self.truth.used = pods + self.foreign.iter().map(|amount| amount.at(now)).sum();
        self.truth.overcommitted = self.truth.used - self.truth.capacity;
        self.truth.most_overcommitted = self.truth.most_overcommitted.max(self.truth.overcommitted);
    }

    pub(super) fn truth(&self) -> Truth {
        self.truth
    }

    /// What NVML would show. No figure is above what the hardware has: what does not fit was never
    /// allocated. A pod that holds nothing is listed while its peak is in the window.
    pub(super) fn reading(
        &mut self,
        now: Time,
        window: Duration,
        is_attributed: bool,
    ) -> GpuReading {
        self.observe(now);
        let capacity = self.truth.capacity;
        let show = |(uid, pod): (&PodUid, &mut PodUse)| PodMemory {
            uid: uid.clone(),
            used: pod.peaks.current().min(capacity),
            peak: pod.peaks.peak(now, window).min(capacity),
        };
        let pods = self.pods.iter_mut().filter(|_| is_attributed).map(show);
        GpuReading {
            index: self.index,
            uuid: self.uuid.clone(),
            model: Arc::clone(&self.spec.model),
            resource: Arc::clone(&self.spec.resource),
            replicas: self.spec.replicas,
            total: self.spec.total,
            used: self.truth.used.min(capacity),
            reserved: self.spec.reserved,
            utilization_ratio: self.spec.utilization_ratio,
            temperature_celsius: self.spec.temperature_celsius,
            health: self.health.clone(),
            pods: pods.filter(|pod| pod.peak > Bytes::ZERO).collect(),
        }
    }
}
