//! One GPU with its MIG instances, read by the thread that alone asks NVML for it.

use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::fault::{Fault, figure};
use super::figures::Figures;
use super::usage::usage;
use super::xids::{Listener, XidBook};
use super::{mig, raw};
use crate::agent::hardware::{Gpu, GpuState, Memory, Mig, Processes};
use crate::engine::GpuUuid;

/// What the boards of a machine have in common.
#[derive(Debug, Clone)]
pub(super) struct Common {
    /// Least time between two readings of what changes seldom.
    pub(super) wear_interval: Duration,
    pub(super) xids: XidBook,
}

/// A GPU that NVML counts.
pub(super) struct Board {
    nvml: Arc<Nvml>,
    driver: Arc<str>,
    index: u32,
    common: Common,
    identity: Option<Identity>,
    figures: Figures,
    /// Ends with the board, before NVML is closed.
    listener: Option<Listener>,
}

/// What does not change while the driver is loaded.
#[derive(Debug, Clone)]
struct Identity {
    uuid: GpuUuid,
    model: Arc<str>,
    pci_bus_id: Option<Arc<str>>,
}

impl Board {
    pub(super) fn new(nvml: Arc<Nvml>, driver: Arc<str>, index: u32, common: Common) -> Self {
        let figures = Figures::default();
        Self { nvml, driver, index, common, identity: None, figures, listener: None }
    }

    /// The GPU and, after it, its instances.
    pub(super) fn read(&mut self) -> Result<Vec<Gpu>, Fault> {
        let nvml = Arc::clone(&self.nvml);
        let device = nvml.device_by_index(self.index)?;
        let identity = self.identify(&device)?;
        let is_split = mig::is_split(&device)?;
        let mut gpu = self.read_whole(&device, identity, is_split)?;
        self.figures.read(&device, self.common.wear_interval, &mut gpu)?;
        if gpu.remapped_rows.is_some_and(|rows| rows.has_failed) {
            let why = "rows of its memory could not be remapped: it should be replaced";
            gpu.state = GpuState::Failing { why: why.into() };
        }
        let mut gpus = vec![gpu];
        if is_split {
            gpus.extend(mig::instances(&device, &gpus[0], &self.driver)?);
        }
        Ok(gpus)
    }

    fn identify(&mut self, device: &Device<'_>) -> Result<Identity, NvmlError> {
        if let Some(identity) = &self.identity {
            return Ok(identity.clone());
        }
        let uuid = GpuUuid::from(device.uuid()?);
        let identity = Identity {
            uuid: uuid.clone(),
            model: figure(raw::name(device))?.map_or_else(|| "unknown".into(), Arc::from),
            pci_bus_id: figure(device.pci_info())?.map(|pci| pci.bus_id.into()),
        };
        let (nvml, book) = (Arc::clone(&self.nvml), self.common.xids.clone());
        self.listener = Some(Listener::start(nvml, self.index, uuid, book));
        Ok(self.identity.insert(identity).clone())
    }

    fn read_whole(
        &self,
        device: &Device<'_>,
        identity: Identity,
        is_split: bool,
    ) -> Result<Gpu, NvmlError> {
        let (processes, memory) = usage(device, &self.driver)?;
        // Of a GPU that is split it takes a privilege to see more than the instances.
        let memory = if is_split { figure(memory)?.unwrap_or_default() } else { memory? };
        Ok(self.gpu(identity, is_split, processes, memory))
    }

    fn gpu(&self, identity: Identity, is_split: bool, processes: Processes, memory: Memory) -> Gpu {
        Gpu {
            index: self.index,
            uuid: identity.uuid,
            model: identity.model,
            pci_bus_id: identity.pci_bus_id,
            mig: if is_split { Mig::Parent } else { Mig::Off },
            state: GpuState::Ready,
            memory,
            processes,
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
}
