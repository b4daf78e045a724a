//! `/fleet`: every GPU and who has what of it, and who waits, for people and programs.
//! `docs/fleet.md` describes the shape; a test holds it.

use serde::{Deserialize, Serialize};

use super::explain;
use super::explain::{Ask, Place, PodName, PodState};
use super::gate::{Gate, Mode};
use crate::engine::account::NodeAccount;
use crate::engine::{Bytes, Ledger, NodeName, PodFacts, Time};

/// Nodes that are looked at while the ledger is held: decisions wait no longer than for these.
const NODES_AT_A_TIME: usize = 64;
/// Pods for which the nearest miss is computed: each takes a look at every GPU.
const MOST_EXPLAINED: usize = 20;
/// Pods without a place that are listed.
const MOST_PENDING: usize = 500;

/// Which part of the fleet is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Only nodes whose name, or whose pods' names, contain this.
    #[serde(default, rename = "match")]
    pub matching: String,
    /// At most so many nodes.
    #[serde(default = "all")]
    pub limit: usize,
}

const fn all() -> usize {
    usize::MAX
}

/// The fleet at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    /// Whether refusals are meant.
    pub mode: Mode,
    /// Whether kube-scheduler is answered at present.
    pub is_answering: bool,
    /// Whether this replica leads: one that stands by knows no holds.
    pub is_leading: bool,
    /// Sums over the whole fleet.
    pub totals: Totals,
    /// How many nodes the question matches; `nodes` may be fewer.
    pub matched_nodes: usize,
    /// The nodes, by name.
    pub nodes: Vec<NodeAccount>,
    /// Pods without a place: first those that wait, first in line first.
    pub pending: Vec<PendingPod>,
}

/// Sums over the whole fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Nodes with a GPU.
    pub nodes: usize,
    /// GPUs and MIG instances.
    pub gpus: usize,
    /// All of their memory.
    pub total_bytes: Bytes,
    /// In use by anyone.
    pub used_bytes: Bytes,
    /// In use by no pod.
    pub foreign_bytes: Bytes,
    /// Held against pods.
    pub charged_bytes: Bytes,
    /// Held or kept for pods on their way.
    pub held_bytes: Bytes,
    /// What newcomers may have.
    pub free_bytes: Bytes,
    /// Pods without a place; `pending` may be fewer.
    pub pending_pods: usize,
}

/// A pod without a place.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingPod {
    /// The pod.
    pub pod: PodName,
    /// `spec.priority`.
    pub priority: i32,
    /// How far it has come.
    #[serde(flatten)]
    pub state: PodState,
    /// What it asks of each container's GPUs; empty where `problem` says why.
    pub asks: Vec<Ask>,
    /// What is wrong with its annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How near it came, for the first in line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<String>,
}

/// That part of the fleet, now.
#[must_use]
pub fn fleet(gate: &Gate, part: &Part) -> Fleet {
    let now = gate.now();
    let names = gate.with_ledger(with_gpus);
    let (totals, pending) = gate.with_ledger(|ledger| (totals(ledger), pending(ledger, now)));
    let mut nodes = Vec::new();
    for some in names.chunks(NODES_AT_A_TIME) {
        let names = some.iter().map(NodeName::as_str);
        let mut accounts = gate.with_ledger(|ledger| ledger.accounts(names, now));
        let gpus = accounts.iter_mut().flat_map(|node| &mut node.gpus);
        let tenants = gpus.flat_map(|gpu| &mut gpu.tenants);
        gate.with_comfyui(|instances| instances.tell(tenants, now));
        nodes.extend(accounts.into_iter().filter(|node| matches(node, &part.matching)));
    }
    let matched_nodes = nodes.len();
    nodes.truncate(part.limit);
    Fleet {
        mode: gate.settings().mode,
        is_answering: gate.check_answering().is_ok(),
        is_leading: gate.is_leading(),
        totals,
        matched_nodes,
        nodes,
        pending,
    }
}

/// Nodes that exist and were read, or are known to be in trouble, by name.
fn with_gpus(ledger: &Ledger) -> Vec<NodeName> {
    let mut names: Vec<_> = ledger.gpu_nodes().cloned().collect();
    names.sort_unstable();
    names
}

fn matches(node: &NodeAccount, text: &str) -> bool {
    let in_pods =
        || node.gpus.iter().flat_map(|gpu| &gpu.tenants).any(|one| one.pod.contains(text));
    text.is_empty() || node.node.as_str().contains(text) || in_pods()
}

fn totals(ledger: &Ledger) -> Totals {
    let mut sums = Totals {
        nodes: ledger.gpu_nodes().count(),
        pending_pods: without_a_place(ledger).count(),
        ..Totals::default()
    };
    ledger.for_each_gpu(|_, gpu| {
        sums.gpus += 1;
        sums.total_bytes += gpu.total;
        sums.used_bytes += gpu.used;
        sums.foreign_bytes += gpu.foreign;
        sums.charged_bytes += gpu.charged;
        sums.held_bytes += gpu.held + gpu.kept;
        sums.free_bytes += gpu.open_bytes();
    });
    sums
}

fn without_a_place(ledger: &Ledger) -> impl Iterator<Item = &PodFacts> {
    let has_place =
        |pod: &PodFacts| ledger.claim(&pod.id.uid).is_some_and(|(_, claim)| !claim.is_advice());
    ledger.pods().filter(move |pod| pod.node.is_none() && !pod.has_ended && !has_place(pod))
}

fn pending(ledger: &Ledger, now: Time) -> Vec<PendingPod> {
    let places = ledger.waiting().enumerate();
    let waiting = places.filter_map(|place| Some((ledger.pod(&place.1.pod.uid)?, Some(place))));
    let mut others: Vec<_> =
        without_a_place(ledger).filter(|pod| !ledger.is_waiting(&pod.id.uid)).collect();
    others.sort_unstable_by_key(|pod| (pod.created_at, &pod.id.uid));
    let listed = waiting.chain(others.into_iter().map(|pod| (pod, None))).take(MOST_PENDING);
    let names: Vec<&str> = ledger.node_names().map(NodeName::as_str).collect();
    let shown = |(row, (facts, place)): (usize, (&PodFacts, Option<Place<'_>>))| {
        let is_explained = row < MOST_EXPLAINED && place.is_some();
        let mut pod = describe(ledger, facts, place, now);
        if is_explained {
            pod.nearest_miss = nearest_miss(ledger, facts, &names, now);
        }
        pod
    };
    listed.enumerate().map(shown).collect()
}

fn describe(ledger: &Ledger, facts: &PodFacts, place: Option<Place<'_>>, now: Time) -> PendingPod {
    PendingPod {
        pod: PodName::of(&facts.id),
        priority: facts.priority,
        state: explain::state_in_line(ledger, facts, || place, now),
        asks: facts.ask.iter().flat_map(|ask| ask.all_shares().map(Ask::of)).collect(),
        problem: facts.ask.as_ref().err().map(ToString::to_string),
        nearest_miss: None,
    }
}

fn nearest_miss(ledger: &Ledger, pod: &PodFacts, names: &[&str], now: Time) -> Option<String> {
    let ask = pod.ask.as_ref().ok()?;
    let miss = ledger.nearest_miss(&pod.id.uid, ask, names.iter().copied(), now)?;
    Some(miss.to_string())
}
