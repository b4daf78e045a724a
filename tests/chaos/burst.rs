//! One burst: nodes, pods and faults as planned, and then what became of it.

use std::fmt;
use std::time::Duration;

use filmgate::engine::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep_until};

use super::account::Seen;
use super::ground;
use super::outside::{Outside, Verdict};
use super::persist;
use super::plan::{Fate, NodePlan, Plan, PodPlan};
use super::support::eventually::within;
use super::support::objects::{PodBuilder, pod};
use super::support::replicas::Replicas;
use super::trouble::{Tally, Trouble};

/// When faults have stopped: kube-scheduler's and its informers' backoffs, a Lease, the grace after a
/// force delete, and a busy machine.
const SETTLE_DEADLINE: Duration = Duration::from_secs(90);
/// More rounds than pods can need: each binds at least one.
const MOST_ROUNDS: usize = 60;
/// Of those deleted after the burst, each so many-th is deleted without a grace.
const FORCED_EACH: usize = 5;

/// What became of a burst.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Faults.
    pub tally: Tally,
    /// What was promised beyond what a GPU has.
    pub promised: Verdict,
    /// What was used beyond that.
    pub used_beyond: Bytes,
    /// Pods that fitted and were not bound.
    pub unbound: Vec<String>,
    /// Probes for which a GPU that nobody is on had no room.
    pub leaked: Vec<String>,
    /// Pods of the burst.
    pub pods: usize,
    /// From the last fault to when nobody was left out.
    pub settled_after: Duration,
    /// Times that all bound pods were deleted, so that those who waited had their turn.
    pub rounds: usize,
    /// What was to be seen when the first thing was wrong.
    pub scene: Option<String>,
}

impl Outcome {
    /// By how much a GPU was overcommitted, by whichever check found more.
    pub fn overcommitted(&self) -> Bytes {
        self.promised.overdrawn.max(self.used_beyond)
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.overcommitted() == Bytes::ZERO
            && self.unbound.is_empty()
            && self.leaked.is_empty()
            && self.tally.findings.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: usize = self.tally.faults.values().sum();
        write!(
            to,
            "{} pods, {faults} faults ({} kills, {} of the leader), settled after {:.1} s, \
             {} rounds; overcommitted {}, unbound {}, leaked {}",
            self.pods,
            self.tally.kills,
            self.tally.leader_kills,
            self.settled_after.as_secs_f64(),
            self.rounds,
            self.overcommitted(),
            self.unbound.len(),
            self.leaked.len(),
        )
    }
}

/// Plays the burst, and leaves the world without pods.
pub async fn play(world: &mut Replicas, outside: &Outside, plan: &Plan) -> Outcome {
    ground::furnish(world, plan).await;
    outside.begin(ground::of(world, plan));
    let start = Instant::now();
    let pods = world.cluster.pods();
    let mut outcome = Outcome { pods: plan.pods.len(), ..Outcome::default() };
    let trouble = Trouble::of(world, plan).run(start);
    (outcome.tally, ()) = tokio::join!(trouble, arrive(&pods, plan, start));

    let settled = Instant::now();
    settle(outside, &mut outcome).await;
    outcome.settled_after = settled.elapsed();
    everyone_has_a_turn(&pods, outside, &mut outcome).await;
    clear(&pods, outside).await;
    probe(world, outside, plan, &mut outcome).await;
    clear(&pods, outside).await;
    outcome.promised = outside.verdict();
    outcome.used_beyond = world.fleet.most_overcommitted();
    outcome
}

/// Pods come, and go, in their moments.
async fn arrive(pods: &Api<Pod>, plan: &Plan, start: Instant) {
    let lives = plan.pods.iter().map(|one| live(pods, one, start));
    lives.collect::<FuturesUnordered<_>>().collect::<Vec<()>>().await;
}

/// Moments are planned, so nothing is waited for.
async fn live(pods: &Api<Pod>, plan: &PodPlan, start: Instant) {
    sleep_until(start + plan.at).await;
    persist::create(pods, &build(plan)).await;
    let after = |age| sleep_until(start + plan.at + age);
    match plan.fate {
        Fate::Stays => {}
        Fate::Completes(age) => {
            after(age).await;
            persist::complete(pods, &plan.name).await;
        }
        Fate::Deleted(age) => {
            after(age).await;
            persist::delete(pods, &plan.name, false).await;
        }
        Fate::Forced(age) => {
            after(age).await;
            persist::delete(pods, &plan.name, true).await;
        }
        Fate::Reborn(age) => {
            after(age).await;
            persist::delete(pods, &plan.name, false).await;
            persist::gone(pods, &plan.name).await;
            persist::create(pods, &build(plan)).await;
        }
    }
}

