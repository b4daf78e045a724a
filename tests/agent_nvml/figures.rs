//! Memory, and how a GPU is doing.

use std::time::Duration;

use filmgate::agent::hardware::{
    Driver, EccErrors, Gpu, GpuState, Memory, Mig, Process, Processes, RemappedRows,
};
use filmgate::agent::nvml::NvmlSource;
use filmgate::engine::{Bytes, GpuUuid};

use crate::support::nvml::scenario::Sample;
use crate::support::nvml::{self, StandIn, fails, gpu, machine, memory};
use crate::{first_gpu, sample, settings, source, why_failing};

const NOT_SUPPORTED: u32 = 3;

pub(crate) fn working_gpu(index: u32) -> nvml::scenario::Gpu {
    let mut gpu = gpu(index).with_process(4711, 7_000);
    gpu.rates = Some((40, 30));
    gpu.temperature = Some(61);
    gpu.power = Some(123_456);
    gpu.throttle = Some(0x4 | 0x20 | 0x8000_0000);
    gpu.ecc = Some((5, 2));
    gpu.remapped = Some((3, 1, 1, 0));
    gpu.retired = Some((4, 1));
    gpu
}

#[tokio::test]
async fn every_figure_is_the_drivers() {
    let library = StandIn::new(&machine([gpu(0), working_gpu(1)]));
    let hardware = sample(&source(&library)).await;
    assert_eq!(hardware.driver, Driver::Ready { version: "580.95.05".into() });
    assert_eq!((hardware.gpus.len(), hardware.unread.len()), (2, 0));
    assert_eq!(
        hardware.gpus[1],
        Gpu {
            index: 1,
            uuid: GpuUuid::from(nvml::uuid(1)),
            model: "NVIDIA A10".into(),
            pci_bus_id: Some("00000000:02:00.0".into()),
            mig: Mig::Off,
            state: GpuState::Ready,
            memory: Memory {
                total: Bytes::gib(24),
                used: Bytes::mib(7_000),
                reserved: Bytes::mib(512),
                free: Bytes::mib(24_576 - 512 - 7_000),
            },
            processes: Processes::Known(vec![Process {
                pid: 4711,
                memory: Some(Bytes::mib(7_000))
            }]),
            utilization_ratio: Some(0.4),
            memory_utilization_ratio: Some(0.3),
            temperature_celsius: Some(61.0),
            power_watts: Some(123.456),
            throttle_reasons: Some(vec!["sw_power_cap", "sw_thermal_slowdown"]),
            ecc_errors: Some(EccErrors { corrected: 5, uncorrected: 2 }),
            remapped_rows: Some(RemappedRows {
                corrected: 3,
                uncorrected: 1,
                is_pending: true,
                has_failed: false
            }),
            retired_pages: Some(5),
            xids: Vec::new(),
        }
    );
}

#[tokio::test]
async fn what_a_driver_lacks_is_left_out_and_the_gpu_stays() {
    let all = [
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetSamples",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetRetiredPages",
        "nvmlDeviceGetPciInfo_v3",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceRegisterEvents",
    ];
    let unsupported = all
        .iter()
        .fold(working_gpu(0), |gpu, function| gpu.with_fault(fails(function, NOT_SUPPORTED)));
    let libraries =
        [StandIn::new(&machine([unsupported])), StandIn::without(&machine([working_gpu(0)]), &all)];
    for library in libraries {
        let gpu = first_gpu(&library).await;
        assert_eq!(gpu.state, GpuState::Ready);
        assert_eq!(gpu.memory.used, Bytes::mib(7_000));
        assert_eq!((gpu.temperature_celsius, gpu.power_watts), (None, None));
        assert_eq!((gpu.utilization_ratio, gpu.memory_utilization_ratio), (None, None));
        assert_eq!((gpu.ecc_errors, gpu.remapped_rows, gpu.retired_pages), (None, None, None));
        assert_eq!((gpu.throttle_reasons, gpu.pci_bus_id), (None, None));
    }
}

#[tokio::test]
async fn memory_comes_from_the_first_version_of_the_call_where_the_second_fails() {
    const V2: &str = "nvmlDeviceGetMemoryInfo_v2";
    let unsupported = working_gpu(0).with_fault(fails(V2, NOT_SUPPORTED));
    let unknown = working_gpu(0).with_fault(fails(V2, 999));
    let libraries = [
        StandIn::new(&machine([unsupported])),
        StandIn::new(&machine([unknown])),
        StandIn::without(&machine([working_gpu(0)]), &[V2]),
    ];
    for library in libraries {
        let gpu = first_gpu(&library).await;
        let memory = Memory {
            total: Bytes::gib(24),
            used: Bytes::mib(7_512),
            reserved: Bytes::ZERO,
            free: Bytes::mib(24_576 - 7_512),
        };
        assert_eq!((gpu.state, gpu.memory), (GpuState::Ready, memory));
    }
}

#[tokio::test]
async fn a_gpu_whose_rows_cannot_be_remapped_is_failing() {
    let mut worn = working_gpu(0);
    worn.remapped = Some((0, 8, 0, 1));
    let gpu = first_gpu(&StandIn::new(&machine([worn]))).await;
    assert!(why_failing(&gpu).contains("could not be remapped"), "{:?}", gpu.state);
}

#[tokio::test]
async fn utilization_is_the_mean_of_the_time_since_the_last_sampling() {
    let mut busy = working_gpu(0);
    let samples = |samples: &[(u64, u32, u32)]| {
        let sample = |(time, kernels, memory)| Sample { time, kernels, memory };
        Some(samples.iter().copied().map(sample).collect())
    };
    busy.samples = samples(&[(1, 100, 100), (2, 100, 100)]);
    let library = StandIn::new(&machine([busy.clone()]));
    let source = source(&library);
    let ratios = async || {
        let gpu = sample(&source).await.gpus.remove(0);
        (gpu.utilization_ratio, gpu.memory_utilization_ratio)
    };
    assert_eq!(ratios().await, (Some(0.4), Some(0.3)), "the driver's own, at first");

    busy.samples = samples(&[(2, 100, 100), (3, 80, 10), (4, 0, 0), (5, 10, 50)]);
    library.set(&machine([busy.clone()]));
    assert_eq!(ratios().await, (Some(0.3), Some(0.2)));
    assert_eq!(ratios().await, (Some(0.4), Some(0.3)), "the driver's own, where nothing is new");
}

#[tokio::test]
async fn what_changes_seldom_is_asked_for_seldom() {
    let mut scenario = machine([working_gpu(0)]);
    scenario.is_logged = true;
    let library = StandIn::new(&scenario);
    let rare = filmgate::agent::nvml::Settings {
        wear_interval: Duration::from_secs(3600),
        ..settings(&library)
    };
    let source = NvmlSource::new(rare);
    for _ in 0..3 {
        let gpu = sample(&source).await.gpus.remove(0);
        assert_eq!(gpu.retired_pages, Some(5));
    }
    assert_eq!(library.count("nvmlDeviceGetFieldValues 0"), 1);
    assert_eq!(library.count("nvmlDeviceGetTemperature 0"), 3);
}

#[tokio::test]
async fn a_movement_shows_at_the_next_sampling() {
    let library = StandIn::new(&machine([gpu(0)]));
    let source = source(&library);
    assert_eq!(sample(&source).await.gpus[0].memory.used, Bytes::ZERO);
    let mut grown = gpu(0);
    grown.device.memory = memory(24_576, 512, 9_000);
    library.set(&machine([grown]));
    assert_eq!(sample(&source).await.gpus[0].memory.used, Bytes::mib(9_000));
}
