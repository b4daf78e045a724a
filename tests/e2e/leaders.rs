//! Two replicas: the leader is killed, stopped and continued, or restarted politely in a burst of
//! pods, while its Bindings are held back on the wire.

use std::ops::Range;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::json;

use super::race::{PLACES, POD_VRAM, PODS, forty_places};
use super::support::eventually::eventually;
use super::support::objects::pod;
use super::support::replicas::{Election, Replicas, Terms};
use super::world::{SimulatedNode, WorldOptions};

const DEADLINE: Duration = Duration::from_secs(60);
const CREATED_AT_A_TIME: usize = 16;
/// Bindings on the wire when the leader comes to harm.
const HELD: usize = 12;
const REFUSED: usize = PODS - PLACES;

pub(super) async fn forty(election: Election, terms: Terms) -> Replicas {
    let nodes = forty_places(WorldOptions::default()).nodes;
    Replicas::start(nodes, election, terms).await
}

pub(super) async fn create_pods(world: &Replicas, numbers: Range<usize>) {
    futures::stream::iter(numbers)
        .for_each_concurrent(CREATED_AT_A_TIME, async |number| {
            let pod = pod(&format!("p{number}")).gpus(1).vram(POD_VRAM).steered();
            world.cluster.add_pod(pod).await;
        })
        .await;
}

/// A burst in the middle of which the first replica has Bindings on the wire.
async fn burst_with_bindings_held(world: &Replicas) {
    world.replica(0).proxy.hold_bindings(true);
    create_pods(world, 0..PODS).await;
    world.holds_bindings(0, HELD).await;
}

/// The Bindings of the killed one are released when the next has filled the nodes.
async fn the_next_takes_over_from_a_killed_one(world: &mut Replicas) {
    burst_with_bindings_held(world).await;
    world.kill(0);
    world.leads(1).await;
    world.settles(PLACES, REFUSED).await;
    world.releases_in_vain(0).await;
    all_places_are_filled(world).await;
}

/// So are those of the one that was stopped past its Lease, which goes on.
async fn the_next_takes_over_from_a_stopped_one(world: &mut Replicas) {
    burst_with_bindings_held(world).await;
    world.signal(0, libc::SIGSTOP);
    world.leads(1).await;
    world.settles(PLACES, REFUSED).await;
    world.signal(0, libc::SIGCONT);
    world.releases_in_vain(0).await;
}

