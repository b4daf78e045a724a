//! The kubelet's book: which devices it offers, and which container it gave them to.

use std::collections::HashMap;
use std::sync::Arc;

use super::hardware::{Gpu, Mig};
use crate::engine::{DeviceAssignment, GpuUuid, PodUid};

/// One look into the book. GPUs have the names that their plugin gives them: UUIDs, or numbers that
/// [`Book::resolve`] makes UUIDs of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Book {
    /// One entry per GPU device given to a container, by a device plugin or by a claim (DRA).
    pub assignments: Vec<DeviceAssignment>,
    /// How each GPU or MIG instance is offered. Those that a device plugin holds back are missing.
    pub offers: HashMap<GpuUuid, Offer>,
    /// The node's pods, where the kubelet tells them (PodsAPI): names for UIDs and container ids.
    pub pods: Vec<KnownPod>,
}

impl Book {
    /// Puts UUIDs in the place of numbers. GKE's plugin names device files (`nvidia0`) and MIG
    /// instances in them (`nvidia0/gi1`), NVIDIA's driver for claims device files too (`gpu-0`);
    /// NVML's index stands for theirs, as both number GPUs in the order of the PCI bus. A name that
    /// no GPU of this machine has stays as it is.
    pub fn resolve(&mut self, gpus: &[Gpu]) {
        let resolved = |name: &GpuUuid| numbered(name.as_str(), gpus).unwrap_or(name).clone();
        for entry in &mut self.assignments {
            entry.gpu = resolved(&entry.gpu);
        }
        let offers = self.offers.drain();
        self.offers = offers.map(|(name, offer)| (resolved(&name), offer)).collect();
    }
}

fn numbered<'a>(name: &str, gpus: &'a [Gpu]) -> Option<&'a GpuUuid> {
    let (gpu, instance) = match name.split_once("/gi") {
        Some((gpu, instance)) => (gpu, Some(instance.parse::<u32>().ok()?)),
        None => (name, None),
    };
    let number = gpu.strip_prefix("nvidia").or_else(|| gpu.strip_prefix("gpu-"))?;
    let number: u32 = number.parse().ok()?;
    let is_it = |gpu: &&Gpu| {
        let own = match gpu.mig {
            Mig::Instance { gpu_instance, .. } => Some(gpu_instance),
            Mig::Off | Mig::Parent => None,
        };
        gpu.index == number && own == instance
    };
    gpus.iter().find(is_it).map(|gpu| &gpu.uuid)
}

/// A pod on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPod {
    /// Its UID as its cgroup has it: of a static pod the hash of its manifest.
    pub uid: PodUid,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Id (without the runtime's `containerd://`) and name of each container that was started.
    pub containers: Vec<(Arc<str>, Arc<str>)>,
}

/// How a GPU is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The extended resource.
    pub resource: Arc<str>,
    /// As so many devices.
    pub replicas: u32,
}

/// Why the book cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoBook {
    /// No socket, nobody behind it, or no answer in time.
    #[error("the kubelet does not answer on {socket}: {why}")]
    Unreachable {
        /// The socket's path.
        socket: Arc<str>,
        /// Why, for people.
        why: String,
    },
    /// What it answered cannot be read.
    #[error("the kubelet's answer on {socket} cannot be read: {why}")]
    Garbled {
        /// The socket's path.
        socket: Arc<str>,
        /// Why, for people.
        why: String,
    },
}

/// Whoever keeps a book: the kubelet, or nobody on a machine without one.
pub trait Bookkeeper: Send + Sync + 'static {
    /// Looks into the book, now and no earlier.
    fn look(&self) -> impl Future<Output = Result<Book, NoBook>> + Send;
}

#[cfg(test)]
mod tests {
    use super::super::hardware::{GpuState, Memory, Processes};
    use super::*;

    fn gpu(index: u32, uuid: &str, mig: Mig) -> Gpu {
        Gpu {
            index,
            uuid: uuid.into(),
            model: "A100".into(),
            pci_bus_id: None,
            mig,
            state: GpuState::Ready,
            memory: Memory::default(),
            processes: Processes::Known(Vec::new()),
            utilization_ratio: None,
            memory_utilization_ratio: None,
            temperature_celsius: None,
            power_watts: None,
            throttle_reasons: None,
            ecc_errors: None,
            remapped_rows: None,
            retired_pages: None,
            xids: Vec::new(),
        }
    }

    fn instance(index: u32, uuid: &str, gpu_instance: u32) -> Gpu {
        let (parent, profile) = ("GPU-1".into(), "1g.10gb".into());
        gpu(index, uuid, Mig::Instance { parent, profile, gpu_instance, compute_instance: 0 })
    }

    #[test]
    fn numbers_become_uuids() {
        let gpus = [
            gpu(0, "GPU-0", Mig::Off),
            gpu(1, "GPU-1", Mig::Parent),
            instance(1, "MIG-7", 7),
            instance(1, "MIG-9", 9),
        ];
        for (name, uuid) in [
            ("nvidia0", "GPU-0"),
            ("gpu-0", "GPU-0"),
            ("nvidia1", "GPU-1"),
            ("nvidia1/gi9", "MIG-9"),
            // No such device, or no number.
            ("nvidia1/gi1", "nvidia1/gi1"),
            ("nvidia0/gi7", "nvidia0/gi7"),
            ("nvidia2", "nvidia2"),
            ("nvidiactl", "nvidiactl"),
            ("gpu-1-mig-1g.10gb-19-0", "gpu-1-mig-1g.10gb-19-0"),
            ("GPU-0", "GPU-0"),
            ("MIG-7", "MIG-7"),
            ("", ""),
        ] {
            let entry = DeviceAssignment {
                namespace: "default".into(),
                pod: "p".into(),
                uid: None,
                container: "c".into(),
                resource: "nvidia.com/gpu".into(),
                gpu: name.into(),
            };
            let offer = Offer { resource: "nvidia.com/gpu".into(), replicas: 2 };
            let mut book = Book {
                assignments: vec![entry],
                offers: HashMap::from([(name.into(), offer.clone())]),
                pods: Vec::new(),
            };
            book.resolve(&gpus);
            assert_eq!(book.assignments[0].gpu.as_str(), uuid, "{name}");
            assert_eq!(book.offers, HashMap::from([(uuid.into(), offer)]), "{name}");
        }
    }
}
