//! What really happens on the simulated GPUs: who holds what at each tick, and what that does.
//!
//! Every policy's result is counted here, from what pods hold, and never from anyone's books.
//!
//! Pods that outgrow a GPU go on in this model, so that each policy faces the same demand to the
//! day's end; what would have happened to them is counted ([`Outcome`]).

use std::collections::BTreeSet;

use serde::Serialize;

use super::fleet::{Fleet, GpuId};
use super::workload::{TICK, Workload};
use crate::engine::Bytes;

/// How fast a pod that keeps its models fills its GPU: a checkpoint at a tick.
const CACHE_GROWTH: Bytes = Bytes::gib(3);
/// What it leaves free of the device, as ComfyUI does for the system.
const CACHE_LEAVES: Bytes = Bytes::gib(1);

/// What a policy did over the day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The policy.
    pub name: String,
    /// Most GPUs with a pod on them at one time.
    pub gpus: usize,
    /// Pods that found room before the day's end.
    pub pods_placed: usize,
    /// Minutes in which a GPU's pods and foreign processes wanted more than it has, summed.
    pub overcommitted_gpu_minutes: f64,
    /// Pods that would have been killed: their growth is what made a GPU too small.
    pub oom_pods: usize,
    /// Minutes that pods ran, summed.
    pub pod_minutes: f64,
    /// Minutes in which a pod wanted more than its own cap lets it have, summed: its allocator
    /// refused it, and nobody else noticed.
    pub capped_pod_minutes: f64,
}

/// A pod on a GPU.
#[derive(Debug, Clone)]
struct Running {
    gpu: GpuId,
    since: usize,
    cap: Option<Bytes>,
    held: Bytes,
    before: Bytes,
}

/// The state of the fleet, and the tally so far.
#[derive(Debug)]
pub struct Truth<'a> {
    fleet: &'a Fleet,
    day: &'a Workload,
    /// By position in the workload.
    running: Vec<Option<Running>>,
    placed: usize,
    most_gpus: usize,
    overcommitted_samples: usize,
    pod_samples: usize,
    capped_samples: usize,
    oom: BTreeSet<usize>,
}

impl<'a> Truth<'a> {
    /// An empty fleet at the day's start.
    #[must_use]
    pub fn new(fleet: &'a Fleet, day: &'a Workload) -> Self {
        Self {
            fleet,
            day,
            running: vec![None; day.pods.len()],
            placed: 0,
            most_gpus: 0,
            overcommitted_samples: 0,
            pod_samples: 0,
            capped_samples: 0,
            oom: BTreeSet::new(),
        }
    }

    /// The pod's processes start on that GPU, and with them its life, however late it was bound.
    /// `cap`: its allocator takes no more than this.
    pub fn start(&mut self, pod: usize, gpu: GpuId, cap: Option<Bytes>, tick: usize) {
        let running = Running { gpu, since: tick, cap, held: Bytes::ZERO, before: Bytes::ZERO };
        self.running[pod] = Some(running);
        self.placed += 1;
    }

    /// Ends the pods whose life is over; which those are.
    pub fn end(&mut self, tick: usize) -> Vec<usize> {
        let day = self.day;
        let is_over = |(pod, running): (usize, &Option<Running>)| {
            let life = day.pods[pod].memory.len();
            running.as_ref().is_some_and(|one| tick >= one.since + life).then_some(pod)
        };
        let over: Vec<_> = self.running.iter().enumerate().filter_map(is_over).collect();
        for pod in &over {
            self.running[*pod] = None;
        }
        over
    }

    /// Lets every pod hold what it wants at this tick, and counts.
    pub fn sample(&mut self, tick: usize) {
        for pod in 0..self.running.len() {
            self.follow_curve(pod, tick);
        }
        for pod in 0..self.running.len() {
            if self.day.pods[pod].fills_device {
                self.fill_device(pod);
            }
        }
        let gpus: Vec<_> = self.fleet.gpus().collect();
        let in_use = gpus.iter().filter(|gpu| self.pods_on(**gpu).next().is_some()).count();
        self.most_gpus = self.most_gpus.max(in_use);
        for gpu in gpus {
            self.count(gpu);
        }
    }

    fn follow_curve(&mut self, pod: usize, tick: usize) {
        let Some(running) = &mut self.running[pod] else { return };
        let facts = &self.day.pods[pod];
        let wanted = facts.memory[(tick - running.since).min(facts.memory.len() - 1)];
        let allowed = running.cap.unwrap_or(wanted).min(wanted);
        self.pod_samples += 1;
        self.capped_samples += usize::from(allowed < wanted);
        running.before = running.held;
        running.held = if facts.fills_device { running.held.max(allowed) } else { allowed };
    }

    /// It adds a model to its cache while the device has room, and gives none back.
    fn fill_device(&mut self, pod: usize) {
        let Some(running) = &self.running[pod] else { return };
        let room = self.fleet.usable() - self.used(running.gpu) - CACHE_LEAVES;
        let grown = running.held + room.min(CACHE_GROWTH);
        let held = running.cap.map_or(grown, |cap| grown.min(cap.max(running.held)));
        if let Some(running) = &mut self.running[pod] {
            running.held = held;
        }
    }

