//! What an agent says about its node.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AgentRun, Bytes, GpuUuid, NodeName, PodUid};

/// One node's GPUs from one sampling. Processes are sampled before `used`, so that memory
/// attributed late shows up as foreign (a refusal too many), never as free.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// The node.
    pub node: NodeName,
    /// The agent process that sampled.
    pub agent: AgentRun,
    /// Number of the sampling within that process, from 1.
    pub sampling: u64,
    /// How far back the peaks reach: the peak window, or less since the agent's start.
    #[serde(rename = "peaksCoverSeconds", with = "seconds")]
    pub peaks_cover: Duration,
    /// Whether memory is attributed to pods.
    pub attribution: Attribution,
    /// Every GPU (or MIG instance) of the node.
    pub gpus: Vec<GpuReading>,
    /// The kubelet's book (PodResources): one entry per device given to a container.
    pub devices: Vec<DeviceAssignment>,
    /// The kubelet did not answer at this sampling: its book is what it said at an earlier one, and
    /// a name in it may mean a pod that is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_book_old: bool,
}

/// Whether a node's GPU memory can be told apart by pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "mode")]
pub enum Attribution {
    /// Each process' memory is known and mapped to its pod.
    Full,
    /// Only the GPU's total use is known.
    Degraded {
        /// Why, for people.
        why: Arc<str>,
    },
}

/// One GPU (or MIG instance) at one sampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuReading {
    /// NVML's index on the node.
    pub index: u32,
    /// NVML's UUID.
    pub uuid: GpuUuid,
    /// The product's name, as NVML says it.
    pub model: Arc<str>,
    /// The extended resource under which the device plugin offers it.
    pub resource: Arc<str>,
    /// How many replicas of it the device plugin offers (1: not shared).
    pub replicas: u32,
    /// All of its memory.
    pub total: Bytes,
    /// In use by anyone, without what the driver reserves.
    pub used: Bytes,
    /// Reserved by the driver and firmware.
    pub reserved: Bytes,
    /// Part of the sample window in which a kernel ran, 0 to 1.
    pub utilization_ratio: Option<f64>,
    /// Core temperature.
    pub temperature_celsius: Option<f64>,
    /// Whether it can take work.
    pub health: Health,
    /// Memory per pod.
    pub pods: Vec<PodMemory>,
}

/// Whether a GPU can take work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Health {
    /// It can.
    Healthy,
    /// It cannot.
    Unhealthy {
        /// Why, for people (an XID, "fell off the bus").
        why: Arc<str>,
    },
}

/// What the processes of one pod hold on one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMemory {
    /// The pod.
    pub uid: PodUid,
    /// Held at the sampling.
    pub used: Bytes,
    /// Most held at any sampling in the peak window.
    pub peak: Bytes,
}

/// One device that the kubelet's book gives to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceAssignment {
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The pod's UID, where the kubelet tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<PodUid>,
    /// The container.
    pub container: Arc<str>,
    /// The extended resource.
    pub resource: Arc<str>,
    /// The GPU behind the device id (a replica's suffix removed).
    pub gpu: GpuUuid,
}

/// Why a reading cannot be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpossibleReading {
    /// A GPU without memory.
    #[error("GPU {0} has no memory")]
    NoMemory(GpuUuid),
    /// More in use, reserved or measured for one pod than there is.
    #[error("GPU {gpu}: {what} {amount} is above its total {total}")]
    AboveTotal {
        /// The GPU.
        gpu: GpuUuid,
        /// Which figure.
        what: &'static str,
        /// Its value.
        amount: Bytes,
        /// The GPU's memory.
        total: Bytes,
    },
    /// The same GPU twice.
    #[error("GPU {0} is there twice")]
    DuplicateGpu(GpuUuid),
    /// The same pod twice on one GPU.
    #[error("GPU {gpu}: pod {pod} is there twice")]
    DuplicatePod {
        /// The GPU.
        gpu: GpuUuid,
        /// The pod.
        pod: PodUid,
    },
}

impl Reading {
    /// Checks what must hold for any real GPU.
    ///
    /// # Errors
    /// The first figure that cannot be.
    pub fn validate(&self) -> Result<(), ImpossibleReading> {
        let mut seen = HashSet::new();
        for gpu in &self.gpus {
            if !seen.insert(&gpu.uuid) {
                return Err(ImpossibleReading::DuplicateGpu(gpu.uuid.clone()));
            }
            gpu.validate()?;
        }
        Ok(())
    }

    /// The GPU of that UUID.
    #[must_use]
    pub fn gpu(&self, uuid: &GpuUuid) -> Option<&GpuReading> {
        self.gpus.iter().find(|gpu| gpu.uuid == *uuid)
    }
}

impl GpuReading {
    fn validate(&self) -> Result<(), ImpossibleReading> {
        if self.total == Bytes::ZERO {
            return Err(ImpossibleReading::NoMemory(self.uuid.clone()));
        }
        self.at_most_total("used", self.used)?;
        self.at_most_total("reserved", self.reserved)?;
        let mut seen = HashSet::new();
        for pod in &self.pods {
            self.at_most_total("a pod's memory", pod.used)?;
            self.at_most_total("a pod's peak", pod.peak)?;
            if !seen.insert(&pod.uid) {
                return Err(ImpossibleReading::DuplicatePod {
                    gpu: self.uuid.clone(),
                    pod: pod.uid.clone(),
                });
            }
        }
        Ok(())
    }

    fn at_most_total(&self, what: &'static str, amount: Bytes) -> Result<(), ImpossibleReading> {
        if amount <= self.total {
            return Ok(());
        }
        Err(ImpossibleReading::AboveTotal {
            gpu: self.uuid.clone(),
            what,
            amount,
            total: self.total,
        })
    }

    /// Bytes that the processes of pods hold.
    #[must_use]
    pub fn measured(&self) -> Bytes {
        self.pods.iter().map(|pod| pod.used).sum()
    }

    /// Memory in use that belongs to no pod.
    #[must_use]
    pub fn foreign(&self) -> Bytes {
        self.used - self.measured()
    }
}

pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(span.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}
