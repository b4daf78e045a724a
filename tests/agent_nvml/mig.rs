//! GPUs that MIG has split.

use filmgate::agent::hardware::{Gpu, GpuState, Memory, Mig, Processes};
use filmgate::engine::{Bytes, GpuUuid};

use crate::support::nvml::scenario::{self, Instance};
use crate::support::nvml::{self, StandIn, fails, gpu, instance, machine};
use crate::{sample, source, why_silent};

const NO_PERMISSION: u32 = 4;

/// GPU 0 is whole; GPU 1 is split and has instances in slots 0 and 2.
fn split(first: Instance, second: Instance) -> scenario::Scenario {
    let mut parent = gpu(1);
    parent.temperature = Some(50);
    parent.mig = Some(vec![Some(first), None, Some(second)]);
    machine([gpu(0), parent, gpu(2)])
}

fn names(gpus: &[Gpu]) -> Vec<&str> {
    gpus.iter().map(|gpu| gpu.uuid.as_str()).collect()
}

#[tokio::test]
async fn instances_follow_their_parent_with_their_own_memory_and_processes() {
    let mut first = instance(1, (7, 0));
    first.device = first.device.with_process(31, 1_000);
    let mut second = instance(2, (8, 1));
    second.device = second.device.with_process(32, 2_000);
    let library = StandIn::new(&split(first.clone(), second.clone()));
    let gpus = sample(&source(&library)).await.gpus;
    let expected =
        [&*nvml::uuid(0), &nvml::uuid(1), &first.device.uuid, &second.device.uuid, &nvml::uuid(2)];
    assert_eq!(names(&gpus), expected);
    assert_eq!(gpus[1].mig, Mig::Parent);
    let of_second = Mig::Instance {
        parent: GpuUuid::from(nvml::uuid(1)),
        profile: "1g.10gb".into(),
        gpu_instance: 8,
        compute_instance: 1,
    };
    assert_eq!((gpus[3].index, &gpus[3].mig, &gpus[3].state), (1, &of_second, &GpuState::Ready));
    let memory = Memory {
        total: Bytes::mib(9_984),
        used: Bytes::mib(2_000),
        reserved: Bytes::mib(16),
        free: Bytes::mib(9_984 - 16 - 2_000),
    };
    assert_eq!(gpus[3].memory, memory);
    let processes = [31, 32].map(|pid| (pid, Some(Bytes::mib(1_000 * u64::from(pid - 30)))));
    for (gpu, expected) in gpus[2..4].iter().zip(processes) {
        let Processes::Known(listed) = &gpu.processes else { panic!("{:?}", gpu.processes) };
        let listed: Vec<_> = listed.iter().map(|it| (it.pid, it.memory)).collect();
        assert_eq!(listed, [expected]);
    }
    assert_eq!(gpus[3].temperature_celsius, Some(50.0), "it is the same chip");
    assert_eq!(gpus[3].utilization_ratio, None);
}

#[tokio::test]
async fn without_the_privilege_the_parent_hides_and_the_instances_tell() {
    let mut scenario = split(instance(1, (7, 0)), instance(2, (8, 0)));
    let functions = [
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3",
    ];
    // Faults of a GPU strike its instances as well, so it is the first calls that fail.
    for function in functions {
        let fault = scenario::Fault { times: Some(1), ..fails(function, NO_PERMISSION) };
        scenario.gpus[1].device.faults.push(fault);
    }
    let gpus = sample(&source(&StandIn::new(&scenario))).await.gpus;
    assert_eq!((&gpus[1].state, gpus[1].memory), (&GpuState::Ready, Memory::default()));
    assert!(matches!(gpus[1].processes, Processes::Hidden { .. }), "{:?}", gpus[1].processes);
    assert_eq!(gpus[2].memory.total, Bytes::mib(9_984));
    assert!(matches!(gpus[2].processes, Processes::Known(_)), "{:?}", gpus[2].processes);
}

#[tokio::test]
async fn profiles_are_composed_where_the_name_lacks_them() {
    let mut nameless = instance(1, (7, 0));
    nameless.device.name = "NVIDIA H100 80GB HBM3".into();
    nameless.attributes = Some((1, 1, 2_944));
    let gpus = sample(&source(&StandIn::new(&split(nameless, instance(2, (8, 0)))))).await.gpus;
    let Mig::Instance { profile, .. } = &gpus[2].mig else { panic!("{:?}", gpus[2].mig) };
    assert_eq!(&**profile, "1g.3gb");
}

#[tokio::test]
async fn instances_come_and_go() {
    let (first, second) = (instance(1, (7, 0)), instance(2, (8, 0)));
    let library = StandIn::new(&split(first.clone(), second));
    let source = source(&library);
    assert_eq!(sample(&source).await.gpus.len(), 5);
    let mut scenario = split(first.clone(), first.clone());
    scenario.gpus[1].mig = Some(vec![None, Some(first.clone())]);
    library.set(&scenario);
    let gpus = sample(&source).await.gpus;
    let left = [&*nvml::uuid(0), &nvml::uuid(1), &first.device.uuid, &nvml::uuid(2)];
    assert_eq!(names(&gpus), left);
}

#[tokio::test]
async fn instances_of_a_lost_gpu_are_silent_with_it() {
    let scenario = split(instance(1, (7, 0)), instance(2, (8, 0)));
    let library = StandIn::new(&scenario);
    let source = source(&library);
    sample(&source).await;
    let mut lost = scenario.clone();
    lost.gpus[1].device.faults.push(fails("*", 15));
    library.set(&lost);
    let gpus = sample(&source).await.gpus;
    assert_eq!(gpus.len(), 5);
    for gpu in &gpus[1..4] {
        assert_eq!(why_silent(gpu), "it fell off the bus");
    }
    assert_eq!(gpus[3].memory.total, Bytes::mib(9_984), "the last known");
    assert_eq!((&gpus[0].state, &gpus[4].state), (&GpuState::Ready, &GpuState::Ready));
}
