//! Memory that a process has resident.

use std::fs;

/// In KiB.
#[derive(Debug)]
pub struct Resident {
    pub all: u64,
    /// Its own: stacks and heap.
    pub anonymous: u64,
    /// Of the program and its libraries, shared with whoever runs the same.
    pub file: u64,
    /// The most that it ever had.
    pub peak: u64,
    /// Of the stand-in's file, which is part of `file`.
    pub stand_in: u64,
    pub threads: u64,
}

impl Resident {
    /// Of a process that runs.
    pub fn of(process: u32) -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
        let status = read("status");
        Self {
            all: field(&status, "VmRSS"),
            anonymous: field(&status, "RssAnon"),
            file: field(&status, "RssFile"),
            peak: field(&status, "VmHWM"),
            stand_in: of_file(&read("smaps"), "libnvidia-ml.so"),
            threads: field(&status, "Threads"),
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    let value = |line: &str| {
        line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok()
    };
    text.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Sums what is resident of the mappings of that file.
fn of_file(smaps: &str, name: &str) -> u64 {
    let mut is_its = false;
    let mut sum = 0;
    for line in smaps.lines() {
        match line.split_once(' ') {
            Some((head, _)) if !head.ends_with(':') => is_its = line.contains(name),
            _ if is_its && line.starts_with("Rss:") => sum += field(line, "Rss"),
            _ => {}
        }
    }
    sum
}
