//! Figures of the pods that somebody picks.

use std::collections::{HashMap, HashSet};

use super::demand::Pending;
use super::survey::{Survey, Surveyed};
use crate::engine::{Attribution, Bytes, GpuReading, PodFacts, PodUid};

/// Figures of some pods.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picked {
    /// Those that are to run and are not bound.
    pub pending: Pending,
    /// What the processes of each hold over all GPUs; of those that run and of which a process is
    /// seen, in no order.
    pub held: Vec<Bytes>,
    /// How much each GPU computes, 0 to 1, that one of them has a process on; where processes
    /// cannot be told apart by pod, each that the kubelet's book gives to one of them.
    pub utilization_ratios: Vec<f64>,
    /// How many prompts each has, of those that run and whose ComfyUI has told it of late; in no
    /// order.
    pub queue_depths: Vec<u64>,
}

impl Survey {
    /// Figures of the pods with a GPU that are picked. Nodes whose figures may not be used say
    /// nothing.
    #[must_use]
    pub fn picked(&self, is_picked: impl Fn(&PodFacts) -> bool) -> Picked {
        let mut picked = Picked::default();
        for facts in self.pending().filter(|facts| is_picked(facts)) {
            picked.pending.add(facts);
        }
        let running = self.living().filter(|facts| facts.node.is_some() && is_picked(facts));
        let running = Running::of(running);
        let queues = self.queues.iter().filter(|(pod, _)| running.uids.contains(pod));
        picked.queue_depths = queues.map(|(_, queue)| queue.depth()).collect();
        let mut held: HashMap<&PodUid, Bytes> = HashMap::new();
        for node in self.nodes.iter().filter(|node| node.is_usable) {
            for gpu in &node.reading.gpus {
                let mine = gpu.pods.iter().filter(|memory| running.uids.contains(&memory.uid));
                for memory in mine {
                    *held.entry(&memory.uid).or_default() += memory.used;
                }
                let ratio = gpu.utilization_ratio.filter(|_| running.have_part_of(gpu, node));
                picked.utilization_ratios.extend(ratio);
            }
        }
        picked.held = held.into_values().filter(|bytes| *bytes > Bytes::ZERO).collect();
        picked
    }
}

/// Pods that run, by all that readings know them by.
struct Running<'a> {
    uids: HashSet<&'a PodUid>,
    names: HashSet<(&'a str, &'a str)>,
}

impl<'a> Running<'a> {
    fn of(pods: impl Iterator<Item = &'a PodFacts>) -> Self {
        let mut running = Self { uids: HashSet::new(), names: HashSet::new() };
        for facts in pods {
            running.uids.insert(&facts.id.uid);
            running.names.insert((&facts.id.namespace, &facts.id.name));
        }
        running
    }

    fn have_part_of(&self, gpu: &GpuReading, node: &Surveyed) -> bool {
        if node.reading.attribution == Attribution::Full {
            return gpu.pods.iter().any(|memory| self.uids.contains(&memory.uid));
        }
        let given = node.reading.devices.iter().filter(|device| device.gpu == gpu.uuid);
        let mut given = given.map(|device| match &device.uid {
            Some(uid) => self.uids.contains(uid),
            None => self.names.contains(&(&*device.namespace, &*device.pod)),
        });
        given.any(|is_mine| is_mine)
    }
}
