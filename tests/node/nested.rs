//! Nodes that are themselves containers (kind, minikube), and agents that see only their own pod:
//! both have a PID namespace of their own.

use std::env;
use std::process::Command;

use filmgate::agent::owner::{Owner, OwnerLookup as _, Owners as _};
use filmgate::agent::procfs::Procfs;
use kube::ResourceExt as _;

use super::book::{shared, uid};
use super::plugin::Policy;
use super::support::eventually::eventually;
use super::support::objects::pod;
use super::world::{DEADLINE, World, processes};

const PROBE: [&str; 4] = ["--exact", "nested::probe", "--ignored", "--nocapture"];

/// Tells which processes are pods', from wherever it runs.
#[test]
#[ignore = "runs within the tests below"]
fn probe() {
    let procfs = Procfs::default();
    println!("blind: {:?}", procfs.blindness("580.95.05"));
    println!("blind with an old driver: {:?}", procfs.blindness("470.256.02"));
    let mut lookup = procfs.begin();
    for (pid, arguments) in processes() {
        if let Owner::Pod { uid, .. } = lookup.owner(pid) {
            let name = String::from_utf8_lossy(&arguments).trim_end_matches('\0').to_owned();
            println!("{uid} has {pid}, {}", name.rsplit('/').next().unwrap());
        }
    }
    println!("done");
}

#[tokio::test]
async fn an_agent_on_a_node_that_is_a_container_sees_its_pods() {
    let Some(world) = World::start(&[shared(Policy::Distributed)]).await else { return };
    let pods = [world.run(pod("one").gpus(1)).await, world.run(pod("two").gpus(1)).await];
    let probe = PROBE.map(str::to_owned);
    let probe = world.machine.spawn("probe", env::current_exe().unwrap(), &probe);
    eventually(DEADLINE, "the probe", async || probe.log().contains("done").then_some(())).await;
    let log = probe.log();
    assert!(log.contains("blind: None"), "{log}");
    assert!(log.contains("blind with an old driver: Some"), "{log}");
    for pod in &pods {
        let name = pod.name_any();
        let outside = world.process(&name).await;
        let found = log.lines().find(|line| line.ends_with(&format!(", {name}"))).unwrap();
        assert!(found.starts_with(&format!("{} has ", uid(pod))), "{found}");
        assert!(!found.contains(&format!(" {outside},")), "numbers of its own: {found}");
    }
}

#[test]
fn an_agent_with_a_pid_namespace_of_its_own_says_that_it_is_blind() {
    if !super::world::is_possible() {
        return;
    }
    let mut alone = Command::new("unshare");
    alone.args(["--pid", "--cgroup", "--fork", "--mount-proc", "--"]);
    let output = alone.arg(env::current_exe().unwrap()).args(PROBE).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("blind: Some") && text.contains("hostPID: true"), "{text}");
}
