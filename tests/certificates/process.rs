//! The process, as it is deployed.

use std::process::Command;

use clap::Parser as _;
use filmgate::certificates::material::{AUTHORITIES, KEY};
use filmgate::cli::Cli;
use filmgate::metrics::catalogue::CHAPTERS;
use kube::api::DeleteParams;

use crate::support::eventually::eventually;
use crate::support::kubeconfig::User;
use crate::support::manifests::{self, apply_objects, objects, shipped};
use crate::support::metrics::Metrics;
use crate::support::port::ReservedPort;
use crate::support::process::Process;
use crate::support::site::START_DEADLINE;
use crate::world::{AGENT, AUTHORITY, World, secrets, text};

/// The arguments of the shipped Deployment, but where it listens.
fn arguments() -> Vec<String> {
    let shipped = objects(&shipped(manifests::SERVICE)).into_iter();
    let deployments =
        shipped.filter(|one| one.metadata.name.as_deref() == Some("filmgate-certificates"));
    let mut deployments = deployments
        .filter(|one| one.types.as_ref().is_some_and(|types| types.kind == "Deployment"));
    let deployment = deployments.next().expect("a Deployment");
    let container = &deployment.data["spec"]["template"]["spec"]["containers"][0];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(container["image"], format!("filmgate:{version}"));
    let arguments = container["args"].as_array().unwrap().iter();
    let arguments = arguments.map(|one| one.as_str().unwrap().to_owned());
    arguments.filter(|one| !one.starts_with("--health-listen")).collect()
}

fn command(world: &World) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.args(arguments()).arg("--kubeconfig").arg(world.cluster.kubeconfig(User::Certificates));
    command
}

#[test]
fn the_shipped_arguments_are_understood() {
    let line = ["filmgate".to_owned()].into_iter().chain(arguments());
    Cli::try_parse_from(line).unwrap();
}

#[tokio::test]
async fn it_waits_for_a_secret_repairs_what_is_missing_and_shows_no_key() {
    let world = World::start().await;
    world.secrets().delete(AGENT, &DeleteParams::default()).await.unwrap();
    let port = ReservedPort::reserve();
    let address = port.address();
    let mut command = command(&world);
    command.arg(format!("--health-listen={address}")).env("FILMGATE_LOG", "debug");
    let mut process = Process::spawn("certificates", command, world.cluster.folder());
    let ready = format!("http://{address}/readyz");
    eventually(START_DEADLINE, "what is missing, told", async || {
        process.assert_running();
        let answer = reqwest::get(&ready).await?.text().await?;
        let missing = format!("there is no secret filmgate/{AGENT}");
        anyhow::ensure!(answer.contains(&missing), "{answer}");
        anyhow::Ok(())
    })
    .await;

    apply_objects(&world.cluster.admin(), secrets()).await;
    eventually(START_DEADLINE, "ready", async || {
        process.assert_running();
        anyhow::Ok(reqwest::get(&ready).await?.error_for_status()?)
    })
    .await;
    let metrics = Metrics::scrape(&format!("http://{address}/metrics")).await;
    let [_, _, _, chapter, _] = CHAPTERS;
    assert_eq!(metrics.differences(&[chapter]), [""; 0]);
    let name = "filmgate_certificate_expiry_timestamp_seconds";
    let ends = world.pair(AGENT).await.certificate.ends.as_second();
    assert_eq!(metrics.value(name, &[("secret", AGENT)]), Some(ends as f64));
    assert_eq!(metrics.series(name).len(), 4);

    let log = process.log();
    assert!(log.contains(AGENT) && !log.contains("PRIVATE"), "{log}");
    for secret in [AUTHORITY, AGENT] {
        let data = world.data(secret).await;
        assert!(data.contains_key(AUTHORITIES));
        let key = text(&data, KEY);
        assert!(!log.contains(key.lines().nth(1).unwrap()), "{log}");
    }
}

#[tokio::test]
async fn once_ends_with_all_done_or_with_what_is_in_the_way() {
    let world = World::start().await;
    let run = || command(&world).arg("--once").output().unwrap();
    world.secrets().delete(AGENT, &DeleteParams::default()).await.unwrap();
    let failed = run();
    assert!(!failed.status.success());
    let why = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(why.contains("kubectl create secret generic"), "{why}");
    apply_objects(&world.cluster.admin(), secrets()).await;
    let done = run();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    world.pair(AGENT).await;
}
