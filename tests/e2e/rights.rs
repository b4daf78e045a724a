//! The rights that ship are those that filmgate uses: by the API server's own audit, none is lacking and
//! none is idle.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use serde_json::Value;

use super::leaders::{create_pods, forty};
use super::race::{PLACES, PODS};
use super::support::eventually::eventually;
use super::support::kubeconfig::User;
use super::support::objects::pod;
use super::support::port::ReservedPort;
use super::support::process::Process;
use super::support::proxy::{Answer, Fault, Verb};
use super::support::replicas::{Election, Replicas, Terms};

const DEADLINE: Duration = Duration::from_secs(60);

/// What somebody may do, or did: group, resource, verb.
type Right = (String, String, String);

/// A burst that kube-scheduler cannot place, Bindings of unknown outcome, a change of leader; and agents found by
/// their EndpointSlices.
#[tokio::test(flavor = "multi_thread")]
async fn each_right_is_used_and_none_is_lacking() {
    let mut world = forty(Election::Sibling, Terms::SHORT).await;
    // Somebody else is said to have changed the pod: it is looked at.
    let proxy = &world.replica(0).proxy;
    proxy.befall_next(Verb::Bind, "looked-at", Fault::lost(Answer::Faked(409)));
    world.cluster.add_pod(pod("looked-at").gpus(1).vram("64Mi").uses("64Mi").steered()).await;
    world.cluster.node_of("looked-at").await;
    world.cluster.pods().delete("looked-at", &Default::default()).await.unwrap();
    proxy.hold_bindings(true);
    create_pods(&world, 0..PODS).await;
    world.holds_bindings(0, 1).await;
    world.kill(0);
    world.leads(1).await;
    world.settles(PLACES, PODS - PLACES).await;
    let _finder = finds_agents(&world);

    let granted = granted(&world).await;
    eventually(DEADLINE, "each right used", async || {
        let (used, refused) = audited(&world);
        assert!(refused.is_empty(), "lacking: {refused:?}");
        let idle: Vec<_> = granted.difference(&used).collect();
        if idle.is_empty() { Ok(()) } else { Err(format!("never used: {idle:?}")) }
    })
    .await;
}

/// An extender with the shipped way to its agents.
fn finds_agents(world: &Replicas) -> Process {
    let (verbs, ops) = (ReservedPort::reserve(), ReservedPort::reserve());
    let config = format!(
        "listen: {{verbs: \"{}\", metrics: \"{}\"}}\nleaderElection: {{identity: nobody}}\n",
        verbs.address(),
        ops.address(),
    );
    let file = world.cluster.folder().join("finder.yaml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.arg("extender").arg("--config").arg(file);
    command.arg("--kubeconfig").arg(world.cluster.kubeconfig(User::Filmgate));
    Process::spawn("finder", command, world.cluster.folder())
}

/// By filmgate's own roles. Kubernetes' roles for a scheduler are Kubernetes' business, and so is the
/// Lease, which kube-scheduler creates only where it is missing.
async fn granted(world: &Replicas) -> BTreeSet<Right> {
    let admin = world.cluster.admin();
    let of_cluster = Api::<ClusterRole>::all(admin.clone()).get("filmgate").await.unwrap().rules;
    let own = Api::<Role>::namespaced(admin, "filmgate").get("filmgate").await.unwrap().rules;
    of_cluster.into_iter().chain(own).flatten().flat_map(|rule| rights_of(&rule)).collect()
}

fn rights_of(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            let verbs = rule.verbs.iter();
            rights.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb.clone())));
        }
    }
    rights
}

/// What filmgate's service account did, and what it was refused.
fn audited(world: &Replicas) -> (BTreeSet<Right>, BTreeSet<Right>) {
    let log = fs::read_to_string(world.cluster.audit_log()).unwrap_or_default();
    let (mut used, mut refused) = (BTreeSet::new(), BTreeSet::new());
    // The last line may be half written.
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let resource = match (text("/objectRef/resource"), text("/objectRef/subresource")) {
            (resource, "") => resource.to_owned(),
            (resource, subresource) => format!("{resource}/{subresource}"),
        };
        let right = (text("/objectRef/apiGroup").to_owned(), resource, text("/verb").to_owned());
        match event["responseStatus"]["code"].as_u64() {
            Some(403) => refused.insert(right),
            _ => used.insert(right),
        };
    }
    (used, refused)
}
