//! A hold keeps a pod's memory for as long as kube-scheduler stands by its node, and not longer.

use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::support::eventually::throughout;
use super::support::objects::{PodBuilder, pod};
use super::support::scheduler::Extender;
use super::support::verbs;
use super::support::volumes::Claim;
use super::world::{SimulatedNode, World, WorldOptions};

const DEADLINE: Duration = Duration::from_secs(30);
const NO_ROOM: &str = "not enough free VRAM";
/// What a waiting pod may take once there is room.
const WAKE: Duration = Duration::from_secs(2);

/// How long holds live, and how long the volume takes: a minute in the long form, under filmgate's
/// defaults.
fn hold_and_volume() -> (Duration, Duration) {
    let (hold, volume) = if super::support::is_long() { (30, 60) } else { (4, 10) };
    (Duration::from_secs(hold), Duration::from_secs(volume))
}

fn sixteen(name: &str) -> PodBuilder {
    pod(name).gpus(1).vram("16Gi").steered()
}

/// A node on which `first` waits for its volume; `second` is refused there meanwhile.
async fn waiting_for_a_volume() -> (World, Claim) {
    let (hold, volume) = hold_and_volume();
    let settings = format!("holdTtl: {}s\n", hold.as_secs());
    let nodes = vec![SimulatedNode::new("n0", &[24])];
    let world = World::start(WorldOptions { nodes, settings, ..WorldOptions::default() }).await;
    let claim = Claim::create(world.cluster.admin(), "models").await;
    world.cluster.add_pod(sixteen("first").claims("models")).await;
    assert_eq!(claim.chosen_node().await, "n0");

    world.cluster.add_pod(sixteen("second")).await;
    assert!(world.refused("second").await.contains(NO_ROOM));
    throughout(volume, async || {
        assert_eq!(world.node_now("second").await, None, "in the memory that is held for first");
    })
    .await;
    assert_eq!(world.bind("second", "n0").await, NO_ROOM);
    assert_eq!(world.node_now("first").await, None);
    (world, claim)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_keeps_its_hold_while_it_waits_for_its_volume_and_is_bound_then() {
    let (world, claim) = waiting_for_a_volume().await;
    claim.provision().await;
    world.bound_within("first", DEADLINE).await;
    assert_eq!(world.bind("second", "n0").await, NO_ROOM);
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_volume_cannot_be_had_loses_its_hold() {
    let (world, claim) = waiting_for_a_volume().await;
    claim.give_up().await;
    // kube-scheduler looks once a second.
    let (hold, _) = hold_and_volume();
    world.bound_within("second", Duration::from_secs(1) + hold + WAKE * 2).await;
    assert_eq!(world.node_now("first").await, None);
}

/// What an extender after filmgate says of `first`; others are none of its business.
#[derive(Clone, Copy)]
enum Later {
    /// It passes that node alone.
    Passes(&'static str),
    /// It prefers that node, and counts for more.
    Prefers(&'static str),
}

impl Later {
    async fn start(self) -> Extender {
        let filter = post(async move |Json(call): Json<Value>| Json(self.filter(&call)));
        let prioritize = post(async move |Json(call): Json<Value>| Json(self.prioritize(&call)));
        let router = Router::new().route("/filter", filter).route("/prioritize", prioritize);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut extender = Extender::at(format!("http://{}", listener.local_addr().unwrap()));
        extender.verbs = vec![("filterVerb", "filter"), ("prioritizeVerb", "prioritize")];
        extender.weight = 1000;
        extender.managed_resources = Vec::new();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        extender
    }

    fn filter(self, call: &Value) -> Value {
        let names = call["NodeNames"].as_array().unwrap();
        let passes = |name: &&Value| match self {
            Self::Passes(node) if is_first(call) => **name == node,
            _ => true,
        };
        json!({"NodeNames": names.iter().filter(passes).collect::<Vec<_>>()})
    }

    fn prioritize(self, call: &Value) -> Value {
        let names = call["NodeNames"].as_array().unwrap();
        let is_preferred = |name: &Value| match self {
            Self::Prefers(node) => is_first(call) && *name == node,
            Self::Passes(_) => false,
        };
        let score = |name| json!({"Host": name, "Score": if is_preferred(name) { 10 } else { 0 }});
        names.iter().map(score).collect()
    }
}

fn is_first(call: &Value) -> bool {
    call["Pod"]["metadata"]["name"] == "first"
}

/// filmgate packs: it prefers `n0`. The pod goes to `n1`, and nothing of `n0` stays held.
async fn goes_where_a_later_extender_wants(later: Later, hold: &str) {
    let nodes = vec![
        SimulatedNode::new("n0", &[24]).foreign_gib(0, 4),
        SimulatedNode::new("n1", &[48]),
        SimulatedNode::new("n2", &[48]),
    ];
    let later_extenders = vec![later.start().await];
    let options = WorldOptions { nodes, later_extenders, ..WorldOptions::default() };
    let world = World::start(options).await;
    world.cluster.add_pod(sixteen("other")).await;
    assert_eq!(world.cluster.node_of("other").await, "n0", "filmgate's best");
    world.phase("other", "Running").await;
    world.cluster.pods().delete("other", &Default::default()).await.unwrap();
    world.free_bytes_seen("n0", 17).await;

    world.cluster.add_pod(sixteen("first")).await;
    assert_eq!(world.cluster.node_of("first").await, "n1");
    assert_eq!(held(&world, "n0").await, Some(0.0));
    assert_eq!(hold_found(&world, "first"), hold);
    world.cluster.add_pod(sixteen("second").only_on("kubernetes.io/hostname", "n0")).await;
    world.bound_within("second", WAKE).await;
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_extender_that_outweighs_filmgate_moves_the_hold() {
    goes_where_a_later_extender_wants(Later::Prefers("n1"), "Moved").await;
}

/// kube-scheduler asks nobody for priorities then, so that nothing is held.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_extender_that_leaves_one_node_has_the_pod_bound_there_without_a_hold() {
    goes_where_a_later_extender_wants(Later::Passes("n1"), "Missing").await;
}

async fn held(world: &World, node: &str) -> Option<f64> {
    world.metrics().await.value("filmgate_gpu_held_bytes", &[("node", node)])
}

/// What the pod's admission found of its hold, by filmgate's log.
fn hold_found(world: &World, pod: &str) -> String {
    let log = world.extender_log();
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let pod = format!("default/{pod}");
    let bound = lines.find(|line| line["message"] == "bound" && line["pod"] == *pod);
    bound.unwrap()["hold"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bind_comes_for_another_node_than_held_or_without_a_hold() {
    let nodes = vec![SimulatedNode::new("n0", &[24]), SimulatedNode::new("n1", &[24])];
    let mut world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    world.signal_scheduler(libc::SIGSTOP);
    for name in ["first", "second", "third"] {
        let created = world.cluster.add_pod(sixteen(name)).await;
        world.knows(name).await;
        if name == "first" {
            let call = json!({"Pod": created, "Nodes": null, "NodeNames": ["n0"]});
            assert_eq!(verbs::error_of(&world.verbs_url(), "filter", &call).await, "");
        }
    }
    assert!(held(&world, "n0").await > Some(0.0));
    assert_eq!(world.bind("second", "n0").await, NO_ROOM, "held for first");

    assert_eq!(world.bind("first", "n1").await, "");
    assert_eq!((held(&world, "n0").await, held(&world, "n1").await), (Some(0.0), Some(0.0)));
    assert_eq!(world.bind("second", "n0").await, "");
    for node in ["n0", "n1"] {
        assert_eq!(world.bind("third", node).await, NO_ROOM);
    }
    let found = ["first", "second"].map(|pod| hold_found(&world, pod));
    assert_eq!(found, ["Moved", "Missing"]);
    for (pod, node) in [("first", "n1"), ("second", "n0")] {
        assert_eq!(world.node_now(pod).await.as_deref(), Some(node));
    }
    world.assert_no_overcommit();
}
