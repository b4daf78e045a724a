//! Many pods at once for fewer places.

use std::ops::Range;
use std::time::Duration;

use filmgate::engine::Bytes;
use futures::StreamExt;
use kube::api::DeleteParams;

use super::support::eventually::eventually;
use super::support::objects::pod;
use super::world::{Mode, SimulatedNode, World, WorldOptions};

pub const PODS: usize = 64;
pub const PLACES: usize = 40;
pub const POD_VRAM: &str = "3993Mi";
const RACE_DEADLINE: Duration = Duration::from_secs(90);
const CREATED_AT_A_TIME: usize = 16;

/// Races in each variant: one in `make test`, ten in the long form.
fn races() -> usize {
    if super::support::is_long() { 10 } else { 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_pods_race_for_forty_places() {
    race("names", WorldOptions::default, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_full_nodes_sixty_four_pods_race_for_forty_places() {
    race("nodes", || WorldOptions { mode: Mode::Nodes, ..WorldOptions::default() }, Duration::ZERO)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make e2e"]
async fn they_race_with_bind_delayed_at_random() {
    race("delayed", WorldOptions::default, Duration::from_millis(1500)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make e2e"]
async fn they_race_with_a_weight_that_lets_others_choose_the_node() {
    race("weight 1", || WorldOptions { weight: 1, ..WorldOptions::default() }, Duration::ZERO)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: make e2e"]
async fn they_race_without_holds() {
    let options =
        || WorldOptions { settings: "holds: false\n".to_owned(), ..WorldOptions::default() };
    race("no holds", options, Duration::from_millis(300)).await;
}

/// Unequal GPUs: 12 + 12 + 6 + 6 + 4 places for pods of 3.9 GiB.
pub fn forty_places(options: WorldOptions) -> WorldOptions {
    let nodes = vec![
        SimulatedNode::new("n0", &[24, 24]),
        SimulatedNode::new("n1", &[48]),
        SimulatedNode::new("n2", &[24]),
        SimulatedNode::new("n3", &[24, 24]).foreign(1, Bytes::mib(7680)),
    ];
    WorldOptions { nodes, ..options }
}

async fn race(variant: &str, options: impl Fn() -> WorldOptions, bind_delay: Duration) {
    for round in 0..races() {
        let world = World::start(forty_places(options())).await;
        world.proxy.delay_bindings(bind_delay);
        create_pods(&world, 0..PODS).await;
        exactly_forty_are_bound(&world).await;
        each_waiting_pod_says_why(&world).await;
        the_waiting_follow_the_deleted(&world).await;
        world.assert_no_overcommit();
        let metrics = world.metrics().await;
        println!(
            "race {round} ({variant}): {} bind conflicts, {} wakes",
            metrics.sum("filmgate_bind_conflicts_total", &[]),
            metrics.sum("filmgate_wakes_total", &[]),
        );
    }
}

/// Creates these pods as fast as the API server takes them.
pub async fn create_pods(world: &World, numbers: Range<usize>) {
    futures::stream::iter(numbers)
        .for_each_concurrent(CREATED_AT_A_TIME, async |number| {
            let name = format!("p{number}");
            world.cluster.add_pod(pod(&name).gpus(1).vram(POD_VRAM).steered()).await;
        })
        .await;
}

/// Waits until as many pods are bound as fit and all others were refused: nothing moves any more.
pub async fn exactly_forty_are_bound(world: &World) {
    eventually(RACE_DEADLINE, "forty bound, the others refused", async || {
        let bound = world.bound_pods().await.len();
        let refused = world.unschedulable_pods().await.len();
        let is_settled = bound == PLACES && refused == PODS - PLACES;
        is_settled.then_some(()).ok_or(format!("{bound} bound, {refused} refused"))
    })
    .await;
    world.assert_no_overcommit();
}

async fn each_waiting_pod_says_why(world: &World) {
    for name in world.unschedulable_pods().await {
        let event = world.waiting_event(&name).await;
        assert!(event.contains("asked 3.9 GiB (declared); most free: "), "{event}");
    }
}

async fn the_waiting_follow_the_deleted(world: &World) {
    let leaving: Vec<_> = world.bound_pods().await.into_iter().take(PODS - PLACES).collect();
    for name in &leaving {
        world.cluster.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually(RACE_DEADLINE, "the waiting pods bound", async || {
        let bound = world.bound_pods().await;
        let stays = bound.iter().filter(|name| !leaving.contains(name)).count();
        (stays == PLACES).then_some(()).ok_or(format!("{stays} of {PLACES}"))
    })
    .await;
}
