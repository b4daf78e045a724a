//! A day of pods and the VRAM that each of them wants, tick by tick.

use std::ops::Range;
use std::time::Duration;

use crate::engine::Bytes;

/// The grid of the published trace: 57 s, which is one-minute samples with time scaled by 0.95.
pub const TICK: Duration = Duration::from_secs(57);
/// Ticks of the published trace: 22.8 hours.
pub const DAY_TICKS: usize = 1441;
/// Pods of the published trace (the half that the generator is fitted to).
pub const DAY_PODS: usize = 72;

/// Pods that come and go over a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Where it comes from, for people.
    pub source: String,
    /// Ticks from the first sample to the last, both included.
    pub ticks: usize,
    /// Its pods, by arrival.
    pub pods: Vec<WorkloadPod>,
}

/// One pod: when it arrives, and what its processes hold at each tick of its life.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadPod {
    /// Its name.
    pub name: String,
    /// The tick at which it arrives.
    pub arrives: usize,
    /// What it wants to hold, one value per tick from its start. Never empty.
    pub memory: Vec<Bytes>,
    /// Ticks of its life for which nothing was reported; `memory` repeats the value before them.
    pub not_reported: Vec<usize>,
    /// It keeps every model that it has loaded for as long as its GPU has room, whatever it needs.
    pub fills_device: bool,
}

impl WorkloadPod {
    /// Whether the pod is there at that tick, had it started as soon as it arrived.
    #[must_use]
    pub fn is_alive(&self, tick: usize) -> bool {
        self.life().contains(&tick)
    }

    /// The most it ever wants.
    #[must_use]
    pub fn peak(&self) -> Bytes {
        self.memory.iter().copied().max().unwrap_or(Bytes::ZERO)
    }

    fn life(&self) -> Range<usize> {
        self.arrives..self.arrives + self.memory.len()
    }
}

impl Workload {
    /// A shorter day with fewer pods: the first `ticks`, and of the pods that arrive in them
    /// the first `pods`.
    #[must_use]
    pub fn shortened(mut self, pods: Option<usize>, ticks: Option<usize>) -> Self {
        self.ticks = ticks.map_or(self.ticks, |limit| self.ticks.min(limit.max(1)));
        let end = self.ticks;
        self.pods.retain(|pod| pod.arrives < end);
        self.pods.truncate(pods.unwrap_or(usize::MAX));
        for pod in &mut self.pods {
            pod.memory.truncate(end - pod.arrives);
            let life = pod.memory.len();
            pod.not_reported.retain(|tick| *tick < life);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(arrives: usize, ticks: usize) -> WorkloadPod {
        WorkloadPod {
            name: format!("pod-{arrives}"),
            arrives,
            memory: vec![Bytes::gib(22); ticks],
            not_reported: vec![ticks - 1],
            fills_device: false,
        }
    }

    #[test]
    fn a_shortened_day_keeps_what_happened_in_it() {
        let day = Workload {
            source: "test".to_owned(),
            ticks: 100,
            pods: vec![pod(0, 100), pod(5, 10), pod(60, 40)],
        };
        let short = day.clone().shortened(None, Some(50));
        assert_eq!((short.ticks, short.pods.len()), (50, 2));
        assert_eq!(short.pods[0].memory.len(), 50);
        assert_eq!((short.pods[0].not_reported.len(), short.pods[1].not_reported.len()), (0, 1));
        assert_eq!(day.shortened(Some(1), None).pods.len(), 1);
    }
}