pub(super) async fn all_places_are_filled(world: &Replicas) {
    world.settles(PLACES, REFUSED).await;
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leaders_bindings_are_refused_when_the_next_has_filled_the_nodes() {
    let mut world = forty(Election::Sibling, Terms::SHORT).await;
    the_standby_says_so(&world, 1).await;
    the_next_takes_over_from_a_killed_one(&mut world).await;
}

/// It is ready, since its pod must be; it answers no call, and explain says why.
async fn the_standby_says_so(world: &Replicas, at: usize) {
    world.cluster.add_pod(pod("asked-about").gpus(1).vram("1000Gi").steered()).await;
    let standby = world.replica(at);
    let call = json!({"Pod": pod("x").gpus(1).build(), "Nodes": null, "NodeNames": ["n0"]});
    let error = standby.error_of("filter", &call).await;
    assert!(error.starts_with("this filmgate does not lead"), "{error}");
    let error = world.bind(at, "asked-about", "n0").await;
    assert!(error.starts_with("this filmgate does not lead"), "{error}");
    assert_eq!(standby.readiness().await, Some(200));
    assert_eq!(standby.metric("filmgate_leader").await, Some(0.0));
    assert_eq!(standby.metric("filmgate_takeovers_total").await, Some(0.0));
    let known = eventually(DEADLINE, "the pod known", async || {
        let is_known = standby.knows("default/asked-about").await;
        is_known.then(|| standby.explain("default/asked-about"))
    })
    .await;
    assert!(known.contains("this replica does not lead"), "{known}");
    world.cluster.pods().delete("asked-about", &Default::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_past_its_lease_binds_nothing_when_it_goes_on() {
    let mut world = forty(Election::Sibling, Terms::SHORT).await;
    the_next_takes_over_from_a_stopped_one(&mut world).await;
    // kube-scheduler ends when it finds its Lease lost.
    world.scheduler(0).wait_exit(DEADLINE).await;
    assert_eq!(world.replica(0).metric("filmgate_leader").await, Some(0.0));
    all_places_are_filled(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_politely_is_followed_before_its_lease_is_over() {
    let mut world = forty(Election::Sibling, Terms::USUAL).await;
    for at in [0, 1] {
        world.replica(at).proxy.delay_bindings(Duration::from_millis(500));
    }
    for (round, leader) in [0, 1].into_iter().enumerate() {
        create_pods(&world, PODS * round / 2..PODS * (round + 1) / 2).await;
        follow_politely(&mut world, leader, 1 - leader).await;
    }
    all_places_are_filled(&world).await;
}

pub(super) async fn follow_politely(world: &mut Replicas, leader: usize, next: usize) {
    let asked = Instant::now();
    world.signal(leader, libc::SIGTERM);
    world.leads(next).await;
    let took = asked.elapsed();
    println!("followed after {:.1} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(Terms::USUAL.lease), "the Lease ran out: {took:?}");
    world.ended(leader).await;
    world.spawn(leader);
    world.has_read(leader, 4).await;
}

/// kube-scheduler is stopped meanwhile: any write of it would make a late Binding fail. And the
/// standby's watches tell nothing any more: what the leader bound it can only know by its list.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_fences_and_lists_before_it_answers() {
    let nodes = vec![SimulatedNode::new("n0", &[24]), SimulatedNode::new("n1", &[24])];
    let mut world = Replicas::start(nodes, Election::Own, Terms::SHORT).await;
    let readiness = (world.replica(0).readiness().await, world.replica(1).readiness().await);
    assert_eq!(readiness, (Some(200), Some(503)), "one endpoint");
    world.replica(1).proxy.silence_watches();
    world.cluster.add_pod(pod("first").gpus(1).vram("16Gi").uses("64Mi").steered()).await;
    let first = world.cluster.node_of("first").await;
    world.replica(0).proxy.hold_bindings(true);
    world.cluster.add_pod(pod("late").gpus(1).vram("16Gi").steered()).await;
    world.holds_bindings(0, 1).await;
    world.scheduler(0).signal(libc::SIGSTOP);
    world.kill(0);
    world.cluster.add_pod(pod("second").gpus(1).vram("16Gi").steered()).await;
    world.cluster.add_pod(pod("fills").gpus(1).vram("16Gi").steered()).await;

    world.leads(1).await;
    assert_eq!(world.replica(1).readiness().await, Some(200));
    let other = if first == "n0" { "n1" } else { "n0" };
    assert_eq!(world.bind(1, "fills", other).await, "");
    assert_eq!(world.bind(1, "second", &first).await, "not enough free VRAM");
    world.releases_in_vain(0).await;
    assert_eq!(world.node_now("late").await, None);
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_service_the_next_replica_takes_over_from_a_killed_one() {
    let mut world = forty(Election::Own, Terms::SHORT).await;
    the_next_takes_over_from_a_killed_one(&mut world).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make e2e"]
async fn behind_a_service_a_stopped_leader_binds_nothing_when_it_goes_on() {
    let mut world = forty(Election::Own, Terms::SHORT).await;
    the_next_takes_over_from_a_stopped_one(&mut world).await;
    eventually(DEADLINE, "one endpoint", async || {
        let first = world.replica(0).readiness().await;
        (first == Some(503)).then_some(()).ok_or(format!("{first:?}"))
    })
    .await;
    assert_eq!(world.replica(0).metric("filmgate_leader").await, Some(0.0));
    all_places_are_filled(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make e2e"]
async fn behind_a_service_a_leader_that_ends_politely_is_followed_at_once() {
    let mut world = forty(Election::Own, Terms::USUAL).await;
    for (round, leader) in [0, 1, 0, 1].into_iter().enumerate() {
        create_pods(&world, PODS * round / 4..PODS * (round + 1) / 4).await;
        follow_politely(&mut world, leader, 1 - leader).await;
    }
    all_places_are_filled(&world).await;
}

/// Its kube-scheduler holds the Lease all along, so nobody else leads; it takes over from itself.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make e2e"]
async fn an_extender_that_was_stopped_past_the_lease_takes_over_from_itself() {
    let mut world = forty(Election::Sibling, Terms::SHORT).await;
    burst_with_bindings_held(&world).await;
    world.extender(0).signal(libc::SIGSTOP);
    world.renewed_past_a_lease().await;
    // What it sends from now on is its right again.
    world.replica(0).proxy.hold_bindings(false);
    world.extender(0).signal(libc::SIGCONT);
    world.leads(0).await;
    world.releases_in_vain(0).await;
    world.settles(PLACES, REFUSED).await;
    let takeovers = world.replica(0).metric("filmgate_takeovers_total").await;
    assert!(takeovers >= Some(2.0), "{takeovers:?}");
    assert_eq!(world.replica(1).metric("filmgate_takeovers_total").await, Some(0.0));
    world.assert_no_overcommit();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make e2e"]
async fn an_extender_whose_scheduler_was_stopped_past_the_lease_leads_no_more() {
    let mut world = forty(Election::Sibling, Terms::SHORT).await;
    burst_with_bindings_held(&world).await;
    world.scheduler(0).signal(libc::SIGSTOP);
    world.leads(1).await;
    assert_eq!(world.replica(0).metric("filmgate_leader").await, Some(0.0));
    world.settles(PLACES, REFUSED).await;
    world.scheduler(0).signal(libc::SIGCONT);
    world.releases_in_vain(0).await;
    world.scheduler(0).wait_exit(DEADLINE).await;
    all_places_are_filled(&world).await;
}
