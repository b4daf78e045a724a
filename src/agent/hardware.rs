//! What the driver says of a machine's GPUs at one sampling: plain data, whoever asked the driver.
//!
//! A figure that a driver does not have is `None`, and the GPU stays. Whatever cannot be asked at
//! all is a state with its reason.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::engine::{Bytes, GpuUuid};

/// One sampling of a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Hardware {
    /// Whether there is a driver to ask.
    pub driver: Driver,
    /// Every GPU and MIG instance, in NVML's order; the last known ones while the driver is away.
    pub gpus: Vec<Gpu>,
    /// Those that the driver counts, and that never told who they are.
    pub unread: Vec<UnreadGpu>,
}

/// A GPU of which nothing is known yet, not even its UUID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadGpu {
    /// NVML's index.
    pub index: u32,
    /// Why, for people.
    pub why: Arc<str>,
}

/// The NVIDIA driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Driver {
    /// It answers.
    Ready {
        /// Its version, such as `580.95.05`.
        version: Arc<str>,
    },
    /// It is missing, being reloaded, or hangs.
    Away {
        /// Why, for people.
        why: Arc<str>,
    },
}

/// One GPU, or one MIG instance: each is a device of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// NVML's index; of a MIG instance that of its parent.
    pub index: u32,
    /// NVML's UUID (`GPU-…`, `MIG-…`).
    pub uuid: GpuUuid,
    /// The product's name.
    pub model: Arc<str>,
    /// Such as `00000000:3B:00.0`.
    pub pci_bus_id: Option<Arc<str>>,
    /// What it is among MIG devices.
    pub mig: Mig,
    /// Whether it can be asked, and can take work.
    pub state: GpuState,
    /// Its memory, from a call made after its processes were listed; the last known while it cannot
    /// be asked. All zero of a GPU that MIG has split, without the privilege to see more than its
    /// instances.
    pub memory: Memory,
    /// What its processes hold.
    pub processes: Processes,
    /// Part of the time since the last sampling in which a kernel ran, 0 to 1.
    pub utilization_ratio: Option<f64>,
    /// The same of its memory's interface.
    pub memory_utilization_ratio: Option<f64>,
    /// Core temperature.
    pub temperature_celsius: Option<f64>,
    /// Power drawn.
    pub power_watts: Option<f64>,
    /// Why its clocks are below what they could be, such as `sw_power_cap`; empty where nothing
    /// holds them back.
    pub throttle_reasons: Option<Vec<&'static str>>,
    /// ECC errors since the driver was loaded.
    pub ecc_errors: Option<EccErrors>,
    /// Rows that were remapped because of errors (Ampere and later).
    pub remapped_rows: Option<RemappedRows>,
    /// Pages that were retired because of errors (before Ampere).
    pub retired_pages: Option<u32>,
    /// XID errors seen since the agent's start: number and how often, by number. Of a MIG instance
    /// its own, and those of the whole GPU.
    pub xids: Vec<(u64, u64)>,
}

/// What a device is under MIG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mig {
    /// A whole GPU.
    Off,
    /// A GPU that was split: nobody is given it, its instances are.
    Parent,
    /// One of the instances.
    Instance {
        /// The GPU that was split.
        parent: GpuUuid,
        /// Such as `1g.10gb`.
        profile: Arc<str>,
        /// NVML's GPU instance id.
        gpu_instance: u32,
        /// NVML's compute instance id.
        compute_instance: u32,
    },
}

/// Whether a GPU can be asked, and can take work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuState {
    /// Both.
    Ready,
    /// It answers and cannot take work: an XID that says so, rows that could not be remapped.
    Failing {
        /// Why, for people.
        why: Arc<str>,
    },
    /// It fell off the bus, or a call of NVML's about it has not come back.
    Silent {
        /// Why, for people.
        why: Arc<str>,
    },
}

/// A device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// All of it.
    pub total: Bytes,
    /// In use by anyone, without what is reserved.
    pub used: Bytes,
    /// Reserved by driver and firmware; zero where the driver cannot tell it apart.
    pub reserved: Bytes,
    /// What is left.
    pub free: Bytes,
}

/// What the processes on a device hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Processes {
    /// All that have a context on it, each once.
    Known(Vec<Process>),
    /// The driver does not tell (WSL, some vGPUs, MIG without the privilege).
    Hidden {
        /// Why, for people.
        why: Arc<str>,
    },
}

/// A process on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// In the namespace that the agent runs in; the driver's word.
    pub pid: u32,
    /// What it holds; `None` where the driver does not tell.
    pub memory: Option<Bytes>,
}

/// ECC errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct EccErrors {
    /// Corrected.
    pub corrected: u64,
    /// Not corrected.
    pub uncorrected: u64,
}

/// Rows that were remapped because of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RemappedRows {
    /// For errors that were corrected.
    pub corrected: u32,
    /// For errors that were not.
    pub uncorrected: u32,
    /// Some wait for a reset of the GPU.
    pub is_pending: bool,
    /// Some could not be remapped: the GPU should be replaced.
    pub has_failed: bool,
}

/// Whatever samples a machine's GPUs: NVML, or a stand-in.
pub trait Source: Send + Sync + 'static {
    /// Makes a new sampling. It begins within this call, and ends within a deadline whatever the
    /// driver does: a GPU that does not answer in time is [`GpuState::Silent`].
    fn sample(&self) -> impl Future<Output = Hardware> + Send;

    /// Signals that a sampling before its time would show something new, such as an XID error.
    /// `None`: the source cannot tell.
    fn movements(&self) -> Option<watch::Receiver<()>> {
        None
    }
}
