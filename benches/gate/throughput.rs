//! Pods per second through a real kube-scheduler with 1,000 nodes: without an extender, with the
//! no-op extender, with filmgate. One control plane and one set of simulated nodes serve all three,
//! and each arm places the same pods on empty nodes.
//!
//! Whatever else runs on the machine slows one arm more than the next. So arms are short and take
//! turns, ratios are of one round, and the processor time that a pod costs all processes together
//! is in the detail: where cores are the limit, as on a small machine, its ratio is the pods' too.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use filmgate::agent::simulated::{GpuSpec, SimulatedFleet};
use filmgate::clock::Clock;
use filmgate::readings::server::{self, Pace};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::no_op;
use super::processor;
use super::support::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use super::support::eventually::eventually;
use super::support::figures::Figures;
use super::support::kubeconfig::User;
use super::support::kubelets::Kubelets;
use super::support::manifests;
use super::support::metrics::Metrics;
use super::support::objects::{is_bound, node, pod};
use super::support::port::ReservedPort;
use super::support::process::Process;
use super::support::scheduler::{Extender, configuration};

const NODES: usize = 1_000;
const PODS: usize = 1_000;
const GPUS: usize = 8;
const REPLICAS: u32 = 8;
const CREATED_AT_A_TIME: usize = 16;
const DEADLINE: Duration = Duration::from_secs(90);
/// Rounds of all three arms, every other one backwards; the medians count.
const ROUNDS: usize = 6;

/// Measures and notes `pods_per_second_ratio_*`.
pub fn measure(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rounds = runtime.block_on(async {
        let bench = Bench::start().await;
        let mut rounds = Vec::new();
        for number in 0..ROUNDS {
            rounds.push(bench.round(number % 2 == 1).await);
        }
        rounds
    });
    let of = |arm: Arm, what: fn(&Placed) -> f64| {
        median(rounds.iter().map(|one| what(&one[arm as usize])))
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
        median(rounds.iter().map(one))
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
    // Dropped first: it watches the cluster.
    _kubelets: Kubelets,
    cluster: Cluster,
    agents_url: String,
    _agents: CancellationToken,
}

impl Bench {
    async fn start() -> Self {
        let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
        manifests::apply(&cluster.admin(), &manifests::shipped("deploy/rbac.yaml")).await;
        let fleet = SimulatedFleet::new(Clock::monotonic());
        for number in 0..NODES {
            let gpus = GpuSpec::gib(80).replicas(REPLICAS).times(GPUS);
            fleet.add_node(&node_name(number), gpus);
        }
        let replicas = REPLICAS * GPUS as u32;
        cluster.add_nodes((0..NODES).map(|number| node(&node_name(number)).gpus(replicas))).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agents_url = format!("http://{}", listener.local_addr().unwrap());
        let agents = CancellationToken::new();
        let router = server::router(Arc::new(fleet.clone()), Pace::default(), agents.clone());
        tokio::spawn(server::serve(listener, router, agents.clone()));
        let kubelets = Kubelets::start(cluster.admin(), fleet);
        Self { cluster, _kubelets: kubelets, agents_url, _agents: agents }
    }

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
        self.create_pods().await;
        let ports = (ReservedPort::reserve(), ReservedPort::reserve());
        let filmgate = match arm {
            Arm::Filmgate => Some(self.start_filmgate(&ports.0, &ports.1).await),
            Arm::None | Arm::NoOp => None,
        };
        let extender = match arm {
            Arm::None => None,
            Arm::NoOp => {
                let mut extender = Extender::at(format!("http://{}", no_op::serve()));
                extender.verbs.retain(|(_, verb)| *verb != "bind");
                Some(extender)
            }
            Arm::Filmgate => Some(Extender::at(format!("http://{}", ports.0.address()))),
        };
        let extenders = Vec::from_iter(extender);
        let config = configuration(&self.cluster.kubeconfig(User::Scheduler), &extenders);
        let options =
            SchedulerOptions { config_yaml: config.to_string(), name: format!("{arm:?}") };
        let scheduler = self.cluster.start_scheduler(options);
        let placed = self.bindings().await;
        println!(
            "{arm:?}: {:.0} pods/s, {:.1} ms of processor time per pod",
            placed.per_second, placed.processor_ms
        );
        drop((scheduler, filmgate));
        self.delete_pods().await;
        placed
    }

    /// From the first Binding to the last.
    async fn bindings(&self) -> Placed {
        let versions = watcher(self.cluster.pods(), watcher::Config::default()).applied_objects();
        let mut bound = versions.try_filter(|pod| futures::future::ready(is_bound(pod))).boxed();
        let mut seen = std::collections::HashSet::new();
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
        let pods = self.cluster.pods().list(&ListParams::default()).await.unwrap().items;
        let first = pods.iter().find(|pod| !is_bound(pod)).map(|pod| &pod.status);
        format!("{} exist, one of the unbound: {first:?}", pods.len())
    }

    async fn start_filmgate(&self, verbs: &ReservedPort, ops: &ReservedPort) -> Process {
        let agents = (0..NODES).map(|number| {
            format!("  - {{node: {}, url: \"{}\"}}", node_name(number), self.agents_url)
        });
        let config = format!(
            "listen:\n  verbs: {}\n  metrics: {}\nleaderElection: {{mode: off}}\nagents:\n  static:\n{}\n",
            verbs.address(),
            ops.address(),
            agents.collect::<Vec<_>>().join("\n"),
        );
        let path = self.cluster.folder().join("filmgate.yaml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
        command.arg("extender").arg("--config").arg(path);
        command.arg("--kubeconfig").arg(self.cluster.kubeconfig(User::Filmgate));
        let process = Process::spawn("filmgate", command, self.cluster.folder());
        let metrics = format!("http://{}/metrics", ops.address());
        eventually(DEADLINE, "every node read", async || {
            let read = Metrics::scrape(&metrics).await.series("filmgate_reading_age_seconds").len();
            (read == NODES).then_some(()).ok_or(format!("{read} read"))
        })
        .await;
        process
    }

    async fn create_pods(&self) {
        stream::iter(0..PODS)
            .for_each_concurrent(CREATED_AT_A_TIME, async |number| {
                let new = pod(&format!("p{number}")).gpus(1).vram("4Gi").steered();
                self.cluster.add_pod(new).await;
            })
            .await;
    }

    async fn delete_pods(&self) {
        let pods: Api<Pod> = self.cluster.pods();
        pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        eventually(DEADLINE, "all pods gone", async || {
            let left = pods.list(&ListParams::default().limit(1)).await.ok()?.items.len();
            (left == 0).then_some(())
        })
        .await;
    }
}

fn node_name(number: usize) -> String {
    format!("n{number:04}")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
