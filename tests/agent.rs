//! `filmgate agent`, the process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use filmgate::clock::Clock;
use filmgate::engine::Bytes;
use filmgate::metrics::catalogue::CHAPTERS;
use filmgate::readings::client::{ClientConfig, Event, ReadingsClient};
use filmgate::readings::discovery::endpoint;
use support::eventually::eventually;
use support::metrics::Metrics;
use support::nvml::scenario::{Scenario, Xid};
use support::nvml::{StandIn, gpu, hangs, machine, uuid};
use support::port::ReservedPort;
use support::proc::{self, InPod};
use support::process::Process;
use support::prometheus;
use tokio::sync::mpsc;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

fn scenario(memory: &str) -> String {
    format!("nodes: [{{ name: n0, gpus: [{{ total: 24Gi, foreign: [{{ memory: {memory} }}] }}] }}]")
}

fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.env_clear().arg("agent").args(arguments);
    command
}

async fn start(scenario: &Path, folder: &Path) -> (Process, String) {
    let flags =
        ["--backend", "simulated", "--listen", "127.0.0.1:0", "--interval", "20ms", "--scenario"];
    let mut command = agent(&flags);
    command.arg(scenario);
    let mut process = Process::spawn("agent", command, folder);
    let url = address(&mut process).await;
    (process, url)
}

/// Where it says that it listens.
async fn address(process: &mut Process) -> String {
    eventually(DEADLINE, "the agent's address", async || {
        process.assert_running();
        let log = process.log();
        log.lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
    })
    .await
}

fn refused(arguments: &[&str]) -> String {
    let output = agent(arguments).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn serves_a_scenario_follows_its_file_and_ends_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.yaml");
    std::fs::write(&path, scenario("3Gi")).unwrap();
    let (mut process, url) = start(&path, folder.path()).await;
    let (sender, mut events) = mpsc::channel(16);
    let client = ReadingsClient::new(ClientConfig::default(), Clock::monotonic(), sender).unwrap();
    client.set_endpoints(vec![endpoint("n0", &url).unwrap()]);
    let mut used = async |expected: Bytes| loop {
        let event = timeout(DEADLINE, events.recv()).await.expect("a reading in time").unwrap();
        if matches!(&event, Event::Arrival(arrival) if arrival.reading.gpus[0].used == expected) {
            return;
        }
    };
    used(Bytes::gib(3)).await;
    std::fs::write(&path, "nodes: [").unwrap();
    let reported = async || process.log().contains("the last good one stays").then_some(());
    eventually(DEADLINE, "a report of the broken file", reported).await;
    std::fs::write(&path, scenario("5Gi")).unwrap();
    used(Bytes::gib(5)).await;

    process.signal(libc::SIGTERM);
    let status = process.wait_exit(DEADLINE).await;
    assert!(status.success(), "{status}");
}

/// On a machine of its own, whose driver is the stand-in.
fn on_machine(library: &StandIn, arguments: &[&str]) -> Command {
    let mut command = agent(&["--node", "n0", "--kubelet", "/nonexistent"]);
    command.args(arguments).arg("--nvml-library").arg(library.library());
    command
}

