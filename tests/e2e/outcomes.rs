//! Bindings and fences that come to harm on their way: nothing is given out twice, and no place is
//! kept for ever.
//!
//! Where kube-scheduler is stopped, the test binds in its place and reads the answers. Any write of
//! kube-scheduler's to a pod would make a late Binding fail too; the fence must not count on that.

use std::time::Duration;

use axum::http::StatusCode;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rand::seq::IndexedRandom;
use serde_json::json;

use super::race::{PODS, create_pods, exactly_forty_are_bound, forty_places};
use super::support::eventually::{eventually, throughout};
use super::support::objects::{PodBuilder, pod};
use super::support::proxy::{Answer, Commit, Fault, Verb};
use super::world::{SimulatedNode, World, WorldOptions};

const DEADLINE: Duration = Duration::from_secs(30);
/// Far less than any time for which filmgate keeps a place by the clock.
const SOON: Duration = Duration::from_secs(5);
const HOSTNAME: &str = "kubernetes.io/hostname";
const NO_ROOM: &str = "not enough free VRAM";
const UNKNOWN: &str = "the outcome of the Binding is not known yet: ";
const REFUSED: &str = "the API server refused the Binding: ";
const LOST_FENCE: Fault = Fault::lost(Answer::Faked(503));

/// Nodes with two GPUs, one of which has no room; kube-scheduler is stopped.
async fn without_scheduler(nodes: &[&str]) -> World {
    let nodes = nodes.iter().map(|name| SimulatedNode::new(name, &[24, 24]).foreign_gib(0, 20));
    let nodes = nodes.collect();
    // Short, for the test; 30 s as shipped.
    let settings = "forceDeleteGrace: 4s\n".to_owned();
    let mut world = World::start(WorldOptions { nodes, settings, ..WorldOptions::default() }).await;
    world.signal_scheduler(libc::SIGSTOP);
    world
}

/// A pod that takes a node's room, and a second that wants the same. Their processes hold next to
/// nothing, so that the charge alone keeps the place.
async fn add_two(world: &World, name: &str) {
    for name in [name, &second(name)] {
        world.cluster.add_pod(sixteen(name).uses("64Mi")).await;
    }
}

fn sixteen(name: &str) -> PodBuilder {
    pod(name).gpus(1).vram("16Gi").steered()
}

fn second(name: &str) -> String {
    format!("{name}-second")
}

async fn doubts(world: &World, pods: usize) {
    world.metric_is("filmgate_bindings_in_doubt", &[], pods as f64).await;
}

/// From now on no watch tells of a pod; filmgate's has begun, so that it is silent too.
async fn silence_watches(world: &World) {
    world.cluster.add_pod(pod("watched").gpus(1).scheduler("nobody")).await;
    world.knows("watched").await;
    world.proxy.silence_watches();
}

/// Asserts how filmgate answers a Binding of the pod to the node of its name.
async fn binds(world: &World, pod: &str, answer: &str) {
    let said = world.bind(pod, pod).await;
    is_answer(pod, &said, answer);
}

fn is_answer(pod: &str, said: &str, wanted: &str) {
    println!("{pod}: {said:?}");
    let is_as_wanted = said.starts_with(wanted) && said.is_empty() == wanted.is_empty();
    assert!(is_as_wanted, "{pod}: {said:?}, not {wanted:?}");
}

/// The second pod is given the node's room: nothing is kept for the first.
async fn gives_to_second(world: &World, node: &str) {
    assert_eq!(world.bind(&second(node), node).await, "", "{node}");
}

async fn refuses_second(world: &World, node: &str) {
    assert_eq!(world.bind(&second(node), node).await, NO_ROOM, "{node}");
}

/// What befalls a pod's Binding, and what must follow. Pod and node have the case's name.
struct Case {
    name: &'static str,
    fault: Fault,
    /// How filmgate's answer to kube-scheduler begins.
    answer: &'static str,
    /// The API server carries the Binding out.
    is_bound: bool,
}

const CASES: [Case; 15] = [
    carried_out("told-late", Answer::Late(Duration::from_secs(10))),
    carried_out("reset", Answer::Reset),
    carried_out("said-404", Answer::Faked(404)),
    carried_out("said-500", Answer::Faked(500)),
    carried_out("said-503", Answer::Faked(503)),
    carried_out("said-504", Answer::Faked(504)),
    Case { fault: CARRIED_OUT_LATE, ..carried_out("carried-out-late", Answer::Own) },
    Case { answer: "", ..carried_out("said-409", Answer::Faked(409)) },
    lost("lost", Answer::Own),
    lost("lost-reset", Answer::Reset),
    lost("lost-404", Answer::Faked(404)),
    lost("lost-500", Answer::Faked(500)),
    lost("lost-503", Answer::Faked(503)),
    lost("lost-504", Answer::Faked(504)),
    Case { answer: REFUSED, ..lost("lost-409", Answer::Faked(409)) },
];

