//! This machine as a node: the driver, the kubelet's book and `/proc`, sampled together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use self::join::{Device, Holder};
use super::book::{Book, Bookkeeper, NoBook};
use super::hardware::{Driver, Hardware, Source};
use super::owner::{OwnerLookup, Owners};
use super::peaks::PeakWindow;
use super::peaks_cover;
use crate::clock::Clock;
use crate::engine::{
    AgentRun, Attribution, Bytes, GpuReading, GpuUuid, NodeName, PodMemory, PodUid, Reading, Time,
};
use crate::readings::server::{SampleError, Sampler};

mod join;
pub mod metrics;
pub mod table;

/// All that one sampling found: the reading, and what only metrics and people ask for.
#[derive(Debug, Clone)]
pub struct Truth {
    /// What readers are told.
    pub reading: Reading,
    /// What the driver said.
    pub hardware: Hardware,
    /// What containers hold, those that held something within the window included.
    pub holders: Vec<ContainerMemory>,
    /// Names of the node's pods, as far as the kubelet tells them.
    pub book: Book,
    /// Why the book is an older one, where it is.
    pub no_book: Option<NoBook>,
    /// When the sampling began.
    pub began_at: Timestamp,
    /// How long it took.
    pub took: Duration,
}

/// What the processes of one container hold on one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerMemory {
    /// The GPU.
    pub gpu: GpuUuid,
    /// The pod.
    pub pod: PodUid,
    /// The container's id, where its cgroup tells it.
    pub container: Option<Arc<str>>,
    /// Held at the sampling.
    pub used: Bytes,
    /// The most held at any sampling in the peak window.
    pub peak: Bytes,
}

/// The node that this machine is.
pub struct LiveNode<S, B, O> {
    name: NodeName,
    run: AgentRun,
    clock: Clock,
    started: Time,
    peak_window: Duration,
    source: S,
    bookkeeper: B,
    owners: O,
    /// One sampling at a time: their numbers are their order.
    memory: tokio::sync::Mutex<Recollection>,
    latest: watch::Sender<Option<Arc<Truth>>>,
}

/// What is known from earlier samplings.
#[derive(Debug, Default)]
struct Recollection {
    sampling: u64,
    driver: Option<Arc<str>>,
    book: Book,
    pods: HashMap<(GpuUuid, PodUid), PeakWindow>,
    containers: HashMap<(GpuUuid, Holder), PeakWindow>,
}

impl<S: Source, B: Bookkeeper, O: Owners> LiveNode<S, B, O> {
    /// A node of that name, in a new run of its agent.
    pub fn new(
        name: NodeName,
        clock: Clock,
        peak_window: Duration,
        (source, bookkeeper, owners): (S, B, O),
    ) -> Self {
        Self {
            name,
            run: AgentRun::from(format!("{:016x}", rand::random::<u64>())),
            started: clock.now(),
            clock,
            peak_window,
            source,
            bookkeeper,
            owners,
            memory: tokio::sync::Mutex::default(),
            latest: watch::Sender::new(None),
        }
    }