    fn count(&mut self, gpu: GpuId) {
        let mut excess = self.used(gpu) - self.fleet.usable();
        if excess == Bytes::ZERO {
            return;
        }
        self.overcommitted_samples += 1;
        let growth = |pod: usize| self.running[pod].as_ref().map(|one| one.held - one.before);
        let mut grown: Vec<_> =
            self.pods_on(gpu).filter_map(|pod| Some((growth(pod)?, pod))).collect();
        // As few pods as explain it: those that grew most.
        grown.sort_by_key(|(growth, pod)| (std::cmp::Reverse(*growth), *pod));
        for (growth, pod) in grown {
            if excess == Bytes::ZERO || growth == Bytes::ZERO {
                break;
            }
            self.oom.insert(pod);
            excess = excess - growth;
        }
    }

    /// Pods on that GPU.
    pub fn pods_on(&self, gpu: GpuId) -> impl Iterator<Item = usize> {
        let pods = self.running.iter().enumerate();
        pods.filter(move |(_, running)| running.as_ref().is_some_and(|one| one.gpu == gpu))
            .map(|(pod, _)| pod)
    }

    /// What the pod holds; nothing where it does not run.
    #[must_use]
    pub fn held(&self, pod: usize) -> Bytes {
        self.running[pod].as_ref().map_or(Bytes::ZERO, |running| running.held)
    }

    /// What pods and foreign processes hold, or want to hold, of that GPU.
    #[must_use]
    pub fn used(&self, gpu: GpuId) -> Bytes {
        self.fleet.foreign(gpu) + self.pods_on(gpu).map(|pod| self.held(pod)).sum()
    }

    /// GPUs with a pod on them now.
    #[must_use]
    pub fn gpus_in_use(&self) -> usize {
        self.fleet.gpus().filter(|gpu| self.pods_on(*gpu).next().is_some()).count()
    }

    /// The tally.
    #[must_use]
    pub fn outcome(&self, name: &str) -> Outcome {
        Outcome {
            name: name.to_owned(),
            gpus: self.most_gpus,
            pods_placed: self.placed,
            overcommitted_gpu_minutes: minutes(self.overcommitted_samples),
            oom_pods: self.oom.len(),
            pod_minutes: minutes(self.pod_samples),
            capped_pod_minutes: minutes(self.capped_samples),
        }
    }
}

/// Minutes of that many samples, to a tenth.
fn minutes(samples: usize) -> f64 {
    const TENTHS: f64 = 10.0;
    (samples as f64 * TICK.as_secs_f64() / 60.0 * TENTHS).round() / TENTHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::workload::WorkloadPod;

    fn day(curves: &[&[u64]]) -> Workload {
        let pod = |curve: &&[u64]| WorkloadPod {
            name: "pod".to_owned(),
            arrives: 0,
            memory: curve.iter().copied().map(Bytes::gib).collect(),
            not_reported: Vec::new(),
            fills_device: false,
        };
        Workload { source: String::new(), ticks: 10, pods: curves.iter().map(pod).collect() }
    }

    const GPU: GpuId = GpuId { node: 0, gpu: 0 };

    fn run(day: &Workload, foreign: Bytes, cap: Option<Bytes>) -> Outcome {
        let fleet = Fleet::new(1).with_foreign(GPU, foreign);
        let mut truth = Truth::new(&fleet, day);
        for pod in 0..day.pods.len() {
            truth.start(pod, GPU, cap, 0);
        }
        for tick in 0..day.ticks {
            truth.end(tick);
            truth.sample(tick);
        }
        truth.outcome("test")
    }

    #[test]
    fn a_gpu_that_is_exactly_full_is_not_overcommitted() {
        let full = run(&day(&[&[39], &[39]]), Bytes::ZERO, None);
        assert_eq!((full.overcommitted_gpu_minutes, full.oom_pods), (0.0, 0));
        let over = run(&day(&[&[39], &[39]]), Bytes::gib(1), None);
        assert_eq!((over.overcommitted_gpu_minutes, over.oom_pods), (1.0, 1));
    }

    #[test]
    fn the_pod_that_grew_is_the_one_that_would_have_been_killed() {
        let outcome = run(&day(&[&[40, 40, 40], &[30, 41, 41]]), Bytes::ZERO, None);
        assert_eq!(outcome.overcommitted_gpu_minutes, 1.9);
        assert_eq!(outcome.oom_pods, 1, "the second sample has no growth, so no second victim");
    }

    #[test]
    fn a_capped_pod_stays_below_its_cap_and_that_is_counted() {
        let outcome = run(&day(&[&[40, 30], &[39, 30]]), Bytes::ZERO, Some(Bytes::gib(38)));
        assert_eq!(outcome.overcommitted_gpu_minutes, 0.0);
        assert_eq!(outcome.capped_pod_minutes, 1.9);
    }

    #[test]
    fn a_pod_that_keeps_its_models_fills_the_device_and_its_neighbour_finds_no_room() {
        let mut curves = day(&[&[20; 10], &[20, 20, 20, 20, 20, 20, 20, 20, 20, 24]]);
        curves.pods[0].fills_device = true;
        curves.pods[0].memory = vec![Bytes::gib(50); 10];
        let alone = run(&curves, Bytes::ZERO, None);
        assert_eq!((alone.overcommitted_gpu_minutes, alone.oom_pods), (1.0, 1));
        let capped = run(&curves, Bytes::ZERO, Some(Bytes::gib(38)));
        assert_eq!(capped.overcommitted_gpu_minutes, 0.0);
    }

    #[test]
    fn a_pod_ends_when_its_life_is_over() {
        let day = day(&[&[20, 20]]);
        let fleet = Fleet::new(1);
        let mut truth = Truth::new(&fleet, &day);
        truth.start(0, GPU, None, 3);
        assert_eq!((truth.end(4), truth.end(5)), (vec![], vec![0]));
        assert_eq!(truth.gpus_in_use(), 0);
    }
}
