//! The simulated machines: equal nodes of four 80 GiB GPUs.

use crate::agent::gpu_uuid;
use crate::engine::{Bytes, GpuUuid, NodeName};

/// GPUs in a node.
pub const GPUS_PER_NODE: usize = 4;

/// One GPU of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuId {
    /// Its node, from 0.
    pub node: usize,
    /// Its index on the node.
    pub gpu: usize,
}

/// The machines of the demo.
#[derive(Debug, Clone)]
pub struct Fleet {
    gpus: usize,
    foreign: Vec<(GpuId, Bytes)>,
}

impl Fleet {
    /// So many GPUs, four in a node.
    #[must_use]
    pub fn new(gpus: usize) -> Self {
        Self { gpus, foreign: Vec::new() }
    }

    /// Someone who is no pod holds that much of the GPU all day.
    #[must_use]
    pub fn with_foreign(mut self, gpu: GpuId, bytes: Bytes) -> Self {
        self.foreign.push((gpu, bytes));
        self
    }

    /// All memory of a GPU.
    #[must_use]
    pub fn total(&self) -> Bytes {
        Bytes::gib(80)
    }

    /// What the driver keeps of it.
    #[must_use]
    pub fn reserved(&self) -> Bytes {
        Bytes::gib(2)
    }

    /// What processes can have of it.
    #[must_use]
    pub fn usable(&self) -> Bytes {
        self.total() - self.reserved()
    }

    /// What processes of no pod hold of the GPU.
    #[must_use]
    pub fn foreign(&self, gpu: GpuId) -> Bytes {
        self.foreign.iter().filter(|(on, _)| *on == gpu).map(|(_, bytes)| *bytes).sum()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.gpus.div_ceil(GPUS_PER_NODE)
    }

    /// How many GPUs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.gpus
    }

    /// Whether there is no GPU at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gpus == 0
    }

    /// Every GPU, node by node.
    pub fn gpus(&self) -> impl Iterator<Item = GpuId> {
        (0..self.gpus).map(|at| GpuId { node: at / GPUS_PER_NODE, gpu: at % GPUS_PER_NODE })
    }
}

/// The name of a node.
#[must_use]
pub fn node_name(node: usize) -> NodeName {
    NodeName::from(format!("gpu-{node:02}"))
}

impl GpuId {
    /// What NVML calls it.
    #[must_use]
    pub fn uuid(self) -> GpuUuid {
        gpu_uuid(node_name(self.node).as_str(), self.gpu as u32)
    }
}