fn build(plan: &PodPlan) -> Pod {
    let quantity = |bytes: Bytes| bytes.get().to_string();
    let asks = |pod: PodBuilder| match plan.vram {
        Some(vram) => pod.vram(&quantity(vram)),
        None => pod,
    };
    let steered = |pod: PodBuilder| match plan.is_steered {
        true => pod.steered(),
        false => pod.only_on(ground::GPUS_LABEL, "1"),
    };
    let ranked = |pod: PodBuilder| match plan.priority {
        0 => pod,
        value => pod.priority(value),
    };
    let lingers = |pod: PodBuilder| match plan.lingers {
        Duration::ZERO => pod,
        time => pod.lingering_for(time),
    };
    let pod = pod(&plan.name).gpus(plan.gpus).uses(&quantity(plan.uses));
    lingers(ranked(steered(asks(pod)))).build()
}

/// Waits until nobody is left out; who is when that takes too long.
async fn settle(outside: &Outside, outcome: &mut Outcome) {
    let settled = within(SETTLE_DEADLINE, async || match outside.left_out() {
        _ if !outside.is_quiet() => Err("memory of the gone".to_owned()),
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    if settled.await.is_err() {
        outcome.scene.get_or_insert_with(|| outside.describe());
        outcome.unbound = outside.left_out();
    }
}

/// Deletes who is bound until nobody waits: each pod fits a cluster without others.
async fn everyone_has_a_turn(pods: &Api<Pod>, outside: &Outside, outcome: &mut Outcome) {
    while outcome.unbound.is_empty() && outcome.rounds < MOST_ROUNDS {
        if outside.names(Seen::waits).is_empty() {
            return;
        }
        outcome.rounds += 1;
        remove(pods, outside.names(|pod| pod.node.is_some())).await;
        settle(outside, outcome).await;
    }
}

/// Whole GPUs are asked for when nobody is there: what is refused was leaked.
async fn probe(world: &Replicas, outside: &Outside, plan: &Plan, outcome: &mut Outcome) {
    let pods = &world.cluster.pods();
    let of_nodes = plan.nodes.iter().map(|node| probe_node(pods, outside, node));
    let leaked: Vec<Vec<String>> = of_nodes.collect::<FuturesUnordered<_>>().collect().await;
    outcome.leaked = leaked.concat();
    if !outcome.leaked.is_empty() {
        outcome.scene.get_or_insert_with(|| outside.describe());
    }
}

async fn probe_node(pods: &Api<Pod>, outside: &Outside, node: &NodePlan) -> Vec<String> {
    let mut leaked = Vec::new();
    for probe in ground::probes(node) {
        let probe = probe.build();
        persist::create(pods, &probe).await;
        let name = probe.name_any();
        let is_it = |pod: &Seen| pod.is_tenant() && pod.name == name;
        let bound = within(SETTLE_DEADLINE, async || {
            (!outside.names(is_it).is_empty()).then_some(()).ok_or("not bound")
        });
        if bound.await.is_err() {
            leaked.push(name);
        }
    }
    leaked
}

/// Removes every pod, and waits until nothing is left of them.
async fn clear(pods: &Api<Pod>, outside: &Outside) {
    remove(pods, outside.names(|_| true)).await;
    let gone = within(SETTLE_DEADLINE, async || {
        let left = outside.names(|_| true);
        (left.is_empty() && outside.is_quiet()).then_some(()).ok_or_else(|| format!("{left:?}"))
    });
    gone.await.unwrap_or_else(|left| panic!("pods that cannot be deleted: {left}"));
}

async fn remove(pods: &Api<Pod>, names: Vec<String>) {
    let removals = names.iter().zip(0..).map(async |(name, at): (&String, usize)| {
        persist::delete(pods, name, at % FORCED_EACH == FORCED_EACH - 1).await;
    });
    removals.collect::<FuturesUnordered<_>>().collect::<Vec<()>>().await;
}
