//! A stream of small pods, and one that needs a whole GPU.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::support::objects::{is_bound, pod};
use super::world::{SimulatedNode, World, WorldOptions};

const STARVATION_AFTER: Duration = Duration::from_secs(10);
/// At most so many small pods fit, and one of them ends with each beat of the stream.
const PLACES: u32 = 4;
const BEAT: Duration = Duration::from_millis(500);
/// So many are always waiting for the place of the next that ends.
const QUEUE: usize = 3;
const SLACK: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_needs_a_whole_gpu_runs_soon_after_it_starves() {
    let nodes = vec![SimulatedNode::new("n0", &[24])];
    let settings = format!("starvationAfter: {}s\n", STARVATION_AFTER.as_secs());
    let world = World::start(WorldOptions { nodes, settings, ..WorldOptions::default() }).await;
    let mut stream = Stream::default();
    while running(&stream.beat(&world).await) < PLACES as usize {}
    world.cluster.add_pod(pod("big").gpus(1).vram("20Gi").steered()).await;
    world.refused("big").await;

    let since = Instant::now();
    let mut pace = interval(BEAT);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while world.node_now("big").await.is_none() {
        let waited = since.elapsed();
        assert!(waited < STARVATION_AFTER + PLACES * BEAT + SLACK, "starved for {waited:?}");
        let small = stream.beat(&world).await;
        let is_early = waited + PLACES * BEAT < STARVATION_AFTER;
        assert!(!is_early || running(&small) > 0, "the stream has dried up");
        pace.tick().await;
    }
    let waited = since.elapsed();
    println!("bound after {:.1} s", waited.as_secs_f64());
    assert!(waited > STARVATION_AFTER / 2, "nothing starved it");
    assert!(world.event("big", "GPUReserved").await.contains("n0"));
    world.assert_no_overcommit();
}

/// Small pods, one after the other.
#[derive(Default)]
struct Stream {
    created: usize,
    /// All places were taken once: from then on pods end.
    is_full: bool,
}

impl Stream {
    /// The oldest that runs ends, and new ones queue up. Those that are there, the oldest first.
    async fn beat(&mut self, world: &World) -> Vec<Pod> {
        let pods = world.cluster.pods().list(&ListParams::default()).await.unwrap().items;
        let is_small = |pod: &Pod| pod.name_any().starts_with("small") && !has_ended(pod);
        let mut small: Vec<Pod> = pods.into_iter().filter(is_small).collect();
        small.sort_by_key(ResourceExt::name_any);
        self.is_full |= running(&small) >= PLACES as usize;
        if self.is_full
            && let Some(oldest) = small.iter().find(|pod| is_bound(pod))
        {
            world.cluster.complete_pod(&oldest.name_any()).await;
        }
        for _ in small.len() - running(&small)..QUEUE {
            let name = format!("small-{:04}", self.created);
            world.cluster.add_pod(pod(&name).gpus(1).vram("5Gi").steered()).await;
            self.created += 1;
        }
        small
    }
}

fn running(pods: &[Pod]) -> usize {
    pods.iter().filter(|pod| is_bound(pod)).count()
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
