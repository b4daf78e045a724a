//! The pretended machine: its file, who has opened it, and which calls go wrong.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use crate::folder::{FOLDER, SCENARIO};
use crate::layout::{
    Code, GPU_IS_LOST, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, UNINITIALIZED, UNKNOWN,
};
use crate::news::News;
use crate::scenario::{Device, Fault, Gpu, Instance, Process, Scenario, Xid};

/// How soon a call that hangs notices that it may go on.
const STUCK_POLL: Duration = Duration::from_millis(5);

/// A device as its handle names it: index of the GPU, and slot of the MIG instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub gpu: usize,
    pub slot: Option<usize>,
}

impl Place {
    /// The pointer that stands for it. Nobody follows it.
    pub fn handle(self) -> usize {
        (self.gpu + 1) << 16 | self.slot.map_or(0, |slot| slot + 1)
    }

    pub fn of(handle: usize) -> Result<Self, Code> {
        let gpu = (handle >> 16).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        Ok(Self { gpu, slot: (handle & 0xffff).checked_sub(1) })
    }
}

/// What a call about a device finds.
pub struct Seen {
    pub place: Place,
    pub scenario: Arc<Scenario>,
    /// Where the GPU is in the scenario now.
    at: usize,
    /// The process that starts between two calls, once it has started.
    pub started: Option<Process>,
}

impl Seen {
    pub fn gpu(&self) -> &Gpu {
        &self.scenario.gpus[self.at]
    }

    /// The GPU, for figures that instances do not have.
    pub fn whole(&self) -> Result<&Gpu, Code> {
        if self.place.slot.is_some() { Err(NOT_SUPPORTED) } else { Ok(self.gpu()) }
    }

    pub fn instance(&self) -> Result<&Instance, Code> {
        let slot = self.place.slot.ok_or(INVALID_ARGUMENT)?;
        let slots = self.gpu().mig.as_deref().unwrap_or_default();
        slots.get(slot).and_then(Option::as_ref).ok_or(NOT_FOUND)
    }

    pub fn device(&self) -> Result<&Device, Code> {
        match self.place.slot {
            None => Ok(&self.gpu().device),
            Some(_) => Ok(&self.instance()?.device),
        }
    }

    fn faults(&self) -> Vec<(String, Fault)> {
        let devices = [Some(&self.gpu().device), self.instance().ok().map(|it| &it.device)];
        let faults = devices.into_iter().flatten().flat_map(|device| {
            device.faults.iter().map(|fault| (device.uuid.clone(), fault.clone()))
        });
        faults.collect()
    }
}

/// What opening NVML has found. It looks once.
struct Opened {
    driver: u32,
    /// UUID and generation of each GPU.
    gpus: Vec<(String, u32)>,
}

/// Who listens for events of which GPUs, and the last one that they know.
struct EventSet {
    gpus: Vec<usize>,
    last: u64,
    news: Arc<News>,
}

#[derive(Default)]
pub struct Machine {
    scenario: Option<Arc<Scenario>>,
    /// Inode, time and length of the file that it was read from.
    version: (u64, i64, i64, u64),
    opens: u32,
    opened: Option<Opened>,
    /// How many calls each fault has met since the scenario was read.
    met: HashMap<(String, Fault), u32>,
    /// Devices whose memory or processes were read since then.
    touched: Vec<Place>,
    sets: HashMap<usize, EventSet>,
    sets_made: usize,
}

static MACHINE: LazyLock<Mutex<Machine>> = LazyLock::new(Mutex::default);

