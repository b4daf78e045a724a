//! What waiting costs while a cluster is busy with other things: 1,000 pods for which there is no
//! VRAM, and twenty events a second that have nothing to do with it. At each, kube-scheduler tries
//! every one of these pods again.
//!
//! Beside filmgate an extender that answers a constant is asked in the same storm, and filmgate
//! under a kube-scheduler that backs off as long as it does by default.

use std::time::{Duration, Instant};

use axum::http::Request;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use super::constant::Constant;
use super::processor;
use super::quantile::median;
use super::stage::{DEADLINE, Filmgate, Stage, node_name};
use super::support::eventually::eventually;
use super::support::figures::Figures;
use super::support::metrics::Metrics;
use super::support::objects::pod;
use super::support::process::Process;
use super::support::scheduler::Extender;
use super::support::simulated::SimulatedNode;
use super::support::storm::Storm;

const NODES: usize = 100;
const GPUS: usize = 8;
const PODS: usize = 1_000;
const EVENTS_PER_SECOND: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);
/// Rounds of all three arms, every other one backwards; the medians count.
const ROUNDS: usize = 3;
/// kube-scheduler's own `podMaxBackoffSeconds`.
const DEFAULT_BACKOFF: u32 = 10;

/// Measures and notes `wake_storm_ratio`.
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
    let of = |arm: Arm, what: fn(&Cost) -> f64| of_rounds(&rounds, |one| what(&one[arm as usize]));
    let each = |what: fn(&Cost) -> f64| {
        json!({
            "constant": of(Arm::Constant, what), "filmgate": of(Arm::Filmgate, what),
            "filmgate_backoff_10": of(Arm::Patient, what),
        })
    };
    let ratio = |what: fn(&Cost) -> f64| {
        of_rounds(&rounds, |one| {
            what(&one[Arm::Filmgate as usize]) / what(&one[Arm::Constant as usize])
        })
    };
    let detail = json!({
        "processor_seconds_per_second": each(Cost::processor),
        "of_kube_scheduler": each(|cost| cost.scheduler),
        "of_api_server": each(|cost| cost.api_server),
        "of_extender": each(|cost| cost.extender),
        "filter_calls_per_second": each(|cost| cost.filter_calls),
        "processor_ms_per_filter_call": each(Cost::per_call_ms),
        "ratio_per_filter_call": ratio(Cost::per_call_ms),
        "events_per_second": each(|cost| cost.storm_events),
        "pod_patches_per_second": each(|cost| cost.patches),
        "filmgate_events_per_second": each(|cost| cost.events),
        "nodes": NODES, "pods": PODS, "window_seconds": WINDOW.as_secs(), "rounds": ROUNDS,
    });
    figures.add("wake_storm_ratio", ratio(Cost::processor), "ratio", "<= 1.5", detail);
}

type Round = [Cost; 3];

fn of_rounds(rounds: &[Round], what: impl Fn(&Round) -> f64) -> f64 {
    median(&rounds.iter().map(what).collect::<Vec<_>>())
}

#[derive(Clone, Copy, Debug)]
enum Arm {
    Constant,
    Filmgate,
    /// filmgate, under a kube-scheduler with its own backoff.
    Patient,
}

/// What an arm did in a second of the storm.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Processor seconds of each.
    scheduler: f64,
    api_server: f64,
    extender: f64,
    filter_calls: f64,
    storm_events: f64,
    /// Of pods themselves, not of their status: filmgate's alone.
    patches: f64,
    /// Written by filmgate.
    events: f64,
}

impl Cost {
    fn processor(&self) -> f64 {
        self.scheduler + self.api_server + self.extender
    }

    fn per_call_ms(&self) -> f64 {
        self.processor() * 1e3 / self.filter_calls
    }
}

enum Running {
    Constant(Constant),
    Filmgate(Filmgate),
}

impl Running {
    fn extender(&self) -> Extender {
        match self {
            Self::Constant(constant) => constant.extender(),
            Self::Filmgate(filmgate) => filmgate.extender(),
        }
    }

    fn process(&self) -> &Process {
        match self {
            Self::Constant(constant) => &constant.process,
            Self::Filmgate(filmgate) => &filmgate.process,
        }
    }

    async fn filter_calls(&self) -> f64 {
        match self {
            Self::Constant(constant) => constant.filter_calls().await,
            Self::Filmgate(filmgate) => filmgate.filter_calls().await,
        }
    }

