//! A rollout and its rollback under load. What replicas know is in the pods' annotations, so each takes over
//! what the other's Bindings wrote.

use super::leaders::{all_places_are_filled, create_pods, follow_politely, forty};
use super::race::PODS;
use super::support::objects::pod;
use super::support::replicas::{Election, Terms};

/// There and back: each replica is ended politely while pods arrive, and its successor has read nothing of
/// what it knew. Bindings are slow, so that each change finds some on the wire.
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_arrive_during_an_upgrade_and_a_rollback_are_all_decided_about() {
    let mut world = forty(Election::Sibling, Terms::USUAL).await;
    for at in [0, 1] {
        world.replica(at).proxy.delay_bindings(std::time::Duration::from_millis(300));
    }
    // What a newer filmgate may write beside what this one knows.
    let of_a_newer = pod("newer").annotation("filmgate.dev/of-a-newer-version", "x");
    world.cluster.add_pod(of_a_newer.gpus(1).vram("64Mi").uses("64Mi").steered()).await;
    world.cluster.node_of("newer").await;
    world.cluster.pods().delete("newer", &Default::default()).await.unwrap();
    for (round, leader) in [0, 1, 0, 1].into_iter().enumerate() {
        create_pods(&world, PODS * round / 4..PODS * (round + 1) / 4).await;
        follow_politely(&mut world, leader, 1 - leader).await;
    }
    all_places_are_filled(&world).await;
}
