//! Cgroups of a test's own, beside everyone else's on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// For what runs in them to be gone.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(20);

/// A cgroup of one name in every hierarchy. They go with the value, when nobody is in them.
pub struct Cgroups {
    name: String,
    hierarchies: Vec<PathBuf>,
}

impl Cgroups {
    /// Makes them.
    pub fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("filmgate-test-{}-{number}", std::process::id());
        let cgroups = Self { name, hierarchies: hierarchies() };
        for folder in cgroups.folders().chain(cgroups.first()) {
            fs::create_dir(&folder).expect("a cgroup");
            fill_cpuset(&folder);
        }
        cgroups
    }

    /// Their name, from the top of each hierarchy.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Below them, for the first process: systemd keeps it in `/init.scope`.
    pub fn first(&self) -> impl Iterator<Item = PathBuf> {
        self.folders().map(|own| own.join("init"))
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies.iter().map(|hierarchy| hierarchy.join(&self.name))
    }

    /// Stops the processes of the cgroups below whose names end with that: as processes that hang
    /// in a driver they outlive every signal, until the value is dropped. `None` where the kernel
    /// cannot do that (cgroup v2).
    pub fn freeze(&self, name_end: &str) -> Option<Frozen> {
        let all: Vec<_> = self.folders().flat_map(|own| with_descendants(&own)).collect();
        let is_meant = |folder: &&PathBuf| folder.to_string_lossy().ends_with(name_end);
        let states = all.iter().filter(is_meant).map(|folder| folder.join("freezer.state"));
        let states: Vec<_> = states.filter(|state| state.exists()).collect();
        states.iter().for_each(|state| fs::write(state, "FROZEN").expect("a freezer"));
        (!states.is_empty()).then_some(Frozen(states))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let deadline = Instant::now() + REMOVAL_DEADLINE;
        while !self.folders().all(|own| !own.exists() || remove(&own)) {
            assert!(thread::panicking() || Instant::now() < deadline, "{} stays", self.name);
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Processes that cannot move.
pub struct Frozen(Vec<PathBuf>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for state in &self.0 {
            drop(fs::write(state, "THAWED"));
        }
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = fields.filter(|fields| matches!(fields[2], "cgroup" | "cgroup2"));
    cgroups.map(|fields| fields[1].into()).collect()
}

/// On cgroup v1, nobody may enter a cpuset that has no processors or no memory.
fn fill_cpuset(own: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let inherited = own.parent().map(|parent| parent.join(file));
        if let Some(Ok(inherited)) = inherited.filter(|one| one.exists()).map(fs::read_to_string) {
            fs::write(own.join(file), inherited).expect("a cpuset");
        }
    }
}

/// Those below first.
fn with_descendants(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let below = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut all: Vec<_> = below.flat_map(|path| with_descendants(&path)).collect();
    all.push(folder.to_owned());
    all
}

fn remove(folder: &Path) -> bool {
    with_descendants(folder).iter().all(|folder| fs::remove_dir(folder).is_ok())
}
