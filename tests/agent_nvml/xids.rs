//! XID errors.

use filmgate::agent::hardware::{GpuState, Hardware, Source as _};
use filmgate::agent::nvml::{HARMLESS_XIDS, NvmlSource, Settings};

use crate::support::eventually::eventually;
use crate::support::nvml::scenario::{Scenario, Xid};
use crate::support::nvml::{StandIn, fails, gpu, instance, machine};
use crate::{DEADLINE, sample, settings, source, why_failing};

/// The scenario after these errors: index of the GPU and number.
pub(crate) fn after(scenario: &Scenario, errors: &[(usize, u64)]) -> Scenario {
    let mut after = scenario.clone();
    for (gpu, xid) in errors.iter().copied() {
        let sequence = after.xids.len() as u64 + 1;
        after.xids.push(Xid { sequence, gpu, xid, instance: None });
    }
    after
}

/// Waits until GPUs have these errors.
pub(crate) async fn errors(source: &NvmlSource, expected: &[(usize, &[(u64, u64)])]) -> Hardware {
    let seen = async || {
        let hardware = source.sample().await;
        let all = expected.iter().all(|(gpu, xids)| hardware.gpus[*gpu].xids == *xids);
        if all { Ok(hardware) } else { Err(format!("{hardware:?}")) }
    };
    eventually(DEADLINE, "the errors", seen).await
}

/// A source that listens already: what happened before is not told.
pub(crate) async fn listening(library: &StandIn, scenario: &Scenario) -> NvmlSource {
    let mut logged = scenario.clone();
    logged.is_logged = true;
    library.set(&logged);
    let source = source(library);
    sample(&source).await;
    let registered = async || {
        let count = |gpu| library.count(&format!("nvmlDeviceRegisterEvents {gpu}"));
        (0..scenario.gpus.len()).all(|gpu| count(gpu) == 1).then_some(())
    };
    eventually(DEADLINE, "the listeners", registered).await;
    source
}

#[tokio::test]
async fn errors_are_counted_by_gpu_and_number() {
    let scenario = machine([gpu(0), gpu(1)]);
    let library = StandIn::new(&scenario);
    let source = listening(&library, &scenario).await;
    let scenario = after(&scenario, &[(0, 13), (1, 31), (0, 13), (0, 45)]);
    library.set(&scenario);
    let seen = errors(&source, &[(0, &[(13, 2), (45, 1)]), (1, &[(31, 1)])]).await;
    assert!(seen.gpus.iter().all(|gpu| gpu.state == GpuState::Ready), "{seen:?}");
    library.set(&after(&scenario, &[(1, 31)]));
    errors(&source, &[(0, &[(13, 2), (45, 1)]), (1, &[(31, 2)])]).await;
}

#[tokio::test]
async fn an_error_that_the_device_plugin_heeds_makes_the_gpu_failing() {
    let scenario = machine([gpu(0), gpu(1)]);
    let library = StandIn::new(&scenario);
    let source = listening(&library, &scenario).await;
    let harmless = HARMLESS_XIDS.map(|xid| (0, xid));
    library.set(&after(&after(&scenario, &harmless), &[(1, 48)]));
    let counts = HARMLESS_XIDS.map(|xid| (xid, 1));
    let seen = errors(&source, &[(0, &counts), (1, &[(48, 1)])]).await;
    assert_eq!(seen.gpus[0].state, GpuState::Ready);
    assert_eq!(why_failing(&seen.gpus[1]), "XID 48");
}

