//! `filmgate agent`, the process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use filmgate::clock::Clock;
use filmgate::engine::Bytes;
use filmgate::readings::client::{ClientConfig, Event, ReadingsClient};
use filmgate::readings::discovery::endpoint;
use support::eventually::eventually;
use support::process::Process;
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
    let url = eventually(DEADLINE, "the agent's address", async || {
        process.assert_running();
        let log = process.log();
        log.lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
    });
    let url = url.await;
    (process, url)
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

#[test]
fn says_what_it_cannot_do_and_what_to_do_instead() {
    for (arguments, said) in [
        (&["--backend", "nvml"][..], "not in this build yet: use --backend simulated"),
        (&["--backend", "simulated"], "needs --scenario FILE"),
        (
            &["--backend", "simulated", "--scenario", "/nonexistent.yaml"],
            "/nonexistent.yaml: No such file",
        ),
        (&["--interval", "1ms"], "write 10ms or more"),
        (&["--interval", "soon"], "such as 10m, 1s or 500ms"),
        (&["--peak-window", "0s"], "a duration above zero"),
        (&["--push-threshold", "64MB"], "write for example 64Mi"),
        (&["--listen", "9112"], "invalid socket address"),
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
