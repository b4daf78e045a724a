//! One machine of the simulated truth: its GPUs, its kubelet's book, its processes, its agent.

use std::time::Duration;

use filmgate::engine::{
    Attribution, Bytes, DeviceAssignment, GpuReading, GpuUuid, Health, NodeFacts, PodMemory,
    PodRef, Reading, Time,
};

use crate::cluster::{Config, TOTAL};

/// The agents' peak window, and the ledger's: short, so that a run sees it pass.
pub(crate) const PEAK_WINDOW: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) node: NodeFacts,
    /// Counts machines under this name.
    pub(crate) generation: u32,
    pub(crate) gpus: Vec<GpuUuid>,
    pub(crate) foreign: Vec<u64>,
    pub(crate) book: Vec<(usize, usize)>,
    pub(crate) processes: Vec<Process>,
    pub(crate) is_degraded: bool,
    pub(crate) run: u32,
    pub(crate) sampling: u64,
    pub(crate) started_at: Time,
    pub(crate) history: Vec<(Time, usize, usize, u64)>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pod: usize,
    pub(crate) gpu: usize,
    pub(crate) gib: u64,
    /// The agent cannot tell yet whose it is.
    pub(crate) is_new: bool,
}

impl Machine {
    pub(crate) fn new(node: usize, generation: u32, config: Config, now: Time) -> Self {
        let name = format!("n{node}");
        let uuid = |gpu| format!("GPU-{node}-{generation}-{gpu}").into();
        let uid = format!("{name}-uid").into();
        Self {
            node: NodeFacts { name: name.into(), uid, is_mps: false, is_marked_idle: false },
            generation,
            gpus: (0..config.gpus).map(uuid).collect(),
            foreign: vec![0; config.gpus],
            book: Vec::new(),
            processes: Vec::new(),
            is_degraded: false,
            run: 1,
            sampling: 0,
            started_at: now,
            history: Vec::new(),
        }
    }

    pub(crate) fn used(&self, gpu: usize) -> u64 {
        let held = self.processes.iter().filter(|process| process.gpu == gpu);
        self.foreign[gpu] + held.map(|process| process.gib).sum::<u64>()
    }

    pub(crate) fn held_by(&self, pod: usize, gpu: usize) -> u64 {
        let held = self.processes.iter().filter(|process| process.gpu == gpu && process.pod == pod);
        held.map(|process| process.gib).sum()
    }

    pub(crate) fn remember(&mut self, now: Time) {
        let seen =
            self.processes.iter().map(|process| (now, process.pod, process.gpu, process.gib));
        self.history.extend(seen);
        self.history.retain(|(at, ..)| now.since(*at) <= PEAK_WINDOW);
    }

    pub(crate) fn read(&mut self, pods: &[PodRef], config: Config, now: Time) -> Reading {
        self.sampling += 1;
        let why = "no /proc".into();
        Reading {
            node: self.node.name.clone(),
            agent: format!("{}-run-{}", self.node.name, self.run).into(),
            sampling: self.sampling,
            peaks_cover: now.since(self.started_at).min(PEAK_WINDOW),
            attribution: if self.is_degraded {
                Attribution::Degraded { why }
            } else {
                Attribution::Full
            },
            gpus: (0..self.gpus.len()).map(|gpu| self.read_gpu(gpu, pods, config)).collect(),
            devices: self
                .book
                .iter()
                .map(|(pod, gpu)| self.entry(&pods[*pod], *gpu, config))
                .collect(),
            is_book_old: false,
        }
    }

    pub(crate) fn read_gpu(&self, gpu: usize, pods: &[PodRef], config: Config) -> GpuReading {
        let peak = |pod: usize| {
            let own = self.history.iter().filter(|(_, of, at, _)| (*of, *at) == (pod, gpu));
            own.map(|(.., gib)| *gib).max().unwrap_or(0)
        };
        let is_hidden = |pod| {
            self.is_degraded
                || self.processes.iter().any(|process| process.pod == pod && process.is_new)
        };
        let memory = |(pod, id): (usize, &PodRef)| {
            let (used, peak) = (self.held_by(pod, gpu), peak(pod));
            let is_seen = peak > 0 && !is_hidden(pod);
            let (used, peak) = (Bytes::gib(used), Bytes::gib(peak));
            is_seen.then(|| PodMemory { uid: id.uid.clone(), used, peak })
        };
        GpuReading {
            index: gpu as u32,
            uuid: self.gpus[gpu].clone(),
            model: "NVIDIA L4".into(),
            resource: "nvidia.com/gpu".into(),
            replicas: config.replicas,
            total: Bytes::gib(TOTAL),
            used: Bytes::gib(self.used(gpu)),
            reserved: Bytes::ZERO,
            utilization_ratio: None,
            temperature_celsius: None,
            health: Health::Healthy,
            pods: pods.iter().enumerate().filter_map(memory).collect(),
        }
    }

    pub(crate) fn entry(&self, pod: &PodRef, gpu: usize, config: Config) -> DeviceAssignment {
        DeviceAssignment {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            uid: config.book_tells_uid.then(|| pod.uid.clone()),
            container: "main".into(),
            resource: "nvidia.com/gpu".into(),
            gpu: self.gpus[gpu].clone(),
        }
    }
}
