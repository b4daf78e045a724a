//! The program, with its flags.

use std::process::{Command, Output};

use filmgate::metrics::catalogue::CHAPTERS;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::eventually::eventually;
use crate::support::kubeconfig::User;
use crate::support::metrics::Metrics;
use crate::support::port::ReservedPort;
use crate::support::process::Process;
use crate::support::site::START_DEADLINE;
use crate::tunnel::Tunnel;
use crate::world::{LOCAL, TOKEN, World, answer};

/// `localhost` is the one name that every machine's resolver leads to this machine.
async fn world() -> (World, Tunnel) {
    let world = World::start().await;
    let tunnel = Tunnel::at_localhost(&world.authority).await;
    (world, tunnel)
}

fn command(world: &World, tunnel: &Tunnel) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.args(["bridge", "--allow-host=localhost", "--allow-network=127.0.0.0/8"]);
    command.args(["--allow-network=::1/128", &format!("--allow-port={}", tunnel.port())]);
    command.arg("--roots").arg(world.authority.roots());
    command.arg("--kubeconfig").arg(world.cluster.kubeconfig(User::Admin));
    command
}

/// Off the runtime's thread, which has the tunnel's other end.
async fn push(world: &World, tunnel: &Tunnel, arguments: &[&str]) -> Output {
    let mut command = command(world, tunnel);
    command.arg("push").args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn pushes_by_hand_after_saying_what_it_would_do() {
    let (world, tunnel) = world().await;
    let url = tunnel.url();
    let would = push(&world, &tunnel, &[&url, "--dry-run"]).await;
    let said = String::from_utf8_lossy(&would.stdout);
    assert!(would.status.success(), "{would:?}");
    assert!(said.contains("would restart deployment/director"), "{said}");
    world.assert_untouched().await;
    let done = push(&world, &tunnel, &[&url]).await;
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains("\nrestarted deployment/director"), "{said}");
    assert_eq!(world.urls().await, [&*url, &*url]);
    let again = push(&world, &tunnel, &[&url]).await;
    assert!(String::from_utf8_lossy(&again.stdout).contains("unchanged"), "{again:?}");

    let refused = push(&world, &tunnel, &["https://example.org", "--dry-run"]).await;
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("only port"), "{why}");
}

#[tokio::test]
async fn serves_with_a_token_and_does_not_start_without_one() {
    let (world, tunnel) = world().await;
    let (port, health) = (ReservedPort::reserve(), ReservedPort::reserve());
    let mut bare = command(&world, &tunnel);
    let refused = tokio::task::spawn_blocking(move || bare.output().unwrap()).await.unwrap();
    assert!(!refused.status.success(), "{refused:?}");

    let token = world.cluster.folder().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let mut serving = command(&world, &tunnel);
    serving.arg(format!("--listen={}", port.address())).arg("--token-file").arg(&token);
    serving.arg(format!("--health-listen={}", health.address()));
    serving.arg(format!("--fallback={LOCAL}"));
    let mut process = Process::spawn("bridge", serving, world.cluster.folder());
    let client = reqwest::Client::new();
    let url = format!("http://{}/comfyui-url", port.address());
    let told = || client.post(&url).json(&json!({"url": tunnel.url()}));
    eventually(START_DEADLINE, "a listener", async || {
        process.assert_running();
        told().send().await
    })
    .await;
    assert_eq!(answer(told()).await.0, StatusCode::UNAUTHORIZED);
    let (status, done) = answer(told().bearer_auth(TOKEN)).await;
    assert_eq!((status, &done["isChanged"]), (StatusCode::OK, &json!(true)), "{done}");
    assert_eq!(world.urls().await[0], tunnel.url());
    let page = |path| format!("http://{}{path}", health.address());
    let state: Value = client.get(page("/state")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&state["isUp"], &state["url"]), (&json!(true), &json!(tunnel.url())), "{state}");
    assert!(client.get(page("/readyz")).send().await.unwrap().status().is_success());
    let metrics = Metrics::scrape(&page("/metrics")).await;
    let [.., chapter] = CHAPTERS;
    assert_eq!(metrics.differences(&[chapter]), [""; 0]);
    let gpu = [("gpu", "0"), ("modelName", "NVIDIA L4")];
    let free = metrics.value("filmgate_bridge_gpu_memory_free_bytes", &gpu);
    assert_eq!(free, Some((10_u64 << 30) as f64));
    assert_eq!(
        metrics.value("filmgate_bridge_urls_told_total", &[("outcome", "changed")]),
        Some(1.0)
    );
    for (output, said) in
        [("table", "NVIDIA L4, 10.0 GiB free of 24.0 GiB"), ("json", "\"isUp\": true")]
    {
        let top = top(&page(""), output).await;
        assert!(top.contains(said) && top.contains("gpu-1"), "{top}");
    }
    let nobody = top("http://127.0.0.1:9", "table").await;
    assert!(nobody.starts_with("bridge: no answer at") && nobody.contains("gpu-1"), "{nobody}");
    let outside = format!("http://{}/state", port.address());
    assert_eq!(client.get(outside).send().await.unwrap().status(), StatusCode::NOT_FOUND);

    let log = process.log();
    assert!(log.contains("director") && !log.contains(TOKEN), "{log}");
}

/// What `filmgate top` shows of that bridge and of some extender.
async fn top(bridge: &str, output: &str) -> String {
    let fleet = || async { include_str!("../extender/golden/fleet.json") };
    let router = axum::Router::new().route("/fleet", axum::routing::get(fleet));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let extender = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut top = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    top.args(["top", "--once", "-o", output, "--server", &extender, "--bridge", bridge]);
    let top = tokio::task::spawn_blocking(move || top.output().unwrap()).await.unwrap();
    serving.abort();
    assert!(top.status.success(), "{}", String::from_utf8_lossy(&top.stderr));
    String::from_utf8(top.stdout).unwrap()
}
