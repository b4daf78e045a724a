//! The policies that filmgate is compared with: those that look at counts and not at memory.
//!
//! Both fill node after node, which is how a fleet that grows on demand is used; spread over
//! more GPUs than needed, time-slicing would share nothing and save nothing.

use std::collections::VecDeque;

use super::fleet::{Fleet, GPUS_PER_NODE, GpuId};
use super::truth::{Outcome, Truth};
use super::workload::Workload;

/// A policy that counts pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blind {
    /// NVIDIA's device plugin as installed: a GPU is one pod's.
    Exclusive,
    /// Its time-slicing with that many replicas of each GPU. On a node it hands out the GPU with
    /// the fewest replicas in use (`distributed`).
    TimeSlicing(usize),
}

impl Blind {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Exclusive => "exclusive".to_owned(),
            Self::TimeSlicing(replicas) => format!("time-slicing-{replicas}"),
        }
    }

    fn replicas(self) -> usize {
        match self {
            Self::Exclusive => 1,
            Self::TimeSlicing(replicas) => replicas,
        }
    }

    /// The GPU for the next pod: of the first node with a replica left, the GPU with fewest taken.
    fn choose(self, fleet: &Fleet, truth: &Truth<'_>) -> Option<GpuId> {
        let gpus: Vec<_> = fleet.gpus().collect();
        let taken = |gpu: GpuId| truth.pods_on(gpu).count();
        let fewest = |node: &[GpuId]| node.iter().copied().min_by_key(|gpu| taken(*gpu));
        let mut nodes = gpus.chunks(GPUS_PER_NODE).filter_map(fewest);
        nodes.find(|gpu| taken(*gpu) < self.replicas())
    }

    /// The whole day under this policy.
    #[must_use]
    pub fn run(self, fleet: &Fleet, day: &Workload) -> Outcome {
        let mut truth = Truth::new(fleet, day);
        let mut waiting = VecDeque::new();
        let mut arrivals = (0..day.pods.len()).peekable();
        for tick in 0..day.ticks {
            truth.end(tick);
            while let Some(pod) = arrivals.next_if(|pod| day.pods[*pod].arrives <= tick) {
                waiting.push_back(pod);
            }
            while let Some(gpu) = self.choose(fleet, &truth)
                && let Some(pod) = waiting.pop_front()
            {
                truth.start(pod, gpu, None, tick);
            }
            truth.sample(tick);
        }
        truth.outcome(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::generator::{generate, generate_with_cache};

    #[test]
    fn exclusive_needs_a_gpu_for_each_pod_that_is_alive() {
        let day = generate(1, 72);
        let outcome = Blind::Exclusive.run(&Fleet::new(64), &day);
        assert!((55..=59).contains(&outcome.gpus), "{outcome:?}");
        assert_eq!((outcome.pods_placed, outcome.oom_pods), (72, 0));
    }

    #[test]
    fn time_slicing_needs_a_third_and_kills() {
        let day = generate_with_cache(1, 72);
        let outcome = Blind::TimeSlicing(3).run(&Fleet::new(64), &day);
        assert_eq!(outcome.gpus, 20, "{outcome:?}");
        assert!(outcome.overcommitted_gpu_minutes > 100.0 && outcome.oom_pods > 5, "{outcome:?}");
    }

    #[test]
    fn pods_wait_for_a_gpu_that_becomes_free() {
        let mut day = generate(1, 12);
        day.pods.iter_mut().for_each(|pod| pod.arrives = 0);
        let outcome = Blind::Exclusive.run(&Fleet::new(10), &day);
        assert_eq!((outcome.gpus, outcome.pods_placed), (10, 12), "{outcome:?}");
    }
}
