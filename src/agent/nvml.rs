//! GPUs of this machine, through NVML.
//!
//! NVML is C, and its calls can hang: in a driver that waits for a GPU, or for itself. So no call is
//! made where anyone waits without a deadline. One thread opens and closes NVML ([`opener`]); each
//! GPU has a thread that alone asks for it ([`board`]); [`machine`] asks those threads and leaves
//! whoever does not answer behind.
//!
//! ```text
//! sample() ─▶ machine ─┬─ desk ─▶ opener          nvmlInit, nvmlShutdown
//!                      ├─ desk ─▶ board 0 ─▶ xids   usage, figures, mig
//!                      └─ desk ─▶ board 1 ─▶ xids
//! ```

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use self::machine::Machine;
pub use self::retry::Pauses;
pub use self::xids::HARMLESS_XIDS;
use self::xids::XidBook;
use super::hardware::{Hardware, Source};

mod board;
mod desk;
mod fault;
mod figures;
mod known;
mod machine;
mod mig;
mod opener;
#[allow(unsafe_code, reason = "calls of C functions that nvml-wrapper lacks")]
mod raw;
mod retry;
mod session;
mod usage;
mod xids;

/// How NVML is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// NVML's library; `None`: `libnvidia-ml.so.1`, wherever the system's loader finds it.
    pub library: Option<PathBuf>,
    /// Longest wait for the calls about one GPU, and for opening NVML. A sampling takes as long at
    /// most, and twice as long where NVML had to be opened for it.
    pub deadline: Duration,
    /// Between tries to open NVML.
    pub reopen: Pauses,
    /// Between closing and opening NVML because GPUs are missing. It leaves the other GPUs without
    /// an answer where it fails, so it is rare.
    pub find: Pauses,
    /// Least time between two readings of ECC errors, remapped rows and retired pages.
    pub wear_interval: Duration,
    /// XID errors that leave a GPU fit for work.
    pub harmless_xids: Vec<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            library: None,
            deadline: seconds(1),
            reopen: Pauses { first: seconds(1), longest: seconds(30) },
            find: Pauses { first: seconds(30), longest: seconds(600) },
            wear_interval: seconds(30),
            harmless_xids: HARMLESS_XIDS.to_vec(),
        }
    }
}

/// The GPUs of this machine. Nothing is opened before the first sampling.
///
/// Dropping it blocks until NVML is closed, for as long as the deadline at most.
pub struct NvmlSource {
    machine: Mutex<Machine>,
    xids: XidBook,
}

impl NvmlSource {
    /// Prepares to ask NVML.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let xids = XidBook::new();
        Self { machine: Mutex::new(Machine::new(settings, xids.clone())), xids }
    }
}

impl Source for NvmlSource {
    async fn sample(&self) -> Hardware {
        self.machine.lock().await.sample().await
    }

    fn movements(&self) -> Option<watch::Receiver<()>> {
        Some(self.xids.news())
    }
}
