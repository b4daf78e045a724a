//! The nodes of a burst.

use std::fmt;

use filmgate::demo::random::Random;
use filmgate::engine::Bytes;

use super::Draw;

/// What filmgate promises to nobody, as configured.
const HEADROOM: Bytes = Bytes::mib(512);
/// A pod that declares nothing takes a GPU with no more foreign memory, as configured.
const EXCLUSIVE_FOREIGN: Bytes = Bytes::gib(1);
const NODES: usize = 4;
const MOST_GPUS: usize = 3;
const SIZES_GIB: [u64; 6] = [16, 24, 24, 24, 48, 80];
/// More than pods ever ask for: counts never refuse.
const MANY_REPLICAS: u32 = 32;
/// So few that counts do, and kube-scheduler preempts.
const FEW_REPLICAS: u32 = 3;

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodePlan {
    /// Its name.
    pub name: String,
    /// Its GPUs.
    pub gpus: Vec<GpuPlan>,
    /// Replicas of each.
    pub replicas: u32,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuPlan {
    /// All of its memory.
    pub gib: u64,
    /// What the driver reserves of it.
    pub reserved: Bytes,
    /// What is in use by no pod.
    pub foreign: Bytes,
}

impl GpuPlan {
    /// What pods can have.
    pub fn room(&self) -> Bytes {
        Bytes::gib(self.gib) - self.reserved - HEADROOM - self.foreign
    }

    /// Whether it may be a pod's alone.
    pub fn is_clean(&self) -> bool {
        self.foreign <= EXCLUSIVE_FOREIGN
    }
}

impl NodePlan {
    /// Whether the device plugin has no choice here.
    pub fn has_one_gpu(&self) -> bool {
        self.gpus.len() == 1
    }

    /// What pods can have of each GPU, most first.
    pub fn rooms(&self) -> Vec<Bytes> {
        let mut rooms: Vec<_> = self.gpus.iter().map(GpuPlan::room).collect();
        rooms.sort_by(|one, other| other.cmp(one));
        rooms
    }
}

/// The first has one clean GPU, so that every kind of pod has a place.
pub(super) fn draw(random: &mut Random) -> Vec<NodePlan> {
    let reserved = random.one_of(&[Bytes::ZERO, Bytes::mib(300)]);
    let replicas = if random.chance(0.2) { FEW_REPLICAS } else { MANY_REPLICAS };
    let node = |at: usize| {
        let count = if at == 0 { 1 } else { 1 + random.below(MOST_GPUS) };
        let mut gpus = Vec::new();
        for _ in 0..count {
            let gib = random.one_of(&SIZES_GIB);
            let most =
                random.one_of(&[Bytes::ZERO, Bytes::ZERO, Bytes::gib(1), Bytes::gib(gib / 3)]);
            let foreign = if at == 0 { Bytes::ZERO } else { random.mib(Bytes::ZERO, most) };
            gpus.push(GpuPlan { gib, reserved, foreign });
        }
        NodePlan { name: format!("n{at}"), gpus, replicas }
    };
    (0..NODES).map(node).collect()
}

impl fmt::Display for NodePlan {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} ({} replicas each)", self.name, self.replicas)?;
        self.gpus.iter().try_for_each(|gpu| {
            write!(
                to,
                ", {} GiB with {} foreign and {} reserved",
                gpu.gib, gpu.foreign, gpu.reserved
            )
        })
    }
}
