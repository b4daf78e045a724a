//! While the extender is down or hangs.

use std::time::Duration;

use super::support::objects::pod;
use super::world::{SimulatedNode, World, WorldOptions};

const AT_ONCE: Duration = Duration::from_secs(5);
/// kube-scheduler's timeout for one call of the extender.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// kube-scheduler retries by itself after an error, with a backoff of at most 2 s.
const BACK_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn while_the_extender_is_down_gpu_pods_wait_and_the_others_do_not() {
    let mut world = World::start(one_node()).await;
    world.kill_extender();
    world.cluster.add_pod(pod("with-gpu").gpus(1).vram("12Gi").steered()).await;
    world.cluster.add_pod(pod("without-gpu")).await;
    world.bound_within("without-gpu", AT_ONCE).await;
    assert_eq!(world.node_now("with-gpu").await, None, "nobody was asked");

    world.start_extender().await;
    world.bound_within("with-gpu", BACK_DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_extender_hangs_a_pod_waits_one_timeout_for_each_gpu_pod_before_it() {
    let mut world = World::start(one_node()).await;
    world.signal_extender(libc::SIGSTOP);
    world.cluster.add_pod(pod("gpu-0").gpus(1).vram("2Gi").steered()).await;
    world.cluster.add_pod(pod("gpu-1").gpus(1).vram("2Gi").steered()).await;
    world.cluster.add_pod(pod("without-gpu")).await;
    world.bound_within("without-gpu", HTTP_TIMEOUT * 2 + AT_ONCE).await;

    world.signal_extender(libc::SIGCONT);
    world.bound_within("gpu-0", BACK_DEADLINE).await;
    world.bound_within("gpu-1", BACK_DEADLINE).await;
    world.assert_no_overcommit();
}

fn one_node() -> WorldOptions {
    WorldOptions { nodes: vec![SimulatedNode::new("n0", &[24])], ..WorldOptions::default() }
}
