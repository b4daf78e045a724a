//! Drives the day under filmgate: kube-scheduler's cycles, the kubelet, the processes.
//!
//! At each tick pods end and arrive; those that arrived or were woken go through filter,
//! prioritize and bind; then every process holds what its curve says, and the agents see it.
//! Before a cycle the agents are asked for a sampling, so that the day does not depend on how
//! fast this machine's streams are: the same seed gives the same figures.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::cluster::{CONTAINER, NewPod, steering};
use super::fleet::{Fleet, GpuId, node_name};
use super::progress::{Frame, GpuFrame, Progress};
use super::scheduler::Scheduler;
use super::stack::Stack;
use super::truth::{Outcome, Truth};
use super::workload::{TICK, Workload};
use super::{DemoError, Options};
use crate::engine::{Bytes, GpuUuid, PodRef, PodUid};

/// A CUDA context is outside PyTorch's allocator, and so outside the cap.
const CUDA_CONTEXT: Bytes = Bytes::mib(512);

/// What came of the day.
#[derive(Debug, Clone, PartialEq)]
pub struct Driven {
    /// Counted from the truth.
    pub outcome: Outcome,
    /// Bindings that were refused after filter had passed the node.
    pub conflicts: u64,
}

/// The day under filmgate. See the module's head.
pub struct Driver<'a> {
    stack: &'a Stack,
    fleet: &'a Fleet,
    day: &'a Workload,
    options: &'a Options,
    scheduler: Scheduler,
    nodes: Vec<String>,
    gpus: HashMap<GpuUuid, GpuId>,
    truth: Truth<'a>,
    /// By position in the workload, once created.
    pods: Vec<Option<PodRef>>,
    numbers: HashMap<PodUid, usize>,
    placed: HashMap<usize, GpuId>,
    waiting: BTreeSet<usize>,
    /// Refused at bind: tried again, as after kube-scheduler's backoff.
    again: Vec<usize>,
    next_arrival: usize,
    conflicts: u64,
}

