//! GPUs as NVML tells them: the adapter loads a stand-in library as it loads the real one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod driver;
mod figures;
mod garbage;
mod mig;
mod page;
mod processes;
mod silence;
mod xids;

use std::time::Duration;

use filmgate::agent::hardware::{Driver, Gpu, GpuState, Hardware, Source as _};
use filmgate::agent::nvml::{NvmlSource, Pauses, Settings};
use support::nvml::StandIn;

/// For what should take milliseconds, on a machine that does much else.
const DEADLINE: Duration = Duration::from_secs(30);
/// What a call that hangs costs a test.
const SHORT_DEADLINE: Duration = Duration::from_secs(2);

/// Settings under which tests need not wait: every sampling tries everything.
fn settings(library: &StandIn) -> Settings {
    let at_once = Pauses { first: Duration::ZERO, longest: Duration::ZERO };
    Settings {
        library: Some(library.library()),
        deadline: DEADLINE,
        reopen: at_once,
        find: at_once,
        wear_interval: Duration::ZERO,
        ..Settings::default()
    }
}

fn source(library: &StandIn) -> NvmlSource {
    NvmlSource::new(settings(library))
}

/// A sampling with the driver in place.
async fn sample(source: &NvmlSource) -> Hardware {
    let hardware = source.sample().await;
    assert!(matches!(hardware.driver, Driver::Ready { .. }), "{:?}", hardware.driver);
    hardware
}

/// The first GPU, of a library that was not asked before.
async fn first_gpu(library: &StandIn) -> Gpu {
    sample(&source(library)).await.gpus.remove(0)
}

fn why_silent(gpu: &Gpu) -> &str {
    match &gpu.state {
        GpuState::Silent { why } => why,
        other => panic!("{}: {other:?}", gpu.uuid),
    }
}

fn why_failing(gpu: &Gpu) -> &str {
    match &gpu.state {
        GpuState::Failing { why } => why,
        other => panic!("{}: {other:?}", gpu.uuid),
    }
}

fn why_away(hardware: &Hardware) -> &str {
    match &hardware.driver {
        Driver::Away { why } => why,
        Driver::Ready { version } => panic!("driver {version} is ready"),
    }
}
