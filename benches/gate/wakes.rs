//! How long a pod waits once there is memory for it: at least a hundred wait, memory becomes free in
//! one place at a time, and the time from then, in the simulated truth, to the Binding, as a watch
//! sees it, is taken.
//!
//! Memory becomes free as it does in life: a process outside Kubernetes ends, or a pod is deleted.
//! That is done in calm, when kube-scheduler has come to rest, and in a storm of other events; and
//! under the longest backoff of the shipped configuration and under kube-scheduler's own. By then
//! each pod was refused so often that its backoff is the longest.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use filmgate::engine::Bytes;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

use super::quantile::{median, quantile};
use super::stage::{DEADLINE, Filmgate, Stage, node_name};
use super::support::eventually::eventually;
use super::support::figures::Figures;
use super::support::objects::{is_bound, pod};
use super::support::simulated::SimulatedNode;
use super::support::storm::Storm;

/// Pods that wait when the last memory of a block becomes free.
const LINE: usize = 100;
/// Nodes of one GPU, each of which becomes free twice in a block.
const CALM_NODES: usize = 10;
const STORMY_NODES: usize = 8;
const NODES: usize = CALM_NODES + STORMY_NODES;
/// Blocks under either backoff, in turn.
const BLOCKS: usize = 3;
const EVENTS_PER_SECOND: u32 = 20;
const DEFAULT_BACKOFF: u32 = 10;
/// After so many refusals in a row even that backoff is at its longest.
const REFUSALS: usize = 6;
/// Without a try for so long, kube-scheduler has come to rest.
const CALM: Duration = Duration::from_millis(500);
const GIB_PER_POD: u64 = 16;
const FOREIGN_GIB: u64 = 20;

/// Measures and notes `wake_p95_seconds` and `wake_p95_seconds_backoff_10`.
pub fn measure(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let load_before = load();
    let (shipped, patient) = runtime.block_on(async {
        let mut bench = Bench::start().await;
        let (mut shipped, mut patient) = (Vec::new(), Vec::new());
        for _ in 0..BLOCKS {
            shipped.extend(bench.block(None).await);
            patient.extend(bench.block(Some(DEFAULT_BACKOFF)).await);
        }
        (shipped, patient)
    });
    let load = json!({"before": load_before, "after": load()});
    for (name, wakes) in [("wake_p95_seconds", shipped), ("wake_p95_seconds_backoff_10", patient)] {
        let of = |is: &dyn Fn(&Wake) -> bool| {
            let took: Vec<f64> =
                wakes.iter().filter(|one| is(one)).map(|one| one.seconds).collect();
            json!({
                "median": median(&took), "p95": quantile(&took, 0.95), "max": quantile(&took, 1.0),
                "count": took.len(),
            })
        };
        let calm: Vec<f64> = wakes
            .iter()
            .filter(|one| one.weather == Weather::Calm)
            .map(|one| one.seconds)
            .collect();
        let both = |way, weather| of(&|one: &Wake| (one.way, one.weather) == (way, weather));
        let detail = json!({
            "calm": of(&|one| one.weather == Weather::Calm),
            "calm_process_ended": both(Way::ProcessEnds, Weather::Calm),
            "calm_pod_deleted": both(Way::PodIsDeleted, Weather::Calm),
            "storm": of(&|one| one.weather == Weather::Storm),
            "storm_process_ended": both(Way::ProcessEnds, Weather::Storm),
            "storm_pod_deleted": both(Way::PodIsDeleted, Weather::Storm),
            "waiting": LINE, "refusals_before": REFUSALS, "events_per_second_in_storm": EVENTS_PER_SECOND,
            "load": load,
        });
        figures.add(name, quantile(&calm, 0.95), "s", "<= 2", detail);
    }
}

/// How memory becomes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ProcessEnds,
    PodIsDeleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Calm,
    Storm,
}

struct Wake {
    way: Way,
    weather: Weather,
    seconds: f64,
}

/// A pod that was bound, as a watch saw it.
struct Bound {
    pod: String,
    node: String,
    at: Instant,
}

struct Bench {
    stage: Stage,
    filmgate: Filmgate,
    bound: mpsc::UnboundedReceiver<Bound>,
    blocks: usize,
}

impl Bench {
    async fn start() -> Self {
        let node = |number| SimulatedNode::new(&node_name(number), &[24]);
        let stage = Stage::start((0..NODES).map(node).collect()).await;
        let filmgate = stage.start_filmgate().await;
        let bound = watch_bindings(stage.cluster.pods());
        Self { stage, filmgate, bound, blocks: 0 }
    }

    async fn block(&mut self, backoff: Option<u32>) -> Vec<Wake> {
        self.blocks += 1;
        self.fill().await;
        let scheduler = self.stage.start_scheduler(Some(self.filmgate.extender()), backoff);
        let storm = self.storm().await;
        self.refused_often().await;
        drop(storm);
        let mut wakes = Vec::new();
        for number in 0..CALM_NODES {
            wakes.extend(self.free_twice(&node_name(number), Weather::Calm).await);
        }
        let storm = self.storm().await;
        for number in CALM_NODES..NODES {
            wakes.extend(self.free_twice(&node_name(number), Weather::Storm).await);
        }
        drop((storm, scheduler));
        wakes
    }

