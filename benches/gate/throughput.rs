//! Pods per second through a real kube-scheduler with 1,000 nodes: without an extender, with the
//! no-op extender, with filmgate. One control plane and one set of simulated nodes serve all three,
//! and each arm places the same pods on empty nodes.
//!
//! Whatever else runs on the machine slows one arm more than the next. So arms are short and take
//! turns, ratios are of one round, and the processor time that a pod costs all processes together
//! is in the detail: where cores are the limit, as on a small machine, its ratio is the pods' too.

use std::collections::HashSet;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use kube::ResourceExt;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

use super::no_op;
use super::processor;
use super::quantile::median;
use super::stage::{DEADLINE, Stage, node_name};
use super::support::figures::Figures;
use super::support::objects::{is_bound, pod};
use super::support::scheduler::Extender;
use super::support::simulated::SimulatedNode;

const NODES: usize = 1_000;
const PODS: usize = 1_000;
const GPUS: usize = 8;
const REPLICAS: u32 = 8;
/// Rounds of all three arms, every other one backwards; the medians count.
const ROUNDS: usize = 6;

/// Measures and notes `pods_per_second_ratio_*`.
pub fn measure(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rounds = runtime.block_on(async {
        let node = |number| SimulatedNode::new(&node_name(number), &[80; GPUS]).replicas(REPLICAS);
        let bench = Bench { stage: Stage::start((0..NODES).map(node).collect()).await };
        let mut rounds = Vec::new();
        for number in 0..ROUNDS {
            rounds.push(bench.round(number % 2 == 1).await);
        }
        rounds
    });
    let of = |arm: Arm, what: fn(&Placed) -> f64| {
        median(&rounds.iter().map(|one| what(&one[arm as usize])).collect::<Vec<_>>())
    };
    let each = |what: fn(&Placed) -> f64| {
        json!({
            "no_extender": of(Arm::None, what), "no_op": of(Arm::NoOp, what),
            "filmgate": of(Arm::Filmgate, what),
        })
    };
    let detail = json!({
        "pods_per_second": each(|placed| placed.per_second),
        "processor_ms_per_pod": each(|placed| placed.processor_ms),
        "nodes": NODES, "pods": PODS, "rounds": ROUNDS, "percentageOfNodesToScore": 100,
    });
    let ratio_to = |arm: Arm| {
        let one = |round: &[Placed; 3]| {
            round[Arm::Filmgate as usize].per_second / round[arm as usize].per_second
        };
        median(&rounds.iter().map(one).collect::<Vec<_>>())
    };
    let (no_op, none) = (ratio_to(Arm::NoOp), ratio_to(Arm::None));
    figures.add("pods_per_second_ratio_noop", no_op, "ratio", ">= 0.95", detail.clone());
    figures.add("pods_per_second_ratio_none", none, "ratio", "", detail);
}

/// How pods were placed in one arm.
#[derive(Clone, Copy, Debug, Default)]
struct Placed {
    per_second: f64,
    /// Of all processes, per pod.
    processor_ms: f64,
}

#[derive(Clone, Copy, Debug)]
enum Arm {
    None,
    NoOp,
    Filmgate,
}

struct Bench {
    stage: Stage,
}

impl Bench {
    async fn round(&self, is_backwards: bool) -> [Placed; 3] {
        let mut arms = [Arm::None, Arm::NoOp, Arm::Filmgate];
        if is_backwards {
            arms.reverse();
        }
        let mut placed = [Placed::default(); 3];
        for arm in arms {
            placed[arm as usize] = self.run(arm).await;
        }
        placed
    }

    async fn run(&self, arm: Arm) -> Placed {
        let new = |number| pod(&format!("p{number}")).gpus(1).vram("4Gi").steered();
        self.stage.create_pods((0..PODS).map(new)).await;
        let mut filmgate = None;
        let extender = match arm {
            Arm::None => None,
            Arm::NoOp => {
                let mut extender = Extender::at(format!("http://{}", no_op::serve()));
                extender.verbs.retain(|(_, verb)| *verb != "bind");
                Some(extender)
            }
            Arm::Filmgate => Some(filmgate.insert(self.stage.start_filmgate().await).extender()),
        };
        let scheduler = self.stage.start_scheduler(extender, None);
        let placed = self.bindings().await;
        println!(
            "{arm:?}: {:.0} pods/s, {:.1} ms of processor time per pod",
            placed.per_second, placed.processor_ms
        );
        drop((scheduler, filmgate));
        self.stage.delete_pods().await;
        placed
    }

    /// From the first Binding to the last.
    async fn bindings(&self) -> Placed {
        let versions =
            watcher(self.stage.cluster.pods(), watcher::Config::default()).applied_objects();
        let mut bound = versions.try_filter(|pod| futures::future::ready(is_bound(pod))).boxed();
        let mut seen = HashSet::new();
        let mut first = None;
        let all = async {
            while seen.len() < PODS {
                seen.insert(bound.next().await.unwrap().unwrap().name_any());
                first.get_or_insert_with(|| (Instant::now(), processor::time()));
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, all).await;
        assert!(in_time.is_ok(), "{} of {PODS} bound; {}", seen.len(), self.unbound().await);
        let (pods, (began_at, used_before)) = ((PODS - 1) as f64, first.unwrap());
        let used = processor::time() - used_before;
        Placed {
            per_second: pods / began_at.elapsed().as_secs_f64(),
            processor_ms: used.as_secs_f64() * 1e3 / pods,
        }
    }

    /// How many pods there are, and what kube-scheduler says of one that it has not bound.
    async fn unbound(&self) -> String {
        let pods = self.stage.cluster.pods().list(&ListParams::default()).await.unwrap().items;
        let first = pods.iter().find(|pod| !is_bound(pod)).map(|pod| &pod.status);
        format!("{} exist, one of the unbound: {first:?}", pods.len())
    }
}