/// As by storage that has timed out and commits after all.
const CARRIED_OUT_LATE: Fault =
    Fault { commit: Commit::After(Duration::from_secs(1)), answer: Answer::Faked(504) };

const fn carried_out(name: &'static str, answer: Answer) -> Case {
    Case { name, fault: Fault::carried_out(answer), answer: UNKNOWN, is_bound: true }
}

const fn lost(name: &'static str, answer: Answer) -> Case {
    Case { name, fault: Fault::lost(answer), answer: UNKNOWN, is_bound: false }
}

impl Case {
    fn is_in_doubt(&self) -> bool {
        self.answer == UNKNOWN
    }

    async fn begin(&self, world: &World) {
        add_two(world, self.name).await;
        world.proxy.befall_next(Verb::Bind, self.name, self.fault);
        binds(world, self.name, self.answer).await;
        if self.is_bound || self.is_in_doubt() {
            refuses_second(world, self.name).await;
        }
    }

    async fn end(&self, world: &World) {
        let bound = self.is_bound.then_some(StatusCode::CREATED);
        assert_eq!(world.proxy.bindings(self.name), Vec::from_iter(bound), "{}", self.name);
        if !self.is_bound {
            return gives_to_second(world, self.name).await;
        }
        refuses_second(world, self.name).await;
        let pod = world.cluster.pods().get(self.name).await.unwrap();
        is_bound_as_decided(world, &pod, self.name).await;
    }
}

/// The pod carries the decision, and is charged where it says.
async fn is_bound_as_decided(world: &World, pod: &Pod, node: &str) {
    let gpu = world.gpu(node, 1);
    let charged = format!("{gpu}={}", 16_u64 << 30);
    assert_eq!(pod.spec.as_ref().unwrap().node_name.as_deref(), Some(node));
    assert_eq!(pod.annotations().get("filmgate.dev/gpu"), Some(&gpu));
    assert_eq!(pod.annotations().get("filmgate.dev/vram-charged"), Some(&charged));
    let labels = [("node", node), ("gpu", "1")];
    world.metric_is("filmgate_gpu_charged_bytes", &labels, (16_u64 << 30) as f64).await;
}

