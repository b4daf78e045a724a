//! Figures that cannot be.

use filmgate::agent::hardware::{GpuState, Processes};
use filmgate::engine::Bytes;

use crate::support::nvml::scenario::{Gpu, Memory, Process, Sample};
use crate::support::nvml::{StandIn, gpu, machine};
use crate::{first_gpu, sample, source, why_away};
use filmgate::agent::hardware::Source as _;

#[tokio::test]
async fn a_name_that_is_not_utf_8_is_read_as_far_as_it_goes() {
    let mut odd = gpu(0);
    odd.device.name = "NVIDIA \u{ff}10".into();
    let gpu = first_gpu(&StandIn::new(&machine([odd]))).await;
    assert_eq!(&*gpu.model, "NVIDIA \u{fffd}10");
    assert_eq!(gpu.state, GpuState::Ready);
}

#[tokio::test]
async fn a_gpu_without_a_readable_uuid_is_named_by_its_index_and_the_others_are_read() {
    let mut odd = gpu(1);
    odd.device.uuid = "GPU-\u{ff}".into();
    let hardware = sample(&source(&StandIn::new(&machine([gpu(0), odd, gpu(2)])))).await;
    assert_eq!(hardware.gpus.len(), 2);
    assert_eq!(hardware.unread[0].index, 1);
    assert!(hardware.unread[0].why.contains("utf-8"), "{:?}", hardware.unread);
}

#[tokio::test]
async fn used_memory_is_never_below_the_drivers() {
    const GIB: u64 = 1 << 30;
    for (total, reserved, free, used) in [
        (0, 0, 0, 0),
        (0, 0, 0, GIB),
        (24 * GIB, GIB, 0, 30 * GIB),
        (24 * GIB, 30 * GIB, 24 * GIB, 5 * GIB),
        (24 * GIB, GIB, 40 * GIB, 5 * GIB),
        (24 * GIB, 0, u64::MAX, 5 * GIB),
        (u64::MAX, u64::MAX, u64::MAX, u64::MAX),
    ] {
        let mut odd = gpu(0);
        odd.device.memory = Memory { total, reserved, free, used };
        let memory = first_gpu(&StandIn::new(&machine([odd]))).await.memory;
        assert!(memory.used >= Bytes::new(used), "{memory:?}");
        assert_eq!(memory.total, Bytes::new(total));
    }
}

#[tokio::test]
async fn impossible_processes_and_figures_are_passed_on_or_left_out() {
    let odd = Gpu {
        samples: Some(vec![Sample { time: u64::MAX, kernels: 4_000, memory: u32::MAX }; 3]),
        rates: Some((400, 101)),
        temperature: Some(u32::MAX),
        power: Some(u32::MAX),
        throttle: Some(u64::MAX),
        ecc: Some((u64::MAX, u64::MAX)),
        remapped: Some((u32::MAX, u32::MAX, u32::MAX, 0)),
        ..gpu(0)
    };
    let mut odd = odd;
    odd.device.compute = vec![
        Process { pid: 0, memory: Some(u64::MAX - 1) },
        Process { pid: u32::MAX, memory: Some(0) },
        Process { pid: 0, memory: Some(1) },
    ];
    let library = StandIn::new(&machine([odd]));
    let source = source(&library);
    for _ in 0..2 {
        let gpu = sample(&source).await.gpus.remove(0);
        assert_eq!((gpu.utilization_ratio, gpu.memory_utilization_ratio), (None, None));
        let Processes::Known(processes) = &gpu.processes else { panic!("{gpu:?}") };
        let memory: Vec<_> = processes.iter().map(|it| (it.pid, it.memory)).collect();
        let most = Some(Bytes::new(u64::MAX - 1));
        assert_eq!(memory, [(0, most), (u32::MAX, Some(Bytes::ZERO))]);
    }
}

#[tokio::test]
async fn two_gpus_of_one_uuid_are_one() {
    let twin = gpu(0).with_process(1, 100);
    let hardware = sample(&source(&StandIn::new(&machine([gpu(0), twin, gpu(1)])))).await;
    assert_eq!(hardware.gpus.len(), 2);
}

#[tokio::test]
async fn a_library_that_is_none_is_not_loaded() {
    let library = StandIn::absent(&machine([gpu(0)]));
    std::fs::write(library.library(), "#!/bin/sh\n").unwrap();
    let hardware = source(&library).sample().await;
    assert!(why_away(&hardware).contains("NVML cannot be loaded"), "{hardware:?}");
}
