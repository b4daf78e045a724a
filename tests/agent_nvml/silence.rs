//! GPUs that do not answer.

use std::time::{Duration, Instant};

use filmgate::agent::hardware::{Gpu, GpuState, Hardware, Processes, Source as _, UnreadGpu};
use filmgate::agent::nvml::{NvmlSource, Settings};
use filmgate::engine::Bytes;

use crate::support::eventually::eventually;
use crate::support::nvml::scenario::Scenario;
use crate::support::nvml::{StandIn, fails, gpu, hangs, machine};
use crate::{DEADLINE, SHORT_DEADLINE, sample, settings, source, why_away, why_silent};

const GPU_IS_LOST: u32 = 15;
const POWER: &str = "nvmlDeviceGetPowerUsage";

fn impatient(library: &StandIn) -> NvmlSource {
    NvmlSource::new(Settings { deadline: SHORT_DEADLINE, ..settings(library) })
}

/// Three GPUs with a process each, of which the middle one may have a fault.
fn three(mib: u64, fault: Option<crate::support::nvml::scenario::Fault>) -> Scenario {
    let mut gpus: Vec<_> = (0..3).map(|index| gpu(index).with_process(10 + index, mib)).collect();
    gpus[1].device.faults.extend(fault);
    gpus.iter_mut().for_each(|gpu| gpu.temperature = Some(40));
    machine(gpus)
}

fn used(hardware: &Hardware) -> Vec<Bytes> {
    hardware.gpus.iter().map(|gpu| gpu.memory.used).collect()
}

fn mib(amounts: [u64; 3]) -> Vec<Bytes> {
    amounts.map(Bytes::mib).to_vec()
}

async fn all_ready(source: &NvmlSource) -> Hardware {
    let all = async || {
        let hardware = source.sample().await;
        let is_whole = hardware.gpus.len() == 3 && hardware.unread.is_empty();
        let ready =
            |hardware: &Hardware| hardware.gpus.iter().all(|gpu| gpu.state == GpuState::Ready);
        if is_whole && ready(&hardware) { Ok(hardware) } else { Err(format!("{hardware:?}")) }
    };
    eventually(DEADLINE, "all GPUs to answer", all).await
}

#[tokio::test]
async fn a_gpu_that_hangs_is_silent_with_its_last_figures_and_the_others_are_read() {
    let library = StandIn::new(&three(1_000, None));
    let source = impatient(&library);
    sample(&source).await;
    library.set(&three(2_000, Some(hangs(POWER))));
    for _ in 0..3 {
        let hardware = sample(&source).await;
        assert_eq!(used(&hardware), mib([2_000, 1_000, 2_000]));
        let stuck = &hardware.gpus[1];
        assert!(why_silent(stuck).contains("an NVML call has not come back for"), "{stuck:?}");
        assert_eq!(stuck.temperature_celsius, None, "it is not measured");
        let Processes::Known(processes) = &stuck.processes else { panic!("{stuck:?}") };
        assert_eq!(processes.len(), 1);
        assert_eq!(hardware.gpus[0].state, GpuState::Ready);
        assert_eq!(hardware.gpus[2].temperature_celsius, Some(40.0));
    }
}

#[tokio::test]
async fn a_gpu_that_hangs_costs_the_deadline_once_and_gets_no_second_call() {
    let mut stuck = three(1_000, Some(hangs(POWER)));
    stuck.is_logged = true;
    let library = StandIn::new(&stuck);
    let source = impatient(&library);
    let started = Instant::now();
    let hardware = sample(&source).await;
    let took = started.elapsed();
    assert!(took >= SHORT_DEADLINE && took < 2 * SHORT_DEADLINE, "{took:?}");
    let unread = &hardware.unread[..];
    assert!(matches!(unread, [UnreadGpu { index: 1, .. }]), "{unread:?}");
    assert_eq!(hardware.gpus.len(), 2);

    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(sample(&source).await.gpus.len(), 2);
    }
    let took = started.elapsed();
    assert!(took < 20 * SHORT_DEADLINE / 2, "{took:?} for 20 samplings");
    assert_eq!(library.count(&format!("{POWER} 1")), 1);
    assert_eq!(library.count(&format!("{POWER} 0")), 21);
}

#[tokio::test]
async fn a_gpu_whose_call_came_back_is_read_again() {
    let library = StandIn::new(&three(1_000, None));
    let source = impatient(&library);
    sample(&source).await;
    // Its memory has been read when it hangs, so the late answer has it.
    library.set(&three(2_000, Some(hangs(POWER))));
    why_silent(&sample(&source).await.gpus[1]);
    library.set(&three(3_000, None));
    let hardware = all_ready(&source).await;
    assert_eq!(used(&hardware), mib([3_000, 3_000, 3_000]), "nothing from the call that was late");
}

