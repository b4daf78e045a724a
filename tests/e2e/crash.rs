//! The extender is killed in the middle of it all.

use std::time::Duration;

use axum::http::StatusCode;
use rand::RngExt;

use super::race::{PODS, create_pods, exactly_forty_are_bound, forty_places};
use super::support::eventually::eventually;
use super::support::objects::pod;
use super::world::{SimulatedNode, World, WorldOptions};

const DEADLINE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_millis(1500);

/// Kills in one burst: three in `make test`, twenty in the long form.
fn kills() -> usize {
    if super::support::is_long() { 20 } else { 3 }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_of_a_burst_it_over_commits_nothing_and_binds_every_pod() {
    let mut world = World::start(forty_places(WorldOptions::default())).await;
    world.proxy.delay_bindings(Duration::from_millis(200));
    let mut random = rand::rng();
    for kill in 0..kills() {
        // Pods arrive all along, so that each kill finds some on their way.
        create_pods(&world, PODS * kill / kills()..PODS * (kill + 1) / kills()).await;
        // The random moment is the point here: nothing is waited for.
        tokio::time::sleep(LONGEST_LIFE.mul_f64(random.random())).await;
        world.kill_extender();
        world.start_extender().await;
    }
    exactly_forty_are_bound(&world).await;
    world.assert_no_overcommit();
}

/// kube-scheduler is stopped meanwhile: it would note on the pod that its binding failed, and any
/// such write makes the late Binding fail too. The fence must not count on that.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_of_the_dead_that_comes_late_is_refused_by_the_fence() {
    let nodes = vec![SimulatedNode::new("n0", &[24])];
    let mut world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    world.proxy.hold_bindings(true);
    world.cluster.add_pod(pod("late").gpus(1).vram("16Gi").steered()).await;
    eventually(DEADLINE, "a Binding on the wire", async || {
        (world.proxy.held() == ["late"]).then_some(())
    })
    .await;
    world.signal_scheduler(libc::SIGSTOP);
    world.kill_extender();

    world.proxy.hold_bindings(false);
    world.cluster.add_pod(pod("fills").gpus(1).vram("16Gi").steered()).await;
    world.start_extender().await;
    world.has_read(1).await;
    assert_eq!(world.bind("fills", "n0").await, "");

    assert_eq!(world.proxy.release("late").await, StatusCode::CONFLICT);
    assert_eq!(world.node_now("late").await, None);
    world.assert_no_overcommit();
}