#[tokio::test]
async fn which_errors_are_harmless_is_a_setting() {
    let scenario = machine([gpu(0)]);
    let library = StandIn::new(&scenario);
    let source = NvmlSource::new(Settings { harmless_xids: vec![94], ..settings(&library) });
    sample(&source).await;
    // Listening begins with the first sampling and is not waited for there.
    let mut scenario = scenario;
    let ready = async || {
        scenario = after(&scenario, &[(0, 94)]);
        library.set(&scenario);
        let gpu = sample(&source).await.gpus.remove(0);
        (!gpu.xids.is_empty()).then_some(gpu)
    };
    let gpu = eventually(DEADLINE, "an error", ready).await;
    assert_eq!(gpu.state, GpuState::Ready);
    library.set(&after(&scenario, &[(0, 13)]));
    let failing = async || {
        let gpu = sample(&source).await.gpus.remove(0);
        matches!(&gpu.state, GpuState::Failing { why } if &**why == "XID 13").then_some(())
    };
    eventually(DEADLINE, "XID 13", failing).await;
}

#[tokio::test]
async fn an_error_is_told_before_the_next_sampling_is_due() {
    let scenario = machine([gpu(0)]);
    let library = StandIn::new(&scenario);
    let source = listening(&library, &scenario).await;
    let mut movements = source.movements().unwrap();
    movements.borrow_and_update();
    library.set(&after(&scenario, &[(0, 79)]));
    tokio::time::timeout(DEADLINE, movements.changed()).await.expect("a movement").unwrap();
    assert_eq!(sample(&source).await.gpus[0].xids, [(79, 1)]);
}

/// Waits until the GPU can take work.
async fn ready(source: &NvmlSource, gpu: usize) -> Hardware {
    let ready = async || {
        let hardware = source.sample().await;
        let is_ready = hardware.gpus[gpu].state == GpuState::Ready;
        if is_ready { Ok(hardware) } else { Err(format!("{hardware:?}")) }
    };
    eventually(DEADLINE, "the GPU to be ready", ready).await
}

#[tokio::test]
async fn an_error_stands_until_the_driver_was_loaded_anew_and_stays_counted() {
    let scenario = machine([gpu(0), gpu(1)]);
    let library = StandIn::new(&scenario);
    let source = listening(&library, &scenario).await;
    let mut scenario = after(&scenario, &[(0, 119)]);
    library.set(&scenario);
    errors(&source, &[(0, &[(119, 1)])]).await;
    // GPU 1 is lost, so NVML is opened anew again and again; GPU 0 is none the better for it.
    scenario.gpus[1].device.faults.push(fails("*", 15));
    library.set(&scenario);
    for _ in 0..3 {
        assert_eq!(why_failing(&sample(&source).await.gpus[0]), "XID 119");
    }
    scenario.gpus[1].device.faults.clear();
    library.set(&scenario);
    let hardware = ready(&source, 1).await;
    assert_eq!(why_failing(&hardware.gpus[0]), "XID 119");

    scenario.generation = 2;
    library.set(&scenario);
    let hardware = ready(&source, 0).await;
    assert_eq!(hardware.gpus[0].xids, [(119, 1)]);
}

#[tokio::test]
async fn an_error_of_one_instance_leaves_the_other_alone() {
    let mut parent = gpu(0);
    parent.mig = Some(vec![Some(instance(1, (7, 0))), Some(instance(2, (8, 0)))]);
    let scenario = machine([parent]);
    let library = StandIn::new(&scenario);
    let source = listening(&library, &scenario).await;
    let mut scenario = scenario;
    scenario.xids.push(Xid { sequence: 1, gpu: 0, xid: 94, instance: Some((8, 0)) });
    library.set(&scenario);
    let seen = errors(&source, &[(0, &[(94, 1)]), (1, &[]), (2, &[(94, 1)])]).await;
    assert_eq!(seen.gpus[1].state, GpuState::Ready);
    assert_eq!(why_failing(&seen.gpus[2]), "XID 94");
    library.set(&after(&scenario, &[(0, 95)]));
    let seen = errors(&source, &[(1, &[(95, 1)]), (2, &[(94, 1), (95, 1)])]).await;
    assert_eq!(why_failing(&seen.gpus[1]), "XID 95");
}