#[tokio::test]
async fn a_lost_gpu_is_not_looked_for_while_another_hangs() {
    let library = StandIn::new(&three(1_000, None));
    let source = impatient(&library);
    sample(&source).await;
    let mut two_gone = three(2_000, Some(hangs(POWER)));
    two_gone.gpus[0].device.faults.push(fails("*", GPU_IS_LOST));
    library.set(&two_gone);
    // To look for it NVML would have to be closed, and the third would be silent as well.
    for _ in 0..5 {
        let hardware = sample(&source).await;
        assert_eq!(used(&hardware), mib([1_000, 1_000, 2_000]));
        assert_eq!(why_silent(&hardware.gpus[0]), "it fell off the bus");
        assert_eq!(hardware.gpus[2].state, GpuState::Ready);
    }
    library.set(&three(3_000, None));
    assert_eq!(used(&all_ready(&source).await), mib([3_000, 3_000, 3_000]));
}

#[tokio::test]
async fn a_lost_gpu_is_silent_and_back_once_it_was_reset() {
    let library = StandIn::new(&three(1_000, None));
    let source = source(&library);
    sample(&source).await;
    library.set(&three(2_000, Some(fails("*", GPU_IS_LOST))));
    // Two of them: in between NVML is opened anew, which does not help.
    for _ in 0..2 {
        let hardware = sample(&source).await;
        assert_eq!(why_silent(&hardware.gpus[1]), expected_reason(&hardware));
        assert_eq!(used(&hardware), mib([2_000, 1_000, 2_000]));
    }
    let mut reset = three(3_000, None);
    reset.gpus[1].generation = 2;
    library.set(&reset);
    assert_eq!(used(&all_ready(&source).await), mib([3_000, 3_000, 3_000]));
}

fn expected_reason(hardware: &Hardware) -> &'static str {
    match &hardware.unread[..] {
        [] => "it fell off the bus",
        [UnreadGpu { index: 1, why }] if &**why == "it fell off the bus" => {
            "it has not answered since NVML was opened anew"
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_gpu_that_the_driver_no_longer_counts_keeps_what_was_held_on_it() {
    let library = StandIn::new(&three(1_000, None));
    let source = source(&library);
    sample(&source).await;
    let mut fewer = three(2_000, None);
    fewer.gpus.remove(1);
    library.set(&fewer);
    let is_missed = |gpu: &Gpu| matches!(&gpu.state, GpuState::Silent { why } if why.contains("no longer counts"));
    let gone = async || {
        let hardware = sample(&source).await;
        hardware.gpus.iter().any(is_missed).then_some(hardware)
    };
    let hardware = eventually(DEADLINE, "the GPU to be missed", gone).await;
    let order: Vec<_> = hardware.gpus.iter().map(|gpu| gpu.index).collect();
    assert_eq!(order, [0, 1, 1], "its index is another GPU's by now");
    assert_eq!(used(&hardware), mib([2_000, 1_000, 2_000]));
}

#[tokio::test]
async fn opening_that_hangs_delays_one_sampling_and_works_when_it_comes_back() {
    let hanging = three(1_000, None).with_fault(hangs("nvmlInit_v2"));
    let library = StandIn::new(&hanging);
    let source = impatient(&library);
    let hardware = source.sample().await;
    assert!(why_away(&hardware).contains("opening NVML has not come back"), "{hardware:?}");
    let started = Instant::now();
    for _ in 0..20 {
        why_away(&source.sample().await);
    }
    let took = started.elapsed();
    assert!(took < 20 * SHORT_DEADLINE / 2, "{took:?} for 20 samplings");
    library.set(&three(2_000, None));
    assert_eq!(used(&all_ready(&source).await), mib([2_000, 2_000, 2_000]));
}

#[tokio::test]
async fn nvml_is_not_closed_under_a_call_that_hangs() {
    let library = StandIn::new(&three(1_000, None));
    let source = impatient(&library);
    sample(&source).await;
    library.set(&three(1_000, Some(hangs(POWER))));
    sample(&source).await;
    // The driver goes while GPU 1 is stuck: closing has to wait, and so has opening anew.
    let gone = three(1_000, Some(hangs(POWER))).with_fault(fails("nvmlDeviceGetUUID", 1));
    let mut reloaded = gone.clone();
    reloaded.gpus[0].device.faults.push(fails("*", 1));
    library.set(&reloaded);
    why_away(&source.sample().await);
    let hardware = source.sample().await;
    assert!(why_away(&hardware).contains("opening NVML has not come back"), "{hardware:?}");
    library.set(&three(2_000, None));
    assert_eq!(used(&all_ready(&source).await), mib([2_000, 2_000, 2_000]));
}

#[tokio::test]
async fn a_source_can_be_dropped_while_a_call_hangs() {
    let library = StandIn::new(&three(1_000, Some(hangs(POWER))));
    let source = impatient(&library);
    sample(&source).await;
    let started = Instant::now();
    tokio::task::spawn_blocking(move || drop(source)).await.unwrap();
    let took = started.elapsed();
    assert!(took < SHORT_DEADLINE + Duration::from_secs(5), "{took:?}");
    library.set(&three(1_000, None));
}