    /// Every pod was tried again and again, and what filmgate says once of each is said.
    async fn is_in_the_thick_of_it(&self) -> Result<(), String> {
        let calls = self.filter_calls().await;
        let told = match self {
            Self::Constant(_) => PODS as f64,
            Self::Filmgate(filmgate) => {
                let sent = [("outcome", "sent")];
                filmgate.metrics().await.sum("filmgate_event_writes_total", &sent)
            }
        };
        let is_it = calls >= 2.0 * PODS as f64 && told >= PODS as f64;
        is_it.then_some(()).ok_or(format!("{calls} calls, {told} pods told"))
    }
}

struct Bench {
    // Dropped first: it blows at the stage.
    storm: Storm,
    stage: Stage,
}

impl Bench {
    async fn start() -> Self {
        let full = |number| {
            let node = SimulatedNode::new(&node_name(number), &[80; GPUS]);
            (0..GPUS).fold(node, |node, gpu| node.foreign_gib(gpu, 70))
        };
        let stage = Stage::start((0..NODES).map(full).collect()).await;
        let new = |number| pod(&format!("p{number}")).gpus(1).vram("16Gi").steered();
        stage.create_pods((0..PODS).map(new)).await;
        let storm = Storm::start(stage.cluster.admin(), EVENTS_PER_SECOND).await;
        Self { storm, stage }
    }

    async fn round(&self, is_backwards: bool) -> Round {
        let mut arms = [Arm::Constant, Arm::Filmgate, Arm::Patient];
        if is_backwards {
            arms.reverse();
        }
        let mut round = Round::default();
        for arm in arms {
            round[arm as usize] = self.run(arm).await;
        }
        round
    }

    async fn run(&self, arm: Arm) -> Cost {
        let running = match arm {
            Arm::Constant => Running::Constant(Constant::start(&self.stage, NODES).await),
            Arm::Filmgate | Arm::Patient => Running::Filmgate(self.stage.start_filmgate().await),
        };
        let backoff = matches!(arm, Arm::Patient).then_some(DEFAULT_BACKOFF);
        let scheduler = self.stage.start_scheduler(Some(running.extender()), backoff);
        eventually(DEADLINE, "the thick of the storm", async || {
            running.is_in_the_thick_of_it().await
        })
        .await;
        let cost = self.watch(&scheduler, &running).await;
        println!("{arm:?}: {cost:.2?}");
        cost
    }

    /// Looks cost something themselves: the processor's time is read last before the window, and
    /// first after it.
    async fn watch(&self, scheduler: &Process, running: &Running) -> Cost {
        let processor = || {
            let api_server = self.stage.cluster.api_server_pid();
            let processes = [scheduler.pid(), api_server, running.process().pid()];
            Look::of(processes.map(|process| processor::time_of(process).as_secs_f64()))
        };
        let calls = async || Look::of([running.filter_calls().await, self.storm.events() as f64]);
        let (writes_before, calls_before) = (self.writes().await, calls().await);
        let used_before = processor();
        // This is the window: nothing is waited for.
        tokio::time::sleep(WINDOW).await;
        let [scheduler, api_server, extender] = processor().rates_since(&used_before);
        let [filter_calls, storm_events] = calls().await.rates_since(&calls_before);
        let [patches, events] = self.writes().await.rates_since(&writes_before);
        Cost { scheduler, api_server, extender, filter_calls, storm_events, patches, events }
    }

    /// filmgate's patches of pods and its events, as the API server has counted them.
    async fn writes(&self) -> Look<2> {
        let client = self.stage.cluster.admin();
        let metrics = Request::get("/metrics").body(Vec::new()).unwrap();
        let metrics = Metrics::of(client.request_text(metrics).await.unwrap());
        // Nobody else patches more of a pod than its status.
        let patches = [("resource", "pods"), ("subresource", ""), ("verb", "PATCH")];
        let patches = metrics.sum("apiserver_request_total", &patches);
        let events: Api<Event> = Api::all(client);
        let ours = ListParams::default().fields("reportingController=filmgate.dev/filmgate");
        let events = events.list_metadata(&ours).await.unwrap().items.len();
        Look::of([patches, events as f64])
    }
}

/// Counters at one moment.
struct Look<const N: usize> {
    at: Instant,
    counters: [f64; N],
}

impl<const N: usize> Look<N> {
    fn of(counters: [f64; N]) -> Self {
        Self { at: Instant::now(), counters }
    }

    /// By how much each has grown in a second.
    fn rates_since(&self, before: &Self) -> [f64; N] {
        let seconds = (self.at - before.at).as_secs_f64();
        std::array::from_fn(|which| (self.counters[which] - before.counters[which]) / seconds)
    }
}