impl<'a> Driver<'a> {
    /// A driver at the start of the day.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(options: &'a Options, stack: &'a Stack) -> Result<Self, DemoError> {
        let (fleet, day) = (&options.fleet, &options.day);
        Ok(Self {
            stack,
            fleet,
            day,
            options,
            scheduler: Scheduler::new(stack.addresses().extender.clone())?,
            nodes: (0..fleet.nodes()).map(|node| node_name(node).to_string()).collect(),
            gpus: fleet.gpus().map(|gpu| (gpu.uuid(), gpu)).collect(),
            truth: Truth::new(fleet, day),
            pods: vec![None; day.pods.len()],
            numbers: HashMap::new(),
            placed: HashMap::new(),
            waiting: BTreeSet::new(),
            again: Vec::new(),
            next_arrival: 0,
            conflicts: 0,
        })
    }

    /// Plays the day.
    ///
    /// # Errors
    /// When the extender or an agent does not answer as it should.
    pub async fn run(mut self, progress: &mut dyn Progress) -> Result<Driven, DemoError> {
        for tick in 0..self.day.ticks {
            let begun = Instant::now();
            let has_ended = self.end_pods(tick)?;
            let mut queue = self.woken(has_ended).await?;
            queue.append(&mut self.again);
            queue.extend(self.create_arrivals(tick)?);
            self.schedule(queue, tick).await?;
            self.truth.sample(tick);
            self.move_processes()?;
            progress.tick(&self.frame(tick));
            self.stack.clock().advance(TICK);
            tokio::time::sleep_until(begun + self.options.tick_takes).await;
        }
        let outcome = self.truth.outcome("filmgate");
        Ok(Driven { outcome, conflicts: self.conflicts })
    }

    /// Pods whose life is over exit, are taken off the kubelet's book, and are deleted. Whether
    /// there were any.
    fn end_pods(&mut self, tick: usize) -> Result<bool, DemoError> {
        let ended = self.truth.end(tick);
        for number in &ended {
            let (Some(pod), Some(gpu)) = (&self.pods[*number], self.placed.remove(number)) else {
                continue;
            };
            let node = node_name(gpu.node);
            self.stack.machines().stop_pod(node.as_str(), &pod.uid)?;
            self.stack.machines().unassign_devices(node.as_str(), pod)?;
            self.stack.delete_pod(&pod.uid);
        }
        Ok(!ended.is_empty())
    }

    fn create_arrivals(&mut self, tick: usize) -> Result<Vec<usize>, DemoError> {
        let mut arrived = Vec::new();
        while let Some(pod) = self.day.pods.get(self.next_arrival)
            && pod.arrives <= tick
        {
            let number = self.next_arrival;
            let declared = self.options.declared;
            let new = NewPod { number, name: &pod.name, declared, tick };
            let created = self.stack.create_pod(new)?;
            self.numbers.insert(created.uid.clone(), number);
            self.pods[number] = Some(created);
            arrived.push(number);
            self.next_arrival += 1;
        }
        Ok(arrived)
    }

    /// Waiting pods that filmgate has woken. In virtual time its own asking for a sampling of what
    /// has ended would come many ticks late, so that is done here.
    async fn woken(&mut self, has_ended: bool) -> Result<Vec<usize>, DemoError> {
        if has_ended || !self.waiting.is_empty() {
            self.stack.sample_all().await?;
        }
        self.stack.round();
        let woken = self.stack.cluster().take_wakes();
        let numbers = woken.iter().filter_map(|uid| self.numbers.get(uid).copied());
        Ok(numbers.filter(|number| self.waiting.remove(number)).collect())
    }

    /// One scheduling cycle per pod, the next pod's filter before this pod's bind.
    async fn schedule(&mut self, queue: Vec<usize>, tick: usize) -> Result<(), DemoError> {
        if !queue.is_empty() {
            self.stack.sample_all().await?;
        }
        let mut to_bind: Option<(usize, String)> = None;
        for number in queue {
            let Some(pod) = self.pods[number].as_ref() else { continue };
            let Some(object) = self.stack.cluster().pod(&pod.uid) else { continue };
            let feasible = self.scheduler.filter(&object, &self.nodes).await?;
            let chosen = self.scheduler.best(&object, &feasible.nodes).await?;
            if let Some((number, node)) = to_bind.take() {
                self.bind(number, &node, tick).await?;
            }
            match chosen {
                Some(node) => to_bind = Some((number, node)),
                None => drop(self.waiting.insert(number)),
            }
        }
        match to_bind {
            Some((number, node)) => self.bind(number, &node, tick).await,
            None => Ok(()),
        }
    }

    async fn bind(&mut self, number: usize, node: &str, tick: usize) -> Result<(), DemoError> {
        let Some(pod) = self.pods[number].clone() else { return Ok(()) };
        match self.scheduler.bind(&pod, node).await? {
            Ok(()) => self.start_container(number, &pod, node, tick),
            Err(_) => {
                self.conflicts += 1;
                self.again.push(number);
                Ok(())
            }
        }
    }

    /// The kubelet's part: the container finds its GPU and its cap in its environment.
    fn start_container(
        &mut self,
        number: usize,
        pod: &PodRef,
        node: &str,
        tick: usize,
    ) -> Result<(), DemoError> {
        self.stack.show_changes();
        let bound = self.stack.cluster().pod(&pod.uid);
        let (visible, fraction) = bound
            .as_ref()
            .and_then(steering)
            .ok_or_else(|| DemoError::Pod(format!("{pod} was bound without a GPU")))?;
        let uuid = GpuUuid::from(visible);
        let gpu = self.gpus.get(&uuid).copied().filter(|gpu| node_name(gpu.node).as_str() == node);
        let gpu = gpu.ok_or_else(|| DemoError::Pod(format!("{pod}: {uuid} is not on {node}")))?;
        let cap = fraction.filter(|_| self.options.is_capped).map(|part| self.cap(part));
        self.stack.machines().assign_device(node, &uuid, pod, CONTAINER)?;
        self.stack.machines().start_pod(node, &uuid, pod, Bytes::ZERO)?;
        self.truth.start(number, gpu, cap, tick);
        self.placed.insert(number, gpu);
        Ok(())
    }

    /// What a process can hold whose allocator takes that part of the GPU.
    fn cap(&self, fraction: f64) -> Bytes {
        Bytes::new((self.fleet.total().get() as f64 * fraction) as u64) + CUDA_CONTEXT
    }

    /// The machines show what each pod holds now.
    fn move_processes(&self) -> Result<(), DemoError> {
        for (number, gpu) in &self.placed {
            let Some(pod) = &self.pods[*number] else { continue };
            let node = node_name(gpu.node);
            let held = self.truth.held(*number);
            self.stack.machines().set_pod_memory(node.as_str(), &gpu.uuid(), &pod.uid, held)?;
        }
        Ok(())
    }

    fn frame(&self, tick: usize) -> Frame {
        let promised = self.stack.promised();
        let gpu_frame = |gpu: GpuId| {
            let foreign = self.fleet.foreign(gpu);
            let pods = self.truth.used(gpu) - foreign;
            let held = promised.get(&gpu.uuid()).copied().unwrap_or(Bytes::ZERO) - pods;
            GpuFrame { gpu, total: self.fleet.total(), pods, foreign, held }
        };
        Frame {
            tick,
            ticks: self.day.ticks,
            running: self.placed.len(),
            waiting: self.waiting.len(),
            gpus_in_use: self.truth.gpus_in_use(),
            gpus: self.fleet.gpus().map(gpu_frame).collect(),
        }
    }
}