#[test]
fn shows_this_machine_once_in_a_table_and_for_programs() {
    let library = StandIn::new(&machine([gpu(0).with_process(4242, 2048), gpu(1)]));
    let shown = |arguments: &[&str]| {
        let output = on_machine(&library, arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = shown(&["--once"]);
    assert!(table.starts_with("node n0, sampled in "), "{table}");
    assert!(table.contains("NVIDIA driver 580.95.05\n"), "{table}");
    let row = table.lines().find(|line| line.trim_start().starts_with("0 ")).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells[..6], ["0", "NVIDIA", "A10", "24.0", "2.0", "0.5"], "{table}");

    let json: serde_json::Value = serde_json::from_str(&shown(&["--once", "-o", "json"])).unwrap();
    assert_eq!(json["driver"]["version"], "580.95.05");
    assert_eq!(json["reading"]["gpus"][0]["uuid"], uuid(0));
    assert_eq!(json["reading"]["gpus"][0]["used"], 2048_u64 << 20);
}

/// As one without persistence mode does: its first call takes seconds.
#[tokio::test]
async fn a_gpu_that_has_to_wake_up_is_waited_for() {
    const WAKES_IN: Duration = Duration::from_secs(3);
    let first_call = "nvmlDeviceGetUUID";
    let awake = machine([gpu(0).with_process(4242, 2048)]);
    let mut asleep = machine([awake.gpus[0].clone().with_fault(hangs(first_call))]);
    asleep.is_logged = true;
    let library = StandIn::new(&asleep);
    let folder = tempfile::tempdir().unwrap();
    let mut once = Process::spawn("once", on_machine(&library, &["--once"]), folder.path());
    let is_asked = async || (library.count(&format!("{first_call} 0")) > 0).then_some(());
    eventually(DEADLINE, "the first call", is_asked).await;
    // Not a wait for something: this is how long the call takes.
    tokio::time::sleep(WAKES_IN).await;
    library.set(&awake);
    let status = once.wait_exit(DEADLINE).await;
    let table = once.log();
    assert!(status.success() && table.contains("NVIDIA A10"), "{table}");
    assert!(!table.contains("cannot be opened"), "{table}");
}

#[test]
fn a_machine_without_a_driver_is_told_so() {
    let library = StandIn::absent(&machine([]));
    let output = on_machine(&library, &["--once"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("no NVIDIA driver: "), "{table}");
}

#[tokio::test]
async fn serves_this_machine_to_readers_and_to_prometheus() {
    let folder = tempfile::tempdir().unwrap();
    let library = StandIn::new(&machine([gpu(0)]));
    let ops = ReservedPort::reserve();
    let metrics = ops.address().to_string();
    let flags =
        ["--listen", "127.0.0.1:0", "--interval", "20ms", "--metrics-listen", metrics.as_str()];
    let mut process = Process::spawn("agent", on_machine(&library, &flags), folder.path());
    let url = address(&mut process).await;
    let (sender, mut events) = mpsc::channel(16);
    let client = ReadingsClient::new(ClientConfig::default(), Clock::monotonic(), sender).unwrap();
    client.set_endpoints(vec![endpoint("n0", &url).unwrap()]);

    library.set(&machine([gpu(0).with_process(4242, 10 << 10)]));
    loop {
        let event = timeout(DEADLINE, events.recv()).await.expect("a reading in time").unwrap();
        let used = |event: &Event| match event {
            Event::Arrival(arrival) => arrival.reading.gpus[0].used,
            _ => Bytes::ZERO,
        };
        if used(&event) == Bytes::gib(10) {
            break;
        }
    }
    let url = format!("http://{metrics}/metrics");
    eventually(DEADLINE, "the metric", async || {
        let used = Metrics::scrape(&url).await;
        let used = used.value("filmgate_gpu_memory_used_bytes", &[("node", "n0"), ("gpu", "0")])?;
        (used == Bytes::gib(10).get() as f64).then_some(())
    })
    .await;
    process.signal(libc::SIGTERM);
    let status = process.wait_exit(DEADLINE).await;
    assert!(status.success(), "{status}");
}

/// A GPU that has all figures and so many XID errors, and a process of a pod.
fn full_of_figures(pid: u32, xids: u64) -> Scenario {
    let xid = |sequence| Xid { sequence, gpu: 0, xid: 31, instance: None };
    let gpus = [gpu(0).with_figures().with_process(pid, 2048)];
    Scenario { xids: (1..=xids).map(xid).collect(), ..machine(gpus) }
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_its_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::process::id();
    let pod = "0f2ab7c9-6f5c-4d11-9d3a-2f7c1e5b8a90".to_owned();
    let container = "3f".repeat(32);
    proc::write(&folder.path().join("proc"), &[InPod { pid: own, pod, container }]);
    let library = StandIn::new(&full_of_figures(own, 0));
    let ops = ReservedPort::reserve().address().to_string();
    let mut command = on_machine(&library, &["--listen", "127.0.0.1:0", "--metrics-listen", &ops]);
    command.arg("--proc").arg(folder.path().join("proc"));
    let _process = Process::spawn("agent", command, folder.path());
    let url = format!("http://{ops}/metrics");
    let mut xids = 0;
    let [_, _, catalogued, ..] = CHAPTERS;
    let text = eventually(DEADLINE, "every family of the catalogue", async || {
        // The agent hears of those that come after it has begun to listen.
        xids += 1;
        library.set(&full_of_figures(own, xids));
        let text = reqwest::get(&url).await.map_err(|error| error.to_string())?;
        let text = text.text().await.map_err(|error| error.to_string())?;
        let differences = Metrics::of(text.clone()).differences(&[catalogued]);
        if differences.is_empty() { Ok(text) } else { Err(format!("{differences:?}")) }
    });
    let text = text.await;
    let Some(complaints) = prometheus::complaints(&text) else { return };
    assert_eq!(complaints, "");
}

#[test]
fn says_what_it_cannot_do_and_what_to_do_instead() {
    for (arguments, said) in [
        (&["--backend", "simulated"][..], "needs --scenario FILE"),
        (
            &["--backend", "simulated", "--scenario", "/nonexistent.yaml"],
            "/nonexistent.yaml: No such file",
        ),
        (&["--interval", "1ms"], "write 10ms or more"),
        (&["--interval", "soon"], "such as 10m, 1s or 500ms"),
        (&["--peak-window", "0s"], "a duration above zero"),
        (&["--push-threshold", "64MB"], "write for example 64Mi"),
        (&["--listen", "9112"], "invalid socket address"),
        (&["--tls-key", "tls.key"], "--tls-certificate"),
        (&["-o", "json"], "--once"),
    ] {
        let error = refused(arguments);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn does_not_listen_beyond_loopback_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.yaml");
    std::fs::write(&path, scenario("0")).unwrap();
    let path = path.to_str().unwrap();
    let error = refused(&["--backend", "simulated", "--scenario", path, "--listen", "0.0.0.0:0"]);
    assert!(error.contains("--allow-plain-non-loopback"), "{error}");
}
