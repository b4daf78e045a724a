//! The driver comes, goes and changes under the agent's feet.

use std::time::Duration;

use filmgate::agent::hardware::{Driver, GpuState, Hardware, Source as _};
use filmgate::agent::nvml::{NvmlSource, Pauses, Settings};
use filmgate::engine::Bytes;

use crate::support::eventually::eventually;
use crate::support::nvml::scenario::Scenario;
use crate::support::nvml::{StandIn, fails, gpu, machine};
use crate::{DEADLINE, sample, settings, source, why_away, why_silent};

const UNINITIALIZED: u32 = 1;
const DRIVER_NOT_LOADED: u32 = 9;
const LIB_RM_VERSION_MISMATCH: u32 = 18;
const UNKNOWN: u32 = 999;

fn two(mib: u64) -> Scenario {
    machine([gpu(0).with_process(1, mib), gpu(1).with_process(2, mib)])
}

fn used(hardware: &Hardware) -> Vec<Bytes> {
    hardware.gpus.iter().map(|gpu| gpu.memory.used).collect()
}

#[tokio::test]
async fn a_driver_that_is_not_installed_is_noticed_once_it_is() {
    let library = StandIn::absent(&two(1_000));
    let source = source(&library);
    let hardware = source.sample().await;
    let why = why_away(&hardware);
    assert!(why.contains("NVML cannot be loaded") && why.contains("libnvidia-ml.so.1"), "{why}");
    assert!(hardware.gpus.is_empty());
    library.install();
    assert_eq!(used(&sample(&source).await), [Bytes::mib(1_000); 2]);
}

#[tokio::test]
async fn what_keeps_the_driver_away_is_said_and_ends() {
    for (function, code, says) in [
        ("nvmlInit_v2", DRIVER_NOT_LOADED, "the NVIDIA driver is not loaded"),
        ("nvmlInit_v2", LIB_RM_VERSION_MISMATCH, "differ in version"),
        ("nvmlInit_v2", 4, "does not have permission"),
        ("nvmlDeviceGetCount_v2", UNKNOWN, "unknown error"),
    ] {
        let library = StandIn::new(&two(1_000).with_fault(fails(function, code)));
        let source = source(&library);
        let hardware = source.sample().await;
        assert!(why_away(&hardware).contains(says), "{hardware:?}");
        library.set(&two(1_000));
        assert_eq!(sample(&source).await.gpus.len(), 2);
    }
}

#[tokio::test]
async fn a_driver_that_goes_leaves_its_gpus_silent_with_what_was_held_on_them() {
    for code in [UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH, UNKNOWN] {
        let library = StandIn::new(&two(1_000));
        let source = source(&library);
        sample(&source).await;
        library.set(&two(2_000).with_fault(fails("*", code)));
        for _ in 0..3 {
            let hardware = source.sample().await;
            let why = why_away(&hardware).to_owned();
            assert_eq!(used(&hardware), [Bytes::mib(1_000); 2], "{code}");
            assert!(hardware.gpus.iter().all(|gpu| why_silent(gpu) == why), "{hardware:?}");
        }
        library.set(&two(3_000));
        let hardware = sample(&source).await;
        assert_eq!(used(&hardware), [Bytes::mib(3_000); 2], "{code}");
        assert!(hardware.gpus.iter().all(|gpu| gpu.state == GpuState::Ready), "{hardware:?}");
    }
}

#[tokio::test]
async fn a_driver_loaded_anew_is_opened_anew() {
    let library = StandIn::new(&two(1_000));
    let source = source(&library);
    sample(&source).await;
    let mut reloaded = two(2_000);
    reloaded.generation = 2;
    reloaded.driver = "580.105.08".into();
    library.set(&reloaded);
    let back = async || {
        let hardware = source.sample().await;
        matches!(&hardware.driver, Driver::Ready { version } if &**version == "580.105.08")
            .then_some(hardware)
    };
    let hardware = eventually(DEADLINE, "the new driver", back).await;
    assert_eq!(used(&hardware), [Bytes::mib(2_000); 2]);
}

#[tokio::test]
async fn a_machine_without_gpus_is_looked_at_again() {
    let library = StandIn::new(&machine([]));
    let source = source(&library);
    assert!(sample(&source).await.gpus.is_empty());
    library.set(&two(1_000));
    assert_eq!(sample(&source).await.gpus.len(), 2);
}

#[tokio::test]
async fn between_tries_there_are_pauses() {
    let mut broken = two(1_000).with_fault(fails("nvmlInit_v2", DRIVER_NOT_LOADED));
    broken.is_logged = true;
    let library = StandIn::new(&broken);
    let hour = Duration::from_secs(3600);
    let patient = Settings { reopen: Pauses { first: hour, longest: hour }, ..settings(&library) };
    let source = NvmlSource::new(patient);
    for _ in 0..5 {
        assert_eq!(why_away(&source.sample().await), "the NVIDIA driver is not loaded");
    }
    assert_eq!(library.count("nvmlInit_v2"), 1);
}

#[tokio::test]
async fn a_library_that_cannot_be_closed_does_no_harm() {
    let library = StandIn::without(&two(1_000), &["nvmlShutdown", "nvmlEventSetFree"]);
    let source = source(&library);
    assert_eq!(sample(&source).await.gpus.len(), 2);
    let mut reloaded = two(2_000);
    reloaded.generation = 2;
    library.set(&reloaded);
    // It stays as it was opened, and says so without end.
    why_away(&source.sample().await);
    why_away(&source.sample().await);
}

#[tokio::test]
async fn nvml_is_closed_when_the_source_is_dropped() {
    let mut scenario = two(1_000);
    scenario.is_logged = true;
    let library = StandIn::new(&scenario);
    let source = source(&library);
    sample(&source).await;
    assert_eq!(library.count("nvmlShutdown"), 0);
    tokio::task::spawn_blocking(move || drop(source)).await.unwrap();
    assert_eq!(library.count("nvmlShutdown"), 1);
}
