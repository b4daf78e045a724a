//! Whose a process is, by `/proc`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::sight::Sight;
use self::ticks::Ticks;
use super::owner::{Owner, OwnerLookup, Owners};

pub mod cgroup;
mod sight;
mod ticks;

/// More than any file that is read here: a line per hierarchy, each with a path of 4 KiB at most.
const LONGEST_FILE: u64 = 64 << 10;
/// Processes that are watched by a file that stays open: half of what a process may have open where
/// nobody has given it more.
const MOST_WATCHED: usize = 512;

/// Processes as `/proc` shows them.
///
/// A process number that the driver listed may be another process' by the time it is looked up;
/// that one started after the sampling began, and is not taken for it.
#[derive(Debug)]
pub struct Procfs {
    root: PathBuf,
    sight: Sight,
    /// Of the last sampling. A pod's process stays its pod's; the host's may be moved into a pod.
    in_pods: Mutex<HashMap<u32, Known>>,
}

/// A process that was looked up.
#[derive(Debug)]
struct Known {
    started: Ticks,
    owner: Owner,
    life: Option<Life>,
}

/// An open file of a process' folder. It can be read while the process is there and fails from then
/// on, whoever has its number: one call tells that it is the same process still.
#[derive(Debug)]
struct Life(File);

impl Life {
    fn of(folder: &Path) -> Option<Self> {
        // The kernel makes no text as short for as little work.
        File::open(folder.join("oom_score_adj")).ok().map(Self)
    }

    fn goes_on(&self) -> bool {
        self.0.read_at(&mut [0; 8], 0).is_ok()
    }
}

impl Procfs {
    /// `/proc` at that place.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { sight: Sight::from(&root), root, in_pods: Mutex::default() }
    }

    fn now(&self) -> Option<Ticks> {
        Ticks::of_uptime(&read(&self.root.join("uptime"))?)
    }
}

impl Default for Procfs {
    fn default() -> Self {
        Self::new("/proc")
    }
}

impl Owners for Procfs {
    fn begin(&self) -> impl OwnerLookup + Send {
        Lookup { procfs: self, began: self.now(), seen: HashMap::new() }
    }

    fn blindness(&self, driver: &str) -> Option<Arc<str>> {
        self.sight.blindness(driver)
    }
}

/// Lookups of one sampling.
struct Lookup<'a> {
    procfs: &'a Procfs,
    /// Where it cannot be read, nobody can be told from a successor, and all count as gone.
    began: Option<Ticks>,
    /// A process may be listed on several GPUs; `None` when it is gone.
    seen: HashMap<u32, Option<Known>>,
}

impl OwnerLookup for Lookup<'_> {
    fn owner(&mut self, pid: u32) -> Owner {
        if !self.seen.contains_key(&pid) {
            let known = self.look_up(pid);
            self.seen.insert(pid, known);
        }
        let known = self.seen.get(&pid).and_then(Option::as_ref);
        known.map_or(Owner::Gone, |known| known.owner.clone())
    }
}

impl Lookup<'_> {
    fn look_up(&self, pid: u32) -> Option<Known> {
        let began = self.began?;
        let remembered = self.procfs.in_pods.lock().remove(&pid);
        let lives = |known: &Known| known.life.as_ref().is_some_and(Life::goes_on);
        if remembered.as_ref().is_some_and(lives) {
            return remembered;
        }
        let folder = self.procfs.root.join(pid.to_string());
        let life = if self.seen.len() < MOST_WATCHED { Life::of(&folder) } else { None };
        let start = started(&folder)?;
        // In the same tick, it may have been before or after: its memory is foreign for once.
        if start >= began {
            return None;
        }
        if let Some(known) = remembered.filter(|known| known.started == start) {
            return Some(Known { life, ..known });
        }
        let cgroup = read(&folder.join("cgroup"))?;
        let owner = cgroup::owner(&String::from_utf8_lossy(&cgroup));
        // The same process still, so that the two files are about one.
        (started(&folder)? == start).then_some(Known { started: start, owner, life })
    }
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        let seen = self.seen.drain().filter_map(|(pid, known)| Some((pid, known?)));
        let in_pods = seen.filter(|(_, known)| matches!(known.owner, Owner::Pod { .. }));
        *self.procfs.in_pods.lock() = in_pods.collect();
    }
}

fn started(folder: &Path) -> Option<Ticks> {
    Ticks::of_start(&read(&folder.join("stat"))?)
}

/// A file's start. `None` when it cannot be read: the process has ended.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LONGEST_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests;