    async fn storm(&self) -> Storm {
        Storm::start(self.stage.cluster.admin(), EVENTS_PER_SECOND).await
    }

    /// Every node is full, of memory that is no pod's, and more pods wait than places will be free.
    async fn fill(&self) {
        self.stage.delete_pods().await;
        for number in 0..NODES {
            self.set_foreign(&node_name(number), FOREIGN_GIB);
        }
        eventually(DEADLINE, "filmgate sees every node full", async || {
            let free = self.filmgate.metrics().await;
            let free = free.series("filmgate_gpu_free_bytes");
            let is_full = |bytes: f64| bytes < Bytes::gib(GIB_PER_POD).get() as f64;
            let full = free.iter().filter(|(_, bytes)| is_full(*bytes)).count();
            (full == NODES).then_some(()).ok_or(format!("{full} full"))
        })
        .await;
        let new = |number| {
            let name = format!("b{}-p{number}", self.blocks);
            pod(&name).gpus(1).vram(&format!("{GIB_PER_POD}Gi")).steered()
        };
        self.stage.create_pods((0..LINE + 2 * NODES).map(new)).await;
    }

    async fn refused_often(&self) {
        let before = self.filmgate.filter_calls().await;
        let enough = (REFUSALS * (LINE + 2 * NODES)) as f64;
        eventually(DEADLINE, "pods refused often", async || {
            let calls = self.filmgate.filter_calls().await - before;
            (calls >= enough).then_some(()).ok_or(format!("{calls} of {enough}"))
        })
        .await;
    }

    /// The process ends that fills the node; then the pod that has come there is deleted.
    async fn free_twice(&mut self, node: &str, weather: Weather) -> [Wake; 2] {
        self.ready(weather).await;
        let freed_at = Instant::now();
        self.set_foreign(node, 0);
        let first = self.bound_on(node).await;
        let ended = Wake { way: Way::ProcessEnds, weather, seconds: since(freed_at, first.at) };
        self.runs(&first).await;

        self.ready(weather).await;
        let pods = self.stage.cluster.pods();
        pods.delete(&first.pod, &DeleteParams::default()).await.unwrap();
        let freed_at = self.holds(node, |used| used == Bytes::ZERO).await;
        let second = self.bound_on(node).await;
        let deleted = Wake { way: Way::PodIsDeleted, weather, seconds: since(freed_at, second.at) };
        println!("{weather:?} {node}: {:.3} s, {:.3} s", ended.seconds, deleted.seconds);
        [ended, deleted]
    }

    /// Waits until the pod has its memory, and its kubelet has said that it runs: one that is
    /// deleted before that goes without a word of its containers' end, as by force.
    async fn runs(&self, bound: &Bound) {
        self.holds(&bound.node, |used| used >= Bytes::gib(GIB_PER_POD)).await;
        let pods = self.stage.cluster.pods();
        eventually(DEADLINE, "the pod runs", async || {
            (pods.get(&bound.pod).await.ok()?.status?.phase? == "Running").then_some(())
        })
        .await;
    }

    async fn ready(&self, weather: Weather) {
        if weather == Weather::Storm {
            return;
        }
        let mut last = (f64::NAN, Instant::now());
        eventually(DEADLINE, "kube-scheduler at rest", async || {
            let calls = self.filmgate.filter_calls().await;
            if calls != last.0 {
                last = (calls, Instant::now());
            }
            (last.1.elapsed() >= CALM).then_some(())
        })
        .await;
    }

    fn set_foreign(&self, node: &str, gib: u64) {
        let gpu = self.stage.gpu(node);
        self.stage.fleet.set_foreign(node, &gpu, Bytes::gib(gib)).unwrap();
    }

    /// Waits until so much of the node's GPU is in use, in truth; when that was.
    async fn holds(&self, node: &str, is_so: impl Fn(Bytes) -> bool) -> Instant {
        let gpu = self.stage.gpu(node);
        let until = Instant::now() + DEADLINE;
        while !is_so(self.stage.fleet.truth(node, &gpu).unwrap().used) {
            assert!(Instant::now() < until, "{node} never came to it");
            // Finer than what is measured.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Instant::now()
    }

    async fn bound_on(&mut self, node: &str) -> Bound {
        let of_node = async {
            loop {
                let bound = self.bound.recv().await.unwrap();
                if bound.node == node {
                    return bound;
                }
            }
        };
        let bound = tokio::time::timeout(DEADLINE, of_node).await;
        bound.unwrap_or_else(|_| panic!("nobody was bound to {node}"))
    }
}

fn watch_bindings(pods: Api<Pod>) -> mpsc::UnboundedReceiver<Bound> {
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut versions = watcher(pods, watcher::Config::default()).applied_objects().boxed();
        let mut seen = HashSet::new();
        while let Some(Ok(pod)) = versions.next().await {
            let at = Instant::now();
            if is_bound(&pod) && seen.insert(pod.uid()) {
                let (name, node) = (pod.name_any(), pod.spec.unwrap().node_name.unwrap());
                let _ = tell.send(Bound { pod: name, node, at });
            }
        }
    });
    told
}

fn since(freed_at: Instant, bound_at: Instant) -> f64 {
    bound_at.duration_since(freed_at).as_secs_f64()
}

/// Of the last minute: how many processes wanted a core.
fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    load.split(' ').next().unwrap().parse().unwrap()
}
