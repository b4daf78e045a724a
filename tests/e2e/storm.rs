//! However much happens around them, pods that wait are seldom written about.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use filmgate::cluster::WAKE_ANNOTATION;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};

use super::support::eventually::eventually;
use super::support::objects::pod;
use super::support::storm::Storm;
use super::world::{SimulatedNode, World, WorldOptions};

const PODS: usize = 100;
const EVENTS_PER_SECOND: u32 = 20;
const DEADLINE: Duration = Duration::from_secs(90);
/// How often each pod is tried.
const TRIES: usize = 15;
/// Memory is there for so long, and then gone for so long.
const FLAP: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(120));

#[tokio::test(flavor = "multi_thread")]
async fn in_a_storm_of_other_events_next_to_nothing_is_written_about_pods_that_wait() {
    let nodes = ["n0", "n1", "n2"];
    let full = |name: &&str| SimulatedNode::new(name, &[24]).foreign_gib(0, 20);
    let nodes = nodes.iter().map(full).collect();
    let world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    let (since, wakes) = (Instant::now(), Wakes::watch(world.cluster.pods()));
    for number in 0..PODS {
        world.cluster.add_pod(pod(&format!("p{number}")).gpus(1).vram("16Gi").steered()).await;
    }

    let storm = Storm::start(world.cluster.admin(), EVENTS_PER_SECOND).await;
    eventually(DEADLINE, "every pod tried again and again", async || {
        // Memory that comes and goes is no storm, but wakes pods in vain.
        flap(&world).await;
        let calls = world.filter_calls().await;
        (calls >= (TRIES * PODS) as f64).then_some(()).ok_or(format!("{calls} tries"))
    })
    .await;

    let seconds = since.elapsed().as_secs_f64();
    let (wakes, events) = (wakes.by_pod(), events_by_pod(&world).await);
    let total = |counts: &HashMap<String, usize>| counts.values().sum::<usize>();
    let most = |counts: &HashMap<String, usize>| counts.values().copied().max().unwrap_or(0);
    println!(
        "{seconds:.0} s, {} other events: {} wakes, {} of one pod; {} events, {} of one pod",
        storm.events(),
        total(&wakes),
        most(&wakes),
        total(&events),
        most(&events),
    );
    assert!(total(&wakes) > 0, "memory was free at times");
    assert!(most(&wakes) <= doublings(seconds), "{wakes:?}");
    assert_eq!(events.len(), PODS, "every owner is told");
    assert!(most(&events) <= doublings(seconds / 60.0), "{events:?}");
}

/// How many things can be done in that time when each pause is twice as long as the one before,
/// and the first lasts one: a pod's wakes in seconds, its events in minutes.
fn doublings(time: f64) -> usize {
    1 + (time + 1.0).log2().floor() as usize
}

async fn flap(world: &World) {
    world.fleet_foreign("n0", 0, 0);
    tokio::time::sleep(FLAP.0).await;
    world.fleet_foreign("n0", 0, 20);
    tokio::time::sleep(FLAP.1).await;
}

/// Values of each pod's annotation that wakes it, as a watch sees them.
struct Wakes(Arc<Mutex<HashMap<String, HashSet<String>>>>);

impl Wakes {
    fn watch(pods: Api<Pod>) -> Self {
        let seen: Arc<Mutex<HashMap<String, HashSet<String>>>> = Arc::default();
        let noted = seen.clone();
        tokio::spawn(async move {
            let mut versions = watcher(pods, watcher::Config::default()).applied_objects().boxed();
            while let Some(Ok(pod)) = versions.next().await {
                if let Some(value) = pod.annotations().get(WAKE_ANNOTATION) {
                    noted.lock().unwrap().entry(pod.name_any()).or_default().insert(value.clone());
                }
            }
        });
        Self(seen)
    }

    fn by_pod(&self) -> HashMap<String, usize> {
        let seen = self.0.lock().unwrap();
        seen.iter().map(|(pod, values)| (pod.clone(), values.len())).collect()
    }
}

async fn events_by_pod(world: &World) -> HashMap<String, usize> {
    let events: Api<Event> = Api::default_namespaced(world.cluster.admin());
    let ours = ListParams::default().fields("reportingController=filmgate.dev/filmgate");
    let mut counts = HashMap::new();
    for event in events.list(&ours).await.unwrap().items {
        *counts.entry(event.regarding.unwrap().name.unwrap()).or_default() += 1;
    }
    counts
}
