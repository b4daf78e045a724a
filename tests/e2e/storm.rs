//! However much happens around them, pods that wait are seldom written about.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use filmgate::cluster::WAKE_ANNOTATION;
use filmgate::engine::Bytes;
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
/// The storm's.
const EVENTS: u64 = 200;
/// How often each pod is tried meanwhile, on average.
const TRIES: usize = 10;
const DEADLINE: Duration = Duration::from_secs(90);
/// How often memory comes and goes.
const FLAPS: usize = 60;

type Counts = HashMap<String, usize>;

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_wait_are_seldom_written_about_however_much_happens() {
    let full = |name| SimulatedNode::new(name, &[24]).foreign_gib(0, 20);
    let nodes = vec![full("n0"), full("n1")];
    let mut world = World::start(WorldOptions { nodes, ..WorldOptions::default() }).await;
    let began_at = Instant::now();
    let wakes = Wakes::watch(world.cluster.pods());
    for number in 0..PODS {
        world.cluster.add_pod(pod(&format!("p{number}")).gpus(1).vram("16Gi").steered()).await;
    }

    let storm = Storm::start(world.cluster.admin(), EVENTS_PER_SECOND).await;
    eventually(DEADLINE, "every pod tried again and again", async || {
        let (calls, events) = (world.filter_calls().await, storm.events());
        let is_enough = calls >= (TRIES * PODS) as f64 && events >= EVENTS;
        is_enough.then_some(()).ok_or(format!("{calls} tries, {events} events"))
    })
    .await;
    assert_eq!(wakes.by_pod(), Counts::new(), "no memory became free");
    drop(storm);

    // kube-scheduler tries nobody any more: whoever is woken for memory that comes and goes is woken
    // in vain.
    world.signal_scheduler(libc::SIGSTOP);
    for _ in 0..FLAPS {
        for (foreign_gib, is_free) in [(0, true), (20, false)] {
            world.fleet_foreign("n0", 0, foreign_gib);
            room_is_seen(&world, is_free).await;
        }
    }

    let seconds = began_at.elapsed().as_secs_f64();
    let (wakes, events) = (wakes.by_pod(), events_by_pod(&world).await);
    println!("{seconds:.0} s: most wakes {}, most events {}", most(&wakes), most(&events));
    assert!(most(&wakes) > 1, "memory came {FLAPS} times: {wakes:?}");
    assert!(most(&wakes) <= doublings(seconds), "a pod's pauses grow from a second: {wakes:?}");
    assert_eq!(events.len(), PODS, "every owner is told");
    assert!(most(&events) <= doublings(seconds / 60.0), "and theirs from a minute: {events:?}");
}

/// How often something happens in that time when each pause is twice as long as the one before it,
/// and the first lasts one.
fn doublings(time: f64) -> usize {
    1 + (time + 1.0).log2().floor() as usize
}

fn most(counts: &Counts) -> usize {
    counts.values().copied().max().unwrap_or(0)
}

/// Waits until filmgate has read that `n0` has room, but for what it holds there for a woken pod.
async fn room_is_seen(world: &World, is_there: bool) {
    let labels = [("node", "n0"), ("gpu", "0")];
    eventually(DEADLINE, "room read", async || {
        let free = world.metrics().await.value("filmgate_gpu_free_bytes", &labels)?;
        ((free > Bytes::gib(6).get() as f64) == is_there).then_some(())
    })
    .await;
}

/// Values of each pod's annotation that wakes it, as a watch sees them.
struct Wakes(Arc<Mutex<HashMap<String, HashSet<String>>>>);

impl Wakes {
    fn watch(pods: Api<Pod>) -> Self {
        let wakes = Self(Arc::default());
        let seen = wakes.0.clone();
        tokio::spawn(async move {
            let mut versions = watcher(pods, watcher::Config::default()).applied_objects().boxed();
            while let Some(Ok(pod)) = versions.next().await {
                if let Some(value) = pod.annotations().get(WAKE_ANNOTATION) {
                    seen.lock().unwrap().entry(pod.name_any()).or_default().insert(value.clone());
                }
            }
        });
        wakes
    }

    fn by_pod(&self) -> Counts {
        let seen = self.0.lock().unwrap();
        seen.iter().map(|(pod, values)| (pod.clone(), values.len())).collect()
    }
}

async fn events_by_pod(world: &World) -> Counts {
    let events: Api<Event> = Api::default_namespaced(world.cluster.admin());
    let ours = ListParams::default().fields("reportingController=filmgate.dev/filmgate");
    let mut counts = Counts::new();
    for event in events.list(&ours).await.unwrap().items {
        *counts.entry(event.regarding.unwrap().name.unwrap()).or_default() += 1;
    }
    counts
}
