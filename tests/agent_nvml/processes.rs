//! Which process holds what.

use filmgate::agent::hardware::{Process, Processes};
use filmgate::engine::Bytes;

use crate::support::nvml::scenario::Fault;
use crate::support::nvml::{self, StandIn, fails, gpu, machine, process};
use crate::{first_gpu, sample, source};

const COMPUTE: &str = "nvmlDeviceGetComputeRunningProcesses_v3";
const GRAPHICS: &str = "nvmlDeviceGetGraphicsRunningProcesses_v3";
const MPS: &str = "nvmlDeviceGetMPSComputeRunningProcesses_v3";
const NOT_SUPPORTED: u32 = 3;
const NO_PERMISSION: u32 = 4;
const INSUFFICIENT_SIZE: u32 = 7;

fn known(processes: &Processes) -> &[Process] {
    match processes {
        Processes::Known(processes) => processes,
        Processes::Hidden { why } => panic!("hidden: {why}"),
    }
}

fn why_hidden(processes: &Processes) -> &str {
    match processes {
        Processes::Hidden { why } => why,
        Processes::Known(processes) => panic!("{processes:?}"),
    }
}

fn held(processes: &Processes) -> Vec<(u32, Option<u64>)> {
    let mib = |bytes: Bytes| bytes.get() >> 20;
    known(processes).iter().map(|process| (process.pid, process.memory.map(mib))).collect()
}

#[tokio::test]
async fn a_process_in_several_lists_holds_the_most_that_one_says_and_not_the_sum() {
    let mut shared = gpu(0).with_process(1, 100).with_process(2, 50);
    shared.device.graphics = vec![process(1, 120), process(3, 7)];
    shared.device.mps = vec![process(2, 40), nvml::scenario::Process { pid: 1, memory: None }];
    let gpu = first_gpu(&StandIn::new(&machine([shared]))).await;
    assert_eq!(held(&gpu.processes), [(1, Some(120)), (2, Some(50)), (3, Some(7))]);
}

#[tokio::test]
async fn memory_that_the_driver_does_not_tell_is_unknown_and_not_nothing() {
    let mut silent = gpu(0);
    silent.device.compute = vec![nvml::scenario::Process { pid: 9, memory: None }];
    let gpu = first_gpu(&StandIn::new(&machine([silent]))).await;
    assert_eq!(held(&gpu.processes), [(9, None)]);
}

#[tokio::test]
async fn a_driver_that_lists_no_processes_hides_them() {
    let refused = |code| machine([gpu(0).with_fault(fails(COMPUTE, code))]);
    for (library, why) in [
        (StandIn::new(&refused(NOT_SUPPORTED)), "not available"),
        (StandIn::new(&refused(NO_PERMISSION)), "does not have permission"),
        (StandIn::without(&machine([gpu(0)]), &[COMPUTE]), COMPUTE),
    ] {
        let gpu = first_gpu(&library).await;
        assert!(why_hidden(&gpu.processes).contains(why), "{:?}", gpu.processes);
    }
}

#[tokio::test]
async fn the_lists_of_graphics_and_mps_may_be_missing() {
    let plain = gpu(0).with_process(1, 100);
    let refusing = plain
        .clone()
        .with_fault(fails(GRAPHICS, NOT_SUPPORTED))
        .with_fault(fails(MPS, NO_PERMISSION));
    for library in
        [StandIn::new(&machine([refusing])), StandIn::without(&machine([plain]), &[GRAPHICS, MPS])]
    {
        assert_eq!(held(&first_gpu(&library).await.processes), [(1, Some(100))]);
    }
}

#[tokio::test]
async fn a_list_that_grows_while_it_is_read_is_read_again() {
    for function in [COMPUTE, GRAPHICS, MPS] {
        let mut growing = gpu(0).with_process(1, 100);
        growing.device.graphics = vec![process(2, 20)];
        growing.device.mps = vec![process(3, 30)];
        // The first call asks for the number of processes, the second for the list.
        let race = Fault { after: 1, times: Some(1), ..fails(function, INSUFFICIENT_SIZE) };
        let gpu = first_gpu(&StandIn::new(&machine([growing.with_fault(race)]))).await;
        let all = [(1, Some(100)), (2, Some(20)), (3, Some(30))];
        assert_eq!(held(&gpu.processes), all, "{function}");
    }
}

#[tokio::test]
async fn a_thousand_processes_are_all_seen() {
    let crowd = (1..=1_000).fold(gpu(0), |gpu, pid| gpu.with_process(pid, 16));
    let gpu = first_gpu(&StandIn::new(&machine([crowd]))).await;
    let processes = known(&gpu.processes);
    assert_eq!(processes.len(), 1_000);
    let held: Bytes = processes.iter().filter_map(|process| process.memory).sum();
    assert_eq!((held, gpu.memory.used), (Bytes::mib(16_000), Bytes::mib(16_000)));
}

#[tokio::test]
async fn memory_of_a_process_that_starts_during_a_sampling_is_nobodys_and_not_free() {
    let mut starting = gpu(0).with_process(1, 100);
    starting.device.starting = Some(process(2, 5_000));
    let library = StandIn::new(&machine([starting]));
    let source = source(&library);
    let gpu = sample(&source).await.gpus.remove(0);
    assert_eq!(held(&gpu.processes), [(1, Some(100))]);
    assert_eq!(gpu.memory.used, Bytes::mib(5_100), "it was read after the processes");

    let gpu = sample(&source).await.gpus.remove(0);
    assert_eq!(held(&gpu.processes), [(1, Some(100)), (2, Some(5_000))]);
    assert_eq!(gpu.memory.used, Bytes::mib(5_100));
}

#[tokio::test]
async fn drivers_that_write_past_the_end_of_a_list_are_not_asked_for_one() {
    let mut scenario = machine([gpu(0).with_process(1, 100)]);
    scenario.driver = "535.86.10".into();
    scenario.is_logged = true;
    let library = StandIn::new(&scenario);
    let gpu = first_gpu(&library).await;
    assert!(why_hidden(&gpu.processes).contains("535.86.10"), "{:?}", gpu.processes);
    assert_eq!(gpu.memory.used, Bytes::mib(100));
    let asked = |call: &String| call.contains("RunningProcesses");
    assert!(!library.calls().iter().any(asked), "{:?}", library.calls());
}
