//! A machine full of work: GPUs, pods on them, and the pods' processes.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::super::stage::DEADLINE;
use super::super::support::eventually::eventually;
use super::super::support::nvml::scenario::{Gpu, Sample, Scenario};
use super::super::support::nvml::{StandIn, gpu, machine};
use super::super::support::proc::{self, InPod};
use super::super::support::process::Process;

pub const GPUS: usize = 8;
/// Five on each GPU.
pub const PODS: usize = 40;
/// Eight of each pod, so forty on each GPU.
pub const PROCESSES: usize = 320;
/// As many as drivers keep.
const SAMPLES: u64 = 120;

/// The machine. Its processes end with it.
pub struct Machine {
    pub driver: StandIn,
    /// What `/proc` is to the agent.
    pub proc: PathBuf,
    pub folder: TempDir,
    pids: Vec<u32>,
    second: u64,
    _processes: Process,
}

impl Machine {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (processes, pids) = start_processes(folder.path()).await;
        let folder_of_processes = folder.path().join("proc");
        let in_pod = |(number, pid): (usize, &u32)| InPod {
            pid: *pid,
            pod: uid(pod_of(number)),
            container: container_id(pod_of(number)),
        };
        proc::write(&folder_of_processes, &pids.iter().enumerate().map(in_pod).collect::<Vec<_>>());
        let driver = StandIn::new(&scenario(&pids, 0));
        Self { driver, proc: folder_of_processes, folder, pids, second: 0, _processes: processes }
    }

    /// Every GPU moves a little.
    pub fn move_on(&mut self) {
        self.second += 1;
        self.driver.set(&scenario(&self.pids, self.second));
    }
}

/// Real ones, since reading of them is most of what the agent does.
async fn start_processes(folder: &Path) -> (Process, Vec<u32>) {
    let mut command = Command::new("sh");
    let many = format!("for n in $(seq {PROCESSES}); do sleep infinity & echo $!; done; wait");
    command.args(["-c", &many]);
    let processes = Process::spawn("processes", command, folder);
    let pids = eventually(DEADLINE, "the pods' processes", async || {
        let pids: Vec<u32> = processes.log().lines().filter_map(|pid| pid.parse().ok()).collect();
        (pids.len() == PROCESSES).then_some(pids)
    });
    let pids = pids.await;
    (processes, pids)
}

fn pod_of(process: usize) -> usize {
    process * PODS / PROCESSES
}

/// The GPU that the pod was given.
pub fn gpu_of(pod: usize) -> usize {
    pod * GPUS / PODS
}

pub fn uid(pod: usize) -> String {
    format!("00000000-0000-4000-8000-{pod:012}")
}

pub fn container_id(pod: usize) -> String {
    format!("{pod:064x}")
}

fn scenario(pids: &[u32], second: u64) -> Scenario {
    let mut gpus: Vec<Gpu> = (0..GPUS as u32).map(|index| full_of_figures(index, second)).collect();
    for (number, pid) in pids.iter().enumerate() {
        let at = gpu_of(pod_of(number));
        let grown = if number.is_multiple_of(8) { second % 16 } else { 0 };
        gpus[at].device = std::mem::take(&mut gpus[at].device).with_process(*pid, 500 + grown);
    }
    machine(gpus)
}

fn full_of_figures(index: u32, second: u64) -> Gpu {
    let moving = (second % 10) as u32;
    let sample = |number: u64| Sample {
        time: 1 + second * 1_000_000 + number * 160_000,
        kernels: 50 + moving,
        memory: 20 + moving,
    };
    Gpu {
        samples: Some((0..SAMPLES).map(sample).collect()),
        temperature: Some(60 + moving),
        power: Some(200_000 + 1_000 * moving),
        ..gpu(index).with_figures()
    }
}