/// The watches are silent, so that the fence alone can tell.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_befalls_a_binding_its_place_is_kept_until_the_fence_has_decided_and_no_longer() {
    let world = without_scheduler(&CASES.map(|case| case.name)).await;
    silence_watches(&world).await;
    let faked = [404, 500, 503].map(Answer::Faked);
    let mut answers = faked.into_iter().chain([Answer::Reset, Answer::Own]).cycle();
    world.proxy.befall_each(Verb::Fence, move |_| Fault::lost(answers.next().unwrap()));
    join_all(CASES.iter().map(|case| case.begin(&world))).await;
    doubts(&world, CASES.iter().filter(|case| case.is_in_doubt()).count()).await;
    eventually(DEADLINE, "a late commit", async || world.node_now("carried-out-late").await).await;

    world.proxy.befall(Verb::Fence, Fault::NONE);
    doubts(&world, 0).await;
    join_all(CASES.iter().map(|case| case.end(&world))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_is_refused_however_long_after_the_fence_it_comes() {
    let world = without_scheduler(&["n0"]).await;
    add_two(&world, "n0").await;
    world.proxy.befall_next(Verb::Bind, "n0", Fault::HELD);
    binds(&world, "n0", UNKNOWN).await;
    doubts(&world, 0).await;
    gives_to_second(&world, "n0").await;
    let longest = Duration::from_secs(if super::support::is_long() { 40 } else { 6 });
    throughout(longest, async || assert_eq!(world.node_now("n0").await, None)).await;

    assert_eq!(world.proxy.release("n0").await, StatusCode::CONFLICT);
    assert_eq!(world.node_now("n0").await, None);
}

/// Nothing says of such a pod that its Binding was not carried out before it was deleted, unless a
/// watch saw its last state.
#[tokio::test(flavor = "multi_thread")]
async fn the_place_of_a_pod_that_was_deleted_while_its_outcome_was_unknown_becomes_free() {
    let world = without_scheduler(&["seen", "unseen", "again"]).await;
    world.proxy.befall(Verb::Fence, LOST_FENCE);
    for name in ["seen", "unseen", "again"] {
        add_two(&world, name).await;
        world.proxy.befall_next(Verb::Bind, name, Fault::lost(Answer::Reset));
        binds(&world, name, UNKNOWN).await;
    }
    delete(&world, "seen").await;
    doubts(&world, 2).await;
    gives_to_second(&world, "seen").await;

    silence_watches(&world).await;
    delete(&world, "unseen").await;
    delete(&world, "again").await;
    world.cluster.add_pod(sixteen("again")).await;
    refuses_second(&world, "unseen").await;
    world.proxy.befall(Verb::Fence, Fault::NONE);
    doubts(&world, 0).await;
    for (pod, node) in [(second("unseen").as_str(), "unseen"), ("again", "again")] {
        eventually(DEADLINE, &format!("{pod} bound"), async || {
            let said = world.bind(pod, node).await;
            if said.is_empty() { Ok(()) } else { Err(said) }
        })
        .await;
    }
    let again = world.cluster.pods().get("again").await.unwrap();
    assert_eq!(again.annotations().get("filmgate.dev/fence"), None, "the fence of another pod");
}

async fn delete(world: &World, pod: &str) {
    world.cluster.pods().delete(pod, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_settled_by_what_became_of_the_pod() {
    let names = ["noted", "fenced", "taken", "unread", "unanswered", "reread", "elsewhere"];
    let world = without_scheduler(&names).await;
    for name in &names[..6] {
        add_two(&world, name).await;
        world.knows(name).await;
    }
    tokio::join!(
        a_pod_that_someone_wrote_to_is_bound_all_the_same(&world),
        another_holders_fence_ends_it(&world),
        another_schedulers_binding_ends_it(&world),
        a_pod_that_cannot_be_read_is_in_doubt(&world),
        a_pod_that_is_read_at_last_is_bound(&world),
    );
    doubts(&world, 0).await;
    is_in_place(&world, "unread").await;
    gives_to_second(&world, "unanswered").await;
}

/// By one call of bind: kube-scheduler need not try again.
async fn a_pod_that_someone_wrote_to_is_bound_all_the_same(world: &World) {
    let note = json!({"metadata": {"annotations": {"example.com/note": "written meanwhile"}}});
    is_answer("noted", &binds_while(world, "noted", patch(world, "noted", note)).await, "");
    is_in_place(world, "noted").await;
    let said = [StatusCode::CONFLICT, StatusCode::CREATED];
    assert_eq!(world.proxy.bindings("noted"), said);
}

async fn another_holders_fence_ends_it(world: &World) {
    let fence = json!({"metadata": {"annotations": {"filmgate.dev/fence": "film-b/1/0"}}});
    let said = binds_while(world, "fenced", patch(world, "fenced", fence)).await;
    is_answer("fenced", &said, &format!("{REFUSED}fenced by another filmgate (film-b/1/0)"));
    assert_eq!(world.proxy.bindings("fenced"), [StatusCode::CONFLICT]);
    gives_to_second(world, "fenced").await;
}

async fn another_schedulers_binding_ends_it(world: &World) {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "taken"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "elsewhere"},
    });
    let taken = async {
        let (pods, parameters) = (world.cluster.pods(), PostParams::default());
        let bound = pods.create_subresource("binding", "taken", &parameters, &binding).await;
        let _: kube::core::Status = bound.unwrap();
    };
    is_answer("taken", &binds_while(world, "taken", taken).await, "the pod was decided about ");
    assert_eq!(world.proxy.bindings("taken"), [StatusCode::CONFLICT]);
    eventually(SOON, "the place free", async || {
        let said = world.bind(&second("taken"), "taken").await;
        if said.is_empty() { Ok(()) } else { Err(said) }
    })
    .await;
    world.metric_is("filmgate_unmanaged_pods", &[("node", "elsewhere")], 1.0).await;
}

/// A conflict may be with our own Binding, which somebody on the way has sent twice.
async fn a_pod_that_cannot_be_read_is_in_doubt(world: &World) {
    world.proxy.befall_each(Verb::Get, |pod| match pod {
        "unread" => Fault::lost(Answer::Faked(503)),
        "unanswered" => Fault::lost(Answer::Own),
        _ => Fault::NONE,
    });
    world.proxy.befall_next(Verb::Bind, "unread", Fault::carried_out(Answer::Faked(409)));
    world.proxy.befall_next(Verb::Bind, "unanswered", Fault::lost(Answer::Faked(409)));
    tokio::join!(binds(world, "unread", UNKNOWN), binds(world, "unanswered", UNKNOWN));
}

async fn a_pod_that_is_read_at_last_is_bound(world: &World) {
    world.proxy.befall_next(Verb::Bind, "reread", Fault::carried_out(Answer::Faked(409)));
    for answer in [Answer::Faked(404), Answer::Faked(500), Answer::Reset] {
        world.proxy.befall_next(Verb::Get, "reread", Fault::lost(answer));
    }
    binds(world, "reread", "").await;
    is_in_place(world, "reread").await;
}

