//! What the stand-in pretends, as it lies in a file. Tests write it with these same types.

use serde::{Deserialize, Serialize};

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The driver's version.
    pub driver: String,
    /// Changes when the driver is loaded anew: calls of who opened NVML before fail as unknown.
    pub generation: u32,
    /// In NVML's order.
    pub gpus: Vec<Gpu>,
    /// Each is delivered once to whoever listens when its sequence number first appears.
    pub xids: Vec<Xid>,
    /// For calls about no GPU, and about any.
    pub faults: Vec<Fault>,
    /// Whether calls are written to `calls` beside this file.
    pub is_logged: bool,
}

/// A GPU. Figures that are missing are not supported.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Gpu {
    /// What it has in common with MIG instances.
    #[serde(flatten)]
    pub device: Device,
    /// Such as `00000000:3B:00.0`.
    pub pci: String,
    /// Changes when the GPU is reset: who opened NVML before finds it lost.
    pub generation: u32,
    /// Instances by slot, where MIG is on.
    pub mig: Option<Vec<Option<Instance>>>,
    /// What the driver's buffer holds.
    pub samples: Option<Vec<Sample>>,
    /// Percent of kernels and of memory.
    pub rates: Option<(u32, u32)>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Milliwatts.
    pub power: Option<u32>,
    /// NVML's bits.
    pub throttle: Option<u64>,
    /// Corrected and uncorrected.
    pub ecc: Option<(u64, u64)>,
    /// Corrected, uncorrected, pending, failed.
    pub remapped: Option<(u32, u32, u32, u32)>,
    /// For single and for double bit errors.
    pub retired: Option<(u32, u32)>,
}

/// A GPU or a MIG instance. Texts are handed out in Latin-1, so that they can be made no UTF-8.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Device {
    /// `GPU-…`, `MIG-…`.
    pub uuid: String,
    /// The product's name.
    pub name: String,
    /// In bytes.
    pub memory: Memory,
    /// Of compute contexts.
    pub compute: Vec<Process>,
    /// Of graphics contexts.
    pub graphics: Vec<Process>,
    /// Of clients of MPS.
    pub mps: Vec<Process>,
    /// Starts after the first call that reads memory or the compute processes themselves.
    pub starting: Option<Process>,
    /// For calls about this device.
    pub faults: Vec<Fault>,
}

/// An instance of MIG.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Instance {
    /// What it has in common with GPUs.
    #[serde(flatten)]
    pub device: Device,
    /// GPU instance and compute instance.
    pub ids: (u32, u32),
    /// Slices of the GPU instance and of the compute instance, and memory in MB.
    pub attributes: Option<(u32, u32, u64)>,
}

/// What the driver says of memory: free to contradict itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    pub total: u64,
    pub reserved: u64,
    pub free: u64,
    pub used: u64,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// `None`: not available.
    pub memory: Option<u64>,
}

/// A sample of utilisation, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sample {
    pub time: u64,
    pub kernels: u32,
    pub memory: u32,
}

/// An XID error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xid {
    /// From 1, ascending.
    pub sequence: u64,
    /// Index of the GPU.
    pub gpu: usize,
    /// The number.
    pub xid: u64,
    /// GPU instance and compute instance.
    pub instance: Option<(u32, u32)>,
}

/// A call that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fault {
    /// NVML's name of it; `*`: every call.
    pub function: String,
    /// What it returns; `None`: it hangs until the scenario lets it go.
    pub code: Option<u32>,
    /// So many calls go well before.
    pub after: u32,
    /// So many go wrong; `None`: all.
    pub times: Option<u32>,
}
