//! Nodes, pods and a ledger in the words of a test.
//!
//! ```text
//! let mut gate = Gate::with(&[node("n0").gpus(2)]);
//! gate.add(&pod("p0").vram(12));
//! ```
//!
//! GPU 1 of node `n0` is `GPU-n0-1`; a GPU has 24 GiB unless said otherwise; amounts are GiB.

// Each test uses some of it.
#![allow(dead_code, unused_imports, clippy::expect_used)]

mod gate;

use std::sync::Arc;
use std::time::Duration;

use filmgate::engine::marks::Marks;
use filmgate::engine::request::Share;
use filmgate::engine::{
    Attribution, Bytes, DeviceAssignment, GpuAsk, GpuReading, GpuUuid, Health, NodeFacts, PodFacts,
    PodMemory, PodRef, PodUid, Reading, Vram,
};

pub(crate) use gate::{Gate, less};

/// A node as its agent reads it now.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) facts: NodeFacts,
    pub(crate) reading: Reading,
}

/// A node without GPUs, in its agent's first run, whose peaks cover the whole window.
pub(crate) fn node(name: &str) -> Node {
    let reading = Reading {
        node: name.into(),
        agent: "run-1".into(),
        sampling: 1,
        peaks_cover: Duration::from_secs(3600),
        attribution: Attribution::Full,
        gpus: Vec::new(),
        devices: Vec::new(),
        is_book_old: false,
    };
    let uid = format!("{name}-uid").into();
    Node {
        facts: NodeFacts { name: name.into(), uid, is_mps: false, is_marked_idle: false },
        reading,
    }
}

/// The GPU's UUID.
pub(crate) fn gpu(node: &str, index: u32) -> GpuUuid {
    format!("GPU-{node}-{index}").into()
}

impl Node {
    pub(crate) fn name(&self) -> &str {
        self.facts.name.as_str()
    }

    /// That many more GPUs of 24 GiB, not shared.
    pub(crate) fn gpus(mut self, count: u32) -> Self {
        for _ in 0..count {
            let index = self.reading.gpus.len() as u32;
            self.reading.gpus.push(GpuReading {
                index,
                uuid: gpu(self.facts.name.as_str(), index),
                model: "NVIDIA L4".into(),
                resource: "nvidia.com/gpu".into(),
                replicas: 1,
                total: Bytes::gib(24),
                used: Bytes::ZERO,
                reserved: Bytes::ZERO,
                utilization_ratio: None,
                temperature_celsius: None,
                health: Health::Healthy,
                pods: Vec::new(),
            });
        }
        self
    }

    /// Every GPU is shared by so many replicas.
    pub(crate) fn replicas(self, replicas: u32) -> Self {
        self.each(|gpu| gpu.replicas = replicas)
    }

    pub(crate) fn total(self, gib: u64) -> Self {
        self.each(|gpu| gpu.total = Bytes::gib(gib))
    }

    pub(crate) fn each(mut self, change: impl Fn(&mut GpuReading)) -> Self {
        self.reading.gpus.iter_mut().for_each(change);
        self
    }

    pub(crate) fn gpu(mut self, index: usize, change: impl Fn(&mut GpuReading)) -> Self {
        change(&mut self.reading.gpus[index]);
        self
    }

    /// Memory in use that belongs to no pod.
    pub(crate) fn foreign(self, index: usize, gib: u64) -> Self {
        self.gpu(index, |gpu| gpu.used += Bytes::gib(gib))
    }

    /// The pod's processes hold so much now, and never held more.
    pub(crate) fn uses(self, pod: &str, index: usize, gib: u64) -> Self {
        self.used_to_use(pod, index, gib, gib)
    }

    /// The pod's processes hold `gib` now and held `peak` within the window.
    pub(crate) fn used_to_use(self, pod: &str, index: usize, gib: u64, peak: u64) -> Self {
        let uid = PodUid::from(pod);
        self.gpu(index, |gpu| {
            gpu.used += Bytes::gib(gib);
            let (used, peak) = (Bytes::gib(gib), Bytes::gib(peak));
            gpu.pods.push(PodMemory { uid: uid.clone(), used, peak });
        })
    }

    /// The kubelet's book gives a replica of the GPU to the pod.
    pub(crate) fn lists(mut self, pod: &str, index: u32) -> Self {
        self.reading.devices.push(DeviceAssignment {
            namespace: "default".into(),
            pod: pod.into(),
            uid: Some(pod.into()),
            container: "main".into(),
            resource: "nvidia.com/gpu".into(),
            gpu: gpu(self.facts.name.as_str(), index),
        });
        self
    }

    /// As [`Node::lists`], by a kubelet that does not tell UIDs.
    pub(crate) fn lists_name(mut self, pod: &str, index: u32) -> Self {
        self = self.lists(pod, index);
        if let Some(device) = self.reading.devices.last_mut() {
            device.uid = None;
        }
        self
    }

    /// The kubelet said so earlier, and does not answer now.
    pub(crate) fn by_an_old_book(mut self) -> Self {
        self.reading.is_book_old = true;
        self
    }

    /// Memory cannot be told apart by pod.
    pub(crate) fn degraded(mut self) -> Self {
        self.reading.attribution = Attribution::Degraded { why: "no /proc".into() };
        self
    }

    pub(crate) fn mps(mut self) -> Self {
        self.facts.is_mps = true;
        self
    }

    /// The agent's peaks reach back only so far.
    pub(crate) fn peaks_cover(mut self, seconds: u64) -> Self {
        self.reading.peaks_cover = Duration::from_secs(seconds);
        self
    }

