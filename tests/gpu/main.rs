//! The real driver and a real GPU: `make test-gpu`. Where there is none it says so in one line and
//! passes; as a part of all tests it does nothing.
//!
//! A process of its own allocates memory through CUDA's driver API, and what NVML's adapter reports
//! of it is checked to the megabyte.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cuda;
mod tenant;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use filmgate::agent::hardware::{Driver, Gpu, Hardware, Processes, Source as _};
use filmgate::agent::nvml::{NvmlSource, Settings};
use filmgate::engine::Bytes;
use tenant::Tenant;

/// Set by `make test-gpu`.
const ASKED_FOR: &str = "FILMGATE_TEST_GPU";
/// The first argument of the process that allocates memory.
const TENANT: &str = "--hold-memory";
/// A driver leaves these; the last is that of WSL.
const DRIVERS: [&str; 3] = ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"];
const ALLOCATED: Bytes = Bytes::mib(1_000);
const MEGABYTE: Bytes = Bytes::mib(1);

fn main() {
    if std::env::args().nth(1).as_deref() == Some(TENANT) {
        return tenant::run();
    }
    if std::env::var_os(ASKED_FOR).is_none() {
        return;
    }
    if !DRIVERS.iter().any(|path| Path::new(path).exists()) {
        println!("test-gpu: skipped, this machine has no NVIDIA driver ({})", DRIVERS.join(", "));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check());
    println!("test-gpu: passed");
}

async fn check() {
    // The first call about a GPU may have to wake it up.
    let patient = Settings { deadline: Duration::from_secs(30), ..Settings::default() };
    let nvml = NvmlSource::new(patient);
    let mut tenant = Tenant::start();
    let idle = sample(&nvml, &tenant).await;
    println!("test-gpu: {} ({}), {:?}", idle.gpu.model, idle.gpu.uuid, idle.gpu.memory);
    compare_with_nvidia_smi(&idle.gpu);

    tenant.allocate(ALLOCATED);
    let busy = sample(&nvml, &tenant).await;
    assert_grown("used memory", idle.gpu.memory.used, busy.gpu.memory.used);
    compare_with_nvidia_smi(&busy.gpu);
    match (idle.held, busy.held) {
        (Some(before), Some(after)) => assert_grown("the process' memory", before, after),
        (None, None) => println!("test-gpu: the driver hides processes: {:?}", busy.gpu.processes),
        (before, after) => panic!("seen before: {before:?}, and then: {after:?}"),
    }

    tenant.free();
    let freed = sample(&nvml, &tenant).await;
    assert_same("used memory, freed", idle.gpu.memory.used, freed.gpu.memory.used);
    let pid = tenant.end();
    let hardware = nvml.sample().await;
    assert!(hardware.gpus.iter().all(|gpu| held(gpu, pid).is_none()), "{hardware:?}");
}

/// The GPU of the tenant, and what NVML says that it holds there.
struct Seen {
    gpu: Gpu,
    held: Option<Bytes>,
}

async fn sample(nvml: &NvmlSource, tenant: &Tenant) -> Seen {
    let Hardware { driver, gpus, .. } = nvml.sample().await;
    assert!(matches!(driver, Driver::Ready { .. }), "{driver:?}");
    let gpu =
        gpus.into_iter().find(|gpu| gpu.uuid.as_str().ends_with(&tenant.gpu)).expect("its GPU");
    let Processes::Known(processes) = &gpu.processes else { return Seen { gpu, held: None } };
    let listed: Vec<_> = processes.iter().map(|process| process.pid).collect();
    assert!(listed.contains(&tenant.pid()), "{} is not among {listed:?}", tenant.pid());
    let held = held(&gpu, tenant.pid());
    Seen { gpu, held }
}

fn held(gpu: &Gpu, pid: u32) -> Option<Bytes> {
    let Processes::Known(processes) = &gpu.processes else { return None };
    processes.iter().find(|process| process.pid == pid)?.memory
}

fn assert_grown(what: &str, before: Bytes, after: Bytes) {
    assert_same(what, before + ALLOCATED, after);
}

fn assert_same(what: &str, expected: Bytes, found: Bytes) {
    let difference = (expected - found) + (found - expected);
    assert!(difference < MEGABYTE, "{what}: {} instead of {} B", found.get(), expected.get());
    println!("test-gpu: {what}: {} B, as expected to {} B", found.get(), difference.get());
}

/// NVIDIA's own tool must say the same, where it is there. It knows GPUs, not MIG instances.
fn compare_with_nvidia_smi(gpu: &Gpu) {
    let mut tool = Command::new("nvidia-smi");
    tool.args(["--query-gpu=memory.total,memory.reserved,memory.used,memory.free"]);
    tool.args(["--format=csv,noheader,nounits", &format!("--id={}", gpu.uuid)]);
    let Some(output) = tool.output().ok().filter(|output| output.status.success()) else {
        println!("test-gpu: not compared with nvidia-smi");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let theirs: Vec<_> = text.trim().split(", ").map(str::parse::<u64>).collect();
    let memory = gpu.memory;
    let ours = [memory.total, memory.reserved, memory.used, memory.free];
    assert_eq!(theirs.len(), ours.len(), "{text}");
    for (theirs, ours) in theirs.into_iter().zip(ours) {
        let Ok(theirs) = theirs else { continue };
        assert!(
            ours.get().div_ceil(1 << 20).abs_diff(theirs) <= 1,
            "nvidia-smi: {text}, {memory:?}"
        );
    }
}