    /// The newest sampling; `None` before the first.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<Truth>> {
        self.latest.borrow().clone()
    }

    /// Samples now.
    pub async fn observe(&self) -> Arc<Truth> {
        let mut memory = self.memory.lock().await;
        memory.sampling += 1;
        let (began, began_at) = (self.clock.now(), Timestamp::now());
        let mut lookup = self.owners.begin();
        let (hardware, book) = tokio::join!(self.source.sample(), self.bookkeeper.look());
        let no_book = match book {
            Ok(mut book) => {
                book.resolve(&hardware.gpus);
                memory.book = book;
                None
            }
            Err(why) => Some(why),
        };
        if let Driver::Ready { version } = &hardware.driver {
            memory.driver = Some(Arc::clone(version));
        }
        let devices = join::devices(&hardware, &memory.book, |pid| lookup.owner(pid));
        let now = self.clock.now();
        let truth = Arc::new(Truth {
            reading: self.reading(&mut memory, &hardware, &devices, now, no_book.is_some()),
            holders: holders(&mut memory.containers, &hardware, &devices, now, self.peak_window),
            hardware,
            book: memory.book.clone(),
            no_book,
            began_at,
            took: now.since(began),
        });
        self.latest.send_replace(Some(Arc::clone(&truth)));
        truth
    }

    fn reading(
        &self,
        memory: &mut Recollection,
        hardware: &Hardware,
        devices: &[Device],
        now: Time,
        is_book_old: bool,
    ) -> Reading {
        // A driver that is away has said what it had to say in its last version.
        let driver = memory.driver.as_deref();
        let blindness = driver.and_then(|version| self.owners.blindness(version));
        let attribution = join::attribution(hardware, blindness);
        let is_attributed = attribution == Attribution::Full;
        let held = devices.iter().flat_map(|device| {
            let uuid = join::uuid(hardware, device);
            join::by_pod(device).into_iter().map(|(pod, used)| ((uuid.clone(), pod), used))
        });
        let mut pods = peaks(&mut memory.pods, held.collect(), now, self.peak_window);
        let gpu = |device: &Device| {
            let gpu = &hardware.gpus[device.position];
            let mut own: Vec<_> = pods
                .extract_if(.., |((uuid, _), ..)| *uuid == gpu.uuid && is_attributed)
                .map(|((_, uid), used, peak)| PodMemory {
                    uid,
                    used,
                    peak: peak.min(device.memory.total),
                })
                .collect();
            own.sort_unstable_by(|one, other| one.uid.cmp(&other.uid));
            GpuReading {
                index: gpu.index,
                uuid: gpu.uuid.clone(),
                model: Arc::clone(&gpu.model),
                resource: Arc::clone(&device.resource),
                replicas: device.replicas,
                total: device.memory.total,
                used: device.memory.used,
                reserved: device.memory.reserved,
                utilization_ratio: gpu.utilization_ratio,
                temperature_celsius: gpu.temperature_celsius,
                health: device.health.clone(),
                pods: own,
            }
        };
        Reading {
            node: self.name.clone(),
            agent: self.run.clone(),
            sampling: memory.sampling,
            peaks_cover: peaks_cover(now.since(self.started), self.peak_window),
            attribution,
            gpus: devices.iter().map(gpu).collect(),
            devices: memory.book.assignments.clone(),
            is_book_old,
        }
    }
}

fn holders(
    kept: &mut HashMap<(GpuUuid, Holder), PeakWindow>,
    hardware: &Hardware,
    devices: &[Device],
    now: Time,
    window: Duration,
) -> Vec<ContainerMemory> {
    let held = devices.iter().flat_map(|device| {
        let uuid = join::uuid(hardware, device);
        let holders = device.holders.iter();
        holders.map(move |(holder, used)| ((uuid.clone(), holder.clone()), *used))
    });
    let peaks = peaks(kept, held.collect(), now, window).into_iter();
    let memory = peaks.map(|((gpu, holder), used, peak)| ContainerMemory {
        gpu,
        pod: holder.pod,
        container: holder.container,
        used,
        peak,
    });
    memory.collect()
}

/// Takes what is held now: of each the amount now and its peak. Who holds nothing and has held
/// nothing within the window is forgotten.
fn peaks<K: Clone + Eq + std::hash::Hash>(
    kept: &mut HashMap<K, PeakWindow>,
    mut held: HashMap<K, Bytes>,
    now: Time,
    window: Duration,
) -> Vec<(K, Bytes, Bytes)> {
    for (key, peaks) in kept.iter_mut() {
        peaks.record(now, held.remove(key).unwrap_or_default());
    }
    for (key, bytes) in held {
        kept.entry(key).or_default().record(now, bytes);
    }
    kept.retain(|_, peaks| peaks.peak(now, window) > Bytes::ZERO);
    let of = |(key, peaks): (&K, &mut PeakWindow)| {
        (key.clone(), peaks.current(), peaks.peak(now, window))
    };
    kept.iter_mut().map(of).collect()
}

impl<S: Source, B: Bookkeeper, O: Owners> Sampler for LiveNode<S, B, O> {
    fn nodes(&self) -> Vec<NodeName> {
        vec![self.name.clone()]
    }

    async fn sample(&self, node: &NodeName) -> Result<Reading, SampleError> {
        if *node != self.name {
            return Err(SampleError::UnknownNode { node: node.clone(), known: self.nodes() });
        }
        let truth = self.observe().await;
        match &truth.hardware.driver {
            // An empty reading would say that the node has no GPU.
            Driver::Away { why } if truth.reading.gpus.is_empty() => {
                Err(SampleError::Unavailable { node: node.clone(), why: why.to_string() })
            }
            _ => Ok(truth.reading.clone()),
        }
    }

    fn movements(&self, _node: &NodeName) -> Option<watch::Receiver<()>> {
        self.source.movements()
    }
}

/// A machine of its own has no kubelet, and its book is empty.
impl<B: Bookkeeper> Bookkeeper for Option<B> {
    async fn look(&self) -> Result<Book, NoBook> {
        match self {
            Some(kubelet) => kubelet.look().await,
            None => Ok(Book::default()),
        }
    }
}

#[cfg(test)]
mod tests;
