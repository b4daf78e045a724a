//! Processor time, user and system.

use std::fs;
use std::time::Duration;

/// Of `/proc/<pid>/stat`; Linux has shown a hundred to user space on every architecture.
const TICKS_PER_SECOND: u32 = 100;

/// Of this process and its children, which are all that a benchmark has started, so far.
pub fn time() -> Duration {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let usage = Usage::of(id)?;
        (id == own || usage.parent == own).then_some(usage.ticks)
    });
    duration(processes.sum())
}

/// Of one process that runs, so far.
pub fn time_of(process: u32) -> Duration {
    duration(Usage::of(process).unwrap().ticks)
}

fn duration(ticks: u32) -> Duration {
    Duration::from_secs(1) * ticks / TICKS_PER_SECOND
}

struct Usage {
    parent: u32,
    ticks: u32,
}

impl Usage {
    /// `None` for a process that has ended.
    fn of(process: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name, in brackets, may hold anything: what follows is fields 3 and up.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u32>().ok();
        Some(Self { parent: number(4)?, ticks: number(14)? + number(15)? })
    }
}