async fn is_in_place(world: &World, pod: &str) {
    refuses_second(world, pod).await;
    assert_eq!(world.node_now(pod).await.as_deref(), Some(pod));
}

/// filmgate's answer where something is done to the pod while its Binding is on the wire.
async fn binds_while(world: &World, name: &str, done: impl Future<Output = ()>) -> String {
    world.proxy.befall_next(Verb::Bind, name, Fault::HELD);
    let done = async {
        eventually(SOON, "the Binding on the wire", async || {
            world.proxy.held().iter().any(|held| held == name).then_some(())
        })
        .await;
        done.await;
        assert_eq!(world.proxy.release(name).await, StatusCode::CONFLICT);
    };
    tokio::join!(world.bind(name, name), done).0
}

async fn patch(world: &World, pod: &str, change: serde_json::Value) {
    let (pods, parameters) = (world.cluster.pods(), PatchParams::default());
    pods.patch(pod, &parameters, &Patch::Merge(change)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_scheduler_puts_a_pod_elsewhere_while_another_may_still_own_the_place() {
    let nodes = vec![SimulatedNode::new("n0", &[24]), SimulatedNode::new("n1", &[24])];
    let world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    world.proxy.befall(Verb::Fence, LOST_FENCE);
    world.proxy.befall_next(Verb::Bind, "first", Fault::lost(Answer::Reset));
    world.cluster.add_pod(sixteen("first").only_on(HOSTNAME, "n0")).await;
    doubts(&world, 1).await;
    world.cluster.add_pod(sixteen("same").only_on(HOSTNAME, "n0")).await;
    world.cluster.add_pod(sixteen("other")).await;
    assert!(world.refused("same").await.contains(NO_ROOM));
    assert_eq!(world.cluster.node_of("other").await, "n1");
    delete(&world, "same").await;

    world.proxy.befall(Verb::Fence, Fault::NONE);
    assert_eq!(world.cluster.node_of("first").await, "n0");
    assert_eq!(world.proxy.bindings("first"), [StatusCode::CREATED]);
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_down_the_charge_stays_and_the_fence_is_tried_again() {
    let nodes = vec![SimulatedNode::new("n0", &[24]), SimulatedNode::new("n1", &[24])];
    let mut world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    world.proxy.befall(Verb::Fence, LOST_FENCE);
    silence_watches(&world).await;
    world.proxy.befall_next(Verb::Bind, "bound", Fault::carried_out(Answer::Reset));
    world.proxy.befall_next(Verb::Bind, "lost", Fault::lost(Answer::Reset));
    for (name, node) in [("bound", "n0"), ("lost", "n1")] {
        world.cluster.add_pod(sixteen(name).only_on(HOSTNAME, node)).await;
    }
    doubts(&world, 2).await;
    world.cluster.kill_api_server();
    world.proxy.befall(Verb::Fence, Fault::NONE);
    throughout(SOON, async || doubts(&world, 2).await).await;

    world.cluster.restart_api_server().await;
    doubts(&world, 0).await;
    world.bound_within("lost", DEADLINE).await;
    for pod in ["bound", "lost"] {
        assert_eq!(world.proxy.bindings(pod), [StatusCode::CREATED], "{pod}");
    }
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_pods_race_for_forty_places_while_every_other_request_comes_to_harm() {
    let world = World::start(forty_places(WorldOptions::default())).await;
    for verb in [Verb::Bind, Verb::Fence, Verb::Get] {
        world.proxy.befall_each(verb, |_| any_fault());
    }
    create_pods(&world, 0..PODS).await;
    exactly_forty_are_bound(&world).await;
    doubts(&world, 0).await;
    for pod in world.bound_pods().await {
        let bound = world.proxy.bindings(&pod);
        let times = bound.iter().filter(|status| **status == StatusCode::CREATED).count();
        assert_eq!(times, 1, "{pod}: {bound:?}");
    }
}

/// None, every other time. A conflict that is told is one: nobody on the way says 409 first and
/// lets the request go on afterwards.
fn any_fault() -> Fault {
    let mut random = rand::rng();
    if rand::random() {
        return Fault::NONE;
    }
    let moment = Duration::from_secs(4).mul_f64(rand::random());
    let commits = [Commit::Before(Duration::ZERO), Commit::After(moment), Commit::Never];
    let commit = *commits.choose(&mut random).unwrap();
    let answers = [Answer::Reset, Answer::Late(moment), Answer::Faked(503), Answer::Faked(409)];
    let answers = if let Commit::After(_) = commit { &answers[..3] } else { &answers };
    Fault { commit, answer: *answers.choose(&mut random).unwrap() }
}