/// The machine. Never hold it while a call hangs.
pub fn machine() -> MutexGuard<'static, Machine> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// The scenario as it is now. Calls look once: what they cost is measured as the agent's.
    pub fn look(&mut self) -> Arc<Scenario> {
        let path = &*SCENARIO;
        // One that was removed, with the test that it belonged to, stays.
        let version = fs::metadata(path).map_or(self.version, |file| {
            (file.ino(), file.mtime(), file.mtime_nsec(), file.size())
        });
        if let Some(scenario) = self.scenario.as_ref().filter(|_| version == self.version) {
            return Arc::clone(scenario);
        }
        let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let scenario = serde_json::from_slice(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.version = version;
        self.met.clear();
        self.touched.clear();
        Arc::clone(self.scenario.insert(Arc::new(scenario)))
    }

    /// The scenario as a call that is under way has found it.
    pub fn seen(&mut self) -> Arc<Scenario> {
        self.scenario.clone().unwrap_or_else(|| self.look())
    }

    /// Opens NVML, which looks for GPUs only if nobody has it open.
    pub fn open(&mut self) {
        let scenario = self.seen();
        self.opens += 1;
        let gpus = || scenario.gpus.iter().map(|gpu| (gpu.device.uuid.clone(), gpu.generation));
        self.opened
            .get_or_insert_with(|| Opened { driver: scenario.generation, gpus: gpus().collect() });
    }

    pub fn close(&mut self) -> Result<(), Code> {
        self.opens = self.opens.checked_sub(1).ok_or(UNINITIALIZED)?;
        if self.opens == 0 {
            self.opened = None;
            self.sets.clear();
        }
        Ok(())
    }

    fn opened(&self, scenario: &Scenario) -> Result<&Opened, Code> {
        let opened = self.opened.as_ref().ok_or(UNINITIALIZED)?;
        if opened.driver == scenario.generation { Ok(opened) } else { Err(UNKNOWN) }
    }

    /// How many GPUs there were when NVML was opened.
    pub fn count(&mut self) -> Result<usize, Code> {
        let scenario = self.seen();
        Ok(self.opened(&scenario)?.gpus.len())
    }

    /// The device, if it is the one that was there when NVML was opened.
    pub fn see(&mut self, place: Place) -> Result<Seen, Code> {
        let scenario = self.seen();
        let (uuid, generation) =
            self.opened(&scenario)?.gpus.get(place.gpu).ok_or(INVALID_ARGUMENT)?;
        let is_it = |gpu: &Gpu| gpu.device.uuid == *uuid && gpu.generation == *generation;
        let at = scenario.gpus.iter().position(is_it).ok_or(GPU_IS_LOST)?;
        let mut seen = Seen { place, scenario, at, started: None };
        if self.touched.contains(&place) {
            seen.started = seen.device()?.starting;
        }
        Ok(seen)
    }

    /// Memory or processes of the device were read: from now on the next process has started.
    pub fn touch(&mut self, place: Place) {
        if !self.touched.contains(&place) {
            self.touched.push(place);
        }
    }

    fn faults(&mut self, place: Option<Place>) -> Vec<(String, Fault)> {
        let of_device = place.and_then(|place| self.see(place).ok()).map(|seen| seen.faults());
        let of_all = self.seen().faults.clone().into_iter().map(|fault| ("all".to_owned(), fault));
        of_device.into_iter().flatten().chain(of_all).collect()
    }

    /// The fault that strikes this call, if any.
    fn strike(&mut self, function: &str, place: Option<Place>) -> Option<(String, Fault)> {
        let faults = self.faults(place).into_iter();
        let mine = faults.filter(|(_, fault)| fault.function == function || fault.function == "*");
        mine.filter(|owned| {
            let met = self.met.entry(owned.clone()).or_default();
            *met += 1;
            let fault = &owned.1;
            let last = fault.times.map_or(u32::MAX, |times| fault.after.saturating_add(times));
            (fault.after + 1..=last).contains(met)
        })
        .collect::<Vec<_>>()
        .into_iter()
        .next()
    }

    fn log(&mut self, function: &str, place: Option<Place>) {
        if self.seen().is_logged {
            let about = place.map_or(String::new(), |place| format!(" {}", place.gpu));
            let line = format!("{function}{about}\n");
            let file = OpenOptions::new().create(true).append(true).open(FOLDER.join("calls"));
            file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a log of the calls");
        }
    }

    pub fn make_set(&mut self) -> usize {
        self.sets_made += 1;
        let set = EventSet { gpus: Vec::new(), last: 0, news: Arc::new(News::of(&FOLDER)) };
        self.sets.insert(self.sets_made, set);
        self.sets_made
    }

    pub fn free_set(&mut self, set: usize) -> Result<(), Code> {
        self.sets.remove(&set).map(|_| ()).ok_or(INVALID_ARGUMENT)
    }

    pub fn register(&mut self, gpu: usize, set: usize) -> Result<(), Code> {
        let last = self.seen().xids.iter().map(|xid| xid.sequence).max().unwrap_or_default();
        let set = self.sets.get_mut(&set).ok_or(INVALID_ARGUMENT)?;
        set.gpus.push(gpu);
        set.last = last;
        Ok(())
    }

    /// What tells those who wait on the set that there may be an event.
    pub fn news(&self, set: usize) -> Result<Arc<News>, Code> {
        self.sets.get(&set).map(|set| Arc::clone(&set.news)).ok_or(INVALID_ARGUMENT)
    }

    /// The next event for those who wait on the set.
    pub fn next_event(&mut self, set: usize) -> Result<Option<Xid>, Code> {
        let scenario = self.look();
        let set = self.sets.get_mut(&set).ok_or(INVALID_ARGUMENT)?;
        let is_next = |xid: &&Xid| xid.sequence > set.last && set.gpus.contains(&xid.gpu);
        let next = scenario.xids.iter().filter(is_next).min_by_key(|xid| xid.sequence).copied();
        if let Some(xid) = next {
            set.last = xid.sequence;
        }
        Ok(next)
    }
}

/// Lets a call fail or hang, where the scenario wants it to.
pub fn pass(function: &str, place: Option<Place>) -> Result<(), Code> {
    let struck = {
        let mut machine = machine();
        machine.look();
        machine.log(function, place);
        machine.strike(function, place)
    };
    let Some(struck) = struck else { return Ok(()) };
    if let Some(code) = struck.1.code {
        return Err(code);
    }
    let still_strikes = || {
        let mut machine = machine();
        machine.look();
        machine.faults(place).contains(&struck)
    };
    while still_strikes() {
        sleep(STUCK_POLL);
    }
    Ok(())
}