    pub(crate) fn run(mut self, run: &str) -> Self {
        self.reading.agent = run.into();
        self
    }

    pub(crate) fn sampling(mut self, sampling: u64) -> Self {
        self.reading.sampling = sampling;
        self
    }

    /// Another node under the same name.
    pub(crate) fn uid(mut self, uid: &str) -> Self {
        self.facts.uid = uid.into();
        self
    }
}

/// A pod that asks for GPUs.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) facts: PodFacts,
}

/// A steered pod of one GPU that declares no VRAM.
pub(crate) fn pod(name: &str) -> Pod {
    let id = PodRef { namespace: "default".into(), name: name.into(), uid: name.into() };
    Pod {
        facts: PodFacts {
            id,
            workload: name.into(),
            scheduler: "filmgate".into(),
            is_gated: false,
            node: None,
            ask: Ok(GpuAsk::steered(1, Vram::Exclusive)),
            decision: None,
            marks: Marks::default(),
            has_ended: false,
            priority: 0,
            created_at: 0,
            started_at: None,
            is_deleting: false,
            nominated: None,
            labels: None,
            address: None,
            resource_version: "1".into(),
        },
    }
}

impl Pod {
    pub(crate) fn uid(&self) -> &PodUid {
        &self.facts.id.uid
    }

    pub(crate) fn ask(&self) -> &GpuAsk {
        self.facts.ask.as_ref().expect("the builder makes good requests")
    }

    pub(crate) fn asks(mut self, ask: GpuAsk) -> Self {
        self.facts.ask = Ok(ask);
        self
    }

    fn each_share(mut self, change: impl Fn(&mut Share)) -> Self {
        if let Ok(ask) = &mut self.facts.ask {
            ask.shares.iter_mut().chain(&mut ask.early).for_each(change);
        }
        self
    }

    pub(crate) fn vram(self, gib: u64) -> Self {
        self.each_share(|share| share.vram = Vram::Declared(Bytes::gib(gib)))
    }

    pub(crate) fn gpus(self, count: u32) -> Self {
        self.each_share(|share| share.gpus = count)
    }

    pub(crate) fn unsteered(self) -> Self {
        self.each_share(|share| share.steered_by = None)
    }

    /// A second container beside the first; each reads an annotation of its own where steered.
    pub(crate) fn beside(mut self, container: &str, gib: u64) -> Self {
        if let Ok(ask) = &mut self.facts.ask {
            let mut share = ask.shares[0].clone();
            share.container = container.into();
            share.vram = Vram::Declared(Bytes::gib(gib));
            ask.shares.push(share);
            own_annotations(ask);
        }
        self
    }

    /// An init container before the others.
    pub(crate) fn init(mut self, container: &str, gib: u64) -> Self {
        if let Ok(ask) = &mut self.facts.ask {
            let mut share = ask.shares[0].clone();
            share.container = container.into();
            share.vram = Vram::Declared(Bytes::gib(gib));
            ask.early.push(share);
            own_annotations(ask);
        }
        self
    }

    /// Its annotations cannot be read.
    pub(crate) fn unreadable(mut self) -> Self {
        let error = filmgate::engine::request::parse_vram("filmgate.dev/vram", "12GiB");
        self.facts.ask = Err(error.expect_err("no quantity"));
        self
    }

    pub(crate) fn of(mut self, namespace: &str, workload: &str) -> Self {
        self.facts.id.namespace = namespace.into();
        self.facts.workload = workload.into();
        self
    }

    pub(crate) fn priority(mut self, priority: i32) -> Self {
        self.facts.priority = priority;
        self
    }

    pub(crate) fn created_at(mut self, seconds: i64) -> Self {
        self.facts.created_at = seconds;
        self
    }

    pub(crate) fn started_at(mut self, seconds: i64) -> Self {
        self.facts.started_at = Some(seconds);
        self
    }

    /// It has a deletion timestamp.
    pub(crate) fn deleting(mut self) -> Self {
        self.facts.is_deleting = true;
        self
    }

    /// `status.nominatedNodeName`.
    pub(crate) fn nominated(mut self, node: &str) -> Self {
        self.facts.nominated = Some(node.into());
        self
    }

    /// It only holds a node's devices: low, of another scheduler, and it asks for this many.
    pub(crate) fn balloon(mut self, devices: u32) -> Self {
        let labels = [("filmgate.dev/balloon".to_owned(), "true".to_owned())];
        self.facts.labels = Some(Arc::new(labels.into()));
        self.facts.scheduler = "default-scheduler".into();
        self.facts.priority = -10;
        self.unsteered().gpus(devices).each_share(|share| {
            share.vram = Vram::Declared(Bytes::mib(64));
        })
    }

    /// Bound to that node, by whom the pod does not say.
    pub(crate) fn on(mut self, node: &str) -> Self {
        self.facts.node = Some(node.into());
        self
    }

    /// An admission wrote on it that it is charged so much there.
    pub(crate) fn decided(mut self, node: &str, index: u32, gib: u64) -> Self {
        let decision = self.facts.decision.get_or_insert_default();
        decision.charged.push((gpu(node, index), Bytes::gib(gib)));
        self
    }

    /// Its processes have ended.
    pub(crate) fn ended(mut self) -> Self {
        self.facts.has_ended = true;
        self
    }
}

fn own_annotations(ask: &mut GpuAsk) {
    for share in
        ask.shares.iter_mut().chain(&mut ask.early).filter(|share| share.steered_by.is_some())
    {
        share.steered_by = Some(Arc::from(format!("filmgate.dev/gpu.{}", share.container)));
    }
}
