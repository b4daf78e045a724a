//! `filmgate demo` as a person or a program runs it.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.arg("demo").args(arguments).env_remove("FILMGATE_LOG").output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = demo(&[arguments, &["--output", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The whole of standard output is one object.
    serde_json::from_slice(&output.stdout).unwrap()
}

fn policy<'a>(report: &'a Value, name: &str) -> &'a Value {
    let policies = report["policies"].as_array().unwrap();
    policies.iter().find(|policy| policy["name"] == name).unwrap()
}

#[test]
fn a_short_day_is_packed_without_over_commit() {
    let report = json(&["--pods", "20", "--hours", "4", "--seed", "7"]);
    assert_eq!(report["seed"], 7);
    assert_eq!(report["source"], "generator, seed 7");
    assert_eq!(report["gpuMemoryBytes"].as_u64(), Some(80 << 30));
    let names: Vec<_> =
        report["policies"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["exclusive", "time-slicing-3", "filmgate"]);

    let (alone, sliced, gate) = (
        policy(&report, "exclusive"),
        policy(&report, "time-slicing-3"),
        policy(&report, "filmgate"),
    );
    assert_eq!(gate["overcommitted_gpu_minutes"], 0.0);
    assert_eq!(gate["oom_pods"], 0);
    assert_eq!(gate["pods_placed"], report["pods"]);
    assert!(gate["gpus"].as_u64() < alone["gpus"].as_u64(), "{report}");
    assert!(sliced["overcommitted_gpu_minutes"].as_f64() > Some(0.0), "{report}");
    assert!(sliced["oom_pods"].as_u64() > Some(0), "{report}");
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let day = ["--pods", "16", "--hours", "9", "--seed", "3"];
    assert_eq!(json(&day), json(&day));
}

/// Eight GPUs take fifteen pods (the foreign process costs one place); those that wait are woken
/// when others end, so that more pods than fit at one time are placed over the day.
#[test]
fn pods_that_find_no_room_wait_and_are_woken() {
    let csv = trace(21, |pod| if pod == 0 { 0..60 } else { 0..15 });
    let report = json(&["--trace", csv.path().to_str().unwrap(), "--gpus", "8"]);
    let gate = policy(&report, "filmgate");
    assert_eq!((&gate["gpus"], &gate["pods_placed"]), (&Value::from(8), &Value::from(21)));
    assert_eq!(gate["overcommitted_gpu_minutes"], 0.0);
}

#[test]
fn a_trace_is_replayed() {
    let csv = trace(3, |_| 0..30);
    let report = json(&["--trace", csv.path().to_str().unwrap()]);
    assert_eq!(report.get("seed"), None);
    assert_eq!((&report["pods"], &report["hours"]), (&Value::from(3), &Value::from(0.5)));
    assert_eq!(policy(&report, "exclusive")["gpus"], 3);
    assert_eq!(policy(&report, "filmgate")["gpus"], 2);
}

#[test]
fn a_broken_trace_is_refused_with_its_line_and_column() {
    let mut csv = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    csv.write_all(b"timestamp_anon,value,container_ip\n0,1,a\n57,lots,a\n").unwrap();
    let output = demo(&["--trace", csv.path().to_str().unwrap()]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(".csv:3: column \"value\": \"lots\" is not a number of bytes"), "{text}");
}

#[test]
fn people_in_a_pipe_get_lines_a_table_and_a_sentence() {
    let output = demo(&["--pods", "8", "--hours", "2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !text.contains('\x1b'), "{text}");
    for part in ["01:54  ", "over-committed", "filmgate ran all ", "/ui\n", "--serve keeps them"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_right_form() {
    for (arguments, says) in [
        (["--declare", "38GiB"], "38Gi"),
        (["--hours", "0"], "hours above zero"),
        (["--speed", "0"], "a factor above zero"),
        (["--trace", "/nowhere.csv"], "/nowhere.csv"),
        (["--gpus", "0"], "1..=4000"),
    ] {
        let output = demo(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(says), "{arguments:?}: {text}");
    }
}

#[test]
fn served_parts_answer_until_they_are_told_to_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_filmgate"))
        .args(["demo", "--serve", "--pods", "6", "--hours", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (mut page, mut extender) = (String::new(), String::new());
    let mut metrics = String::new();
    for line in lines {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("page"), Some(url)) => page = url.to_owned(),
            (Some("extender"), Some(url)) => extender = url.to_owned(),
            (Some("metrics"), Some(url)) => metrics = url.to_owned(),
            (Some("curl"), _) => break,
            _ => {}
        }
    }
    let ready = get(&metrics.replace("/metrics", "/readyz"));
    let explained = get(&format!("{extender}/explain?pod=demo/diffusion-00"));
    let page = get(&page);
    let top = Command::new(env!("CARGO_BIN_EXE_filmgate"))
        .args(["top", "--once", "--server", &extender])
        .output()
        .unwrap();
    end(&mut child);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<title>filmgate"), "{page}");
    let top = String::from_utf8(top.stdout).unwrap();
    assert!(
        top.starts_with("64 GPUs on 16 nodes: ") && top.contains("demo/diffusion-00 bound"),
        "{top}"
    );
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(explained.starts_with("HTTP/1.1 200") && explained.contains("gpu-00"), "{explained}");
}

/// A trace of pods that hold 20 GiB each during the given ticks.
fn trace(pods: usize, life: impl Fn(usize) -> std::ops::Range<usize>) -> tempfile::NamedTempFile {
    let mut csv = "container_ip,timestamp_anon,value\n".to_owned();
    for pod in 0..pods {
        for tick in life(pod) {
            writeln!(csv, "pod-{pod},{},{}", 1000 + 57 * tick, 20_u64 << 30).unwrap();
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), csv).unwrap();
    file
}

fn get(url: &str) -> String {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn end(child: &mut std::process::Child) {
    let told = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(told.success());
    assert!(child.wait().unwrap().success(), "a served demo that is told to end ends well");
}
