//! XID errors: counted as they happen, by a thread per GPU.
//!
//! The driver keeps no list of them. It names the last one to whoever waits at that moment, so a
//! thread waits at all times; each GPU has its own, because a GPU that is stuck may not silence the
//! others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::NvmlError;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::raw::{self, RawEvent};
use crate::agent::hardware::{Gpu, Mig};
use crate::engine::GpuUuid;

/// XIDs after which a GPU goes on working: errors of applications. NVIDIA's device plugin ignores
/// the same (`internal/rm/health.go`), so that a GPU that it offers and one that takes work here are
/// the same ones. Every other XID stands until the GPU or its driver was initialised anew.
pub const HARMLESS_XIDS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// Longest wait for an event: how long a thread takes to notice that it should end.
const WAIT_MILLISECONDS: u32 = 500;
/// Wait after a failure, such as that of a GPU that fell off the bus, which fails at once.
const PAUSE: Duration = Duration::from_secs(1);

/// The XID errors of every GPU since the start. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct XidBook {
    errors: Arc<Mutex<HashMap<GpuUuid, Vec<Entry>>>>,
    news: watch::Sender<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    event: RawEvent,
    times: u64,
    /// Whether nothing has been initialised anew since.
    stands: bool,
}

impl XidBook {
    pub(super) fn new() -> Self {
        Self { errors: Arc::default(), news: watch::Sender::new(()) }
    }

    /// Fires at every error.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    fn record(&self, uuid: &GpuUuid, event: RawEvent) {
        let mut errors = self.errors.lock();
        let entries = errors.entry(uuid.clone()).or_default();
        match entries.iter_mut().find(|entry| entry.event == event) {
            Some(entry) => {
                entry.times += 1;
                entry.stands = true;
            }
            None => entries.push(Entry { event, times: 1, stands: true }),
        }
        drop(errors);
        self.news.send_replace(());
    }

    /// The GPU was initialised anew: what its errors said is over. They stay counted.
    pub(super) fn forgive(&self, uuid: &GpuUuid) {
        for entry in self.errors.lock().get_mut(uuid).into_iter().flatten() {
            entry.stands = false;
        }
    }

    /// The device's errors by number.
    pub(super) fn counts(&self, gpu: &Gpu) -> Vec<(u64, u64)> {
        let mut counts = std::collections::BTreeMap::<u64, u64>::new();
        for entry in self.entries(gpu) {
            *counts.entry(entry.event.data).or_default() += entry.times;
        }
        counts.into_iter().collect()
    }

    /// The first error that stands and is not among `harmless`.
    pub(super) fn standing(&self, gpu: &Gpu, harmless: &[u64]) -> Option<u64> {
        let mut entries = self.entries(gpu).into_iter();
        entries
            .find(|entry| entry.stands && !harmless.contains(&entry.event.data))
            .map(|entry| entry.event.data)
    }

    /// Of a MIG instance its own errors and those of the whole GPU.
    fn entries(&self, gpu: &Gpu) -> Vec<Entry> {
        let (uuid, own) = match &gpu.mig {
            Mig::Instance { parent, gpu_instance, compute_instance, .. } => {
                (parent, Some((*gpu_instance, *compute_instance)))
            }
            Mig::Off | Mig::Parent => (&gpu.uuid, None),
        };
        let errors = self.errors.lock();
        let entries = errors.get(uuid).map(Vec::as_slice).unwrap_or_default();
        let concerns = |entry: &&Entry| {
            own.is_none() || entry.event.instance.is_none() || entry.event.instance == own
        };
        entries.iter().filter(concerns).copied().collect()
    }
}

/// A thread that listens for the errors of one GPU, until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts it. Without one the GPU's errors go unnoticed, which is said.
    pub(super) fn start(nvml: Arc<Nvml>, index: u32, uuid: GpuUuid, book: XidBook) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let name = format!("nvml-xid-{index}");
        let thread = Builder::new().name(name).spawn(move || {
            if let Err(error) = listen(&nvml, index, &uuid, &book, &told) {
                tracing::warn!(gpu = %uuid, %error, "XID errors of this GPU go unnoticed");
            }
        });
        if let Err(error) = &thread {
            tracing::warn!(index, %error, "no thread for the XID errors of a GPU");
        }
        Self { ends, thread: thread.ok() }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has said what there was to say.
            let _ = thread.join();
        }
    }
}

fn listen(
    nvml: &Nvml,
    index: u32,
    uuid: &GpuUuid,
    book: &XidBook,
    ends: &AtomicBool,
) -> Result<(), NvmlError> {
    let device = nvml.device_by_index(index)?;
    // ECC errors are not listened for: the driver counts them, and one that matters is an XID too.
    let events = EventTypes::CRITICAL_XID_ERROR;
    let set =
        device.register_events(events, nvml.create_event_set()?).map_err(|failed| failed.error)?;
    while !ends.load(Ordering::Acquire) {
        match raw::wait(&set, WAIT_MILLISECONDS) {
            Ok(event) => {
                tracing::warn!(gpu = %uuid, xid = event.data, "XID error");
                book.record(uuid, event);
            }
            Err(NvmlError::Timeout) => {}
            Err(_) => thread::park_timeout(PAUSE),
        }
    }
    Ok(())
}
