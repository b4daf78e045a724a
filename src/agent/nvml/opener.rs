//! Opens NVML, and closes it: on one thread, since both can hang.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::board::{Board, Common};
use super::desk::Desk;
use super::fault::describe;
use super::session::{GpuDesk, Session};

/// Opens NVML as often as it is asked to.
pub(super) struct Opener {
    library: Option<PathBuf>,
    common: Common,
    open: Option<Library>,
}

impl Opener {
    pub(super) fn new(library: Option<PathBuf>, common: Common) -> Self {
        Self { library, common, open: None }
    }

    /// Opens NVML after closing it, which alone makes it look for the driver and its GPUs anew. The
    /// session of the last time must have been dropped.
    pub(super) fn open(&mut self) -> Result<Session, Arc<str>> {
        self.open = None;
        let mut library = Library::load(self.library.as_deref()).map_err(explained)?;
        let session = library.session(&self.common)?;
        self.open = Some(library);
        Ok(session)
    }
}

fn explained(error: NvmlError) -> Arc<str> {
    describe(&error).into()
}

/// NVML, and the threads that are in it.
struct Library {
    nvml: Arc<Nvml>,
    threads: Vec<JoinHandle<()>>,
}

impl Library {
    fn load(path: Option<&Path>) -> Result<Self, NvmlError> {
        let mut builder = Nvml::builder();
        if let Some(path) = path {
            builder.lib_path(path.as_os_str());
        }
        Ok(Self { nvml: Arc::new(builder.init()?), threads: Vec::new() })
    }

    fn session(&mut self, common: &Common) -> Result<Session, Arc<str>> {
        let driver: Arc<str> =
            self.nvml.sys_driver_version().unwrap_or_else(|_| "unknown".into()).into();
        let count = self.nvml.device_count().map_err(explained)?;
        let desks: Result<Vec<_>, _> =
            (0..count).map(|index| self.desk(&driver, index, common)).collect();
        Ok(Session::new(driver, desks?))
    }

    fn desk(
        &mut self,
        driver: &Arc<str>,
        index: u32,
        common: &Common,
    ) -> Result<GpuDesk, Arc<str>> {
        let (nvml, driver) = (Arc::clone(&self.nvml), Arc::clone(driver));
        let mut board = Board::new(nvml, driver, index, common.clone());
        let (desk, thread) = Desk::open(format!("nvml-gpu-{index}"), move |()| board.read())
            .map_err(|error| Arc::from(format!("no thread for GPU {index}: {error}")))?;
        self.threads.push(thread);
        Ok(desk)
    }
}

impl Drop for Library {
    /// Closes NVML when nobody is in a call of it. Where a call never comes back this thread waits
    /// for ever, and no other.
    fn drop(&mut self) {
        for thread in self.threads.drain(..) {
            // One that panicked has left NVML all the same.
            let _ = thread.join();
        }
        if self.nvml.lib().nvmlShutdown.is_err() {
            // The wrapper would panic: it stays open.
            mem::forget(Arc::clone(&self.nvml));
        }
    }
}
