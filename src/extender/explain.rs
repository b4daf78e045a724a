//! `/explain`: every figure behind a decision, for people and programs. `docs/explain.md`
//! describes the shape; a test holds it.

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::gate::{Gate, Mode};
use crate::cluster::pod;
use crate::engine::accounting::Asker;
use crate::engine::comfyui::State;
use crate::engine::ledger::WaitingPod;
use crate::engine::request::Share;
use crate::engine::verdict::NodeVerdict;
use crate::engine::{Bytes, GpuUuid, Ledger, NodeName, PodFacts, PodRef, Time, Vram};

/// Why a pod goes where it goes, or waits.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The pod.
    pub pod: PodName,
    /// Whether refusals are meant.
    pub mode: Mode,
    /// Whether kube-scheduler is answered at present.
    pub is_answering: bool,
    /// Whether this replica leads: one that stands by answers nobody, and knows no holds.
    pub is_leading: bool,
    /// How far the pod has come.
    #[serde(flatten)]
    pub state: PodState,
    /// What it asks of each container's GPUs; empty where it asks for none or `problem` says why.
    pub asks: Vec<Ask>,
    /// What is wrong with its annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How near it came, where no node takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<String>,
    /// What its ComfyUI says; absent where it is not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comfyui: Option<State>,
    /// What each node says, best first, then those that refuse.
    pub nodes: Vec<NodeVerdict>,
}

/// Which pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PodName {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`; empty for a pod that does not exist.
    pub uid: String,
}

/// How far a pod has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum PodState {
    /// It does not exist: what if?
    WhatIf,
    /// It asks for no GPU: filmgate lets it pass everywhere.
    NoGpu,
    /// It exists, and kube-scheduler has not asked, or was answered and has not bound it yet.
    Pending,
    /// It was refused everywhere.
    #[serde(rename_all = "camelCase")]
    Waiting {
        /// For how long.
        waiting_seconds: f64,
        /// How many are before it in the line.
        before_it: usize,
        /// The node where what becomes free is kept for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        reserved_on: Option<NodeName>,
    },
    /// It has room on a node.
    #[serde(rename_all = "camelCase")]
    Placed {
        /// `held`, `nominated`, `binding`, `inDoubt`, `bound` or `leaving`.
        claim: &'static str,
        /// The node.
        node: NodeName,
        /// Planned bytes on each GPU.
        charged: Vec<Charged>,
        /// Someone else bound it: filmgate decided nothing about it.
        is_unmanaged: bool,
    },
}

/// Bytes of a pod on one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Charged {
    /// The GPU.
    pub gpu: GpuUuid,
    /// The bytes.
    pub bytes: Bytes,
}

/// What one container asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// The container.
    pub container: String,
    /// The extended resource.
    pub resource: String,
    /// How many GPUs.
    pub gpus: u32,
    /// What it needs on each.
    pub vram: Vram,
    /// Whether it takes the GPU that filmgate chooses.
    pub is_steered: bool,
}

/// Explains a pod that exists; `None` where no such pod with a GPU request is known.
#[must_use]
pub fn existing(gate: &Gate, namespace: &str, name: &str) -> Option<Explanation> {
    let now = gate.now();
    gate.with_ledger(|ledger| {
        let is_it =
            |facts: &&PodFacts| *facts.id.namespace == *namespace && *facts.id.name == *name;
        let facts = ledger.pods().find(is_it)?;
        let state = state(ledger, facts, now);
        let comfyui = gate.with_comfyui(|instances| instances.state(&facts.id.uid, now));
        Some(Explanation { comfyui, ..explain(gate, ledger, facts, state, now) })
    })
}

/// Explains a pod as if it were asked for now. Nothing is changed by it.
#[must_use]
pub fn what_if(gate: &Gate, pod: &Pod) -> Explanation {
    let now = gate.now();
    let Some(facts) = gate.incoming(pod).facts else {
        return empty(gate, PodName::of(&pod::id(pod)), PodState::NoGpu);
    };
    // A Pod copied from a cluster has a UID: its own claim must not stand in its way.
    gate.with_ledger(|ledger| explain(gate, ledger, &facts, PodState::WhatIf, now))
}

fn empty(gate: &Gate, pod: PodName, state: PodState) -> Explanation {
    Explanation {
        pod,
        mode: gate.settings().mode,
        is_answering: gate.check_answering().is_ok(),
        is_leading: gate.is_leading(),
        state,
        asks: Vec::new(),
        problem: None,
        nearest_miss: None,
        comfyui: None,
        nodes: Vec::new(),
    }
}

fn explain(
    gate: &Gate,
    ledger: &Ledger,
    facts: &PodFacts,
    state: PodState,
    now: Time,
) -> Explanation {
    let mut explanation = empty(gate, PodName::of(&facts.id), state);
    let ask = match &facts.ask {
        Ok(ask) => ask,
        Err(bad) => {
            explanation.problem = Some(bad.to_string());
            return explanation;
        }
    };
    let uid = &facts.id.uid;
    let names: Vec<&str> = ledger.node_names().map(NodeName::as_str).collect();
    explanation.asks = ask.all_shares().map(Ask::of).collect();
    let asker = Asker { pod: Some(uid), priority: facts.priority, ..Asker::anyone() };
    explanation.nodes = ledger.explain_to(asker, ask, names.iter().copied(), now);
    let gpus = explanation.nodes.iter_mut().flat_map(|node| &mut node.gpus);
    let tenants = gpus.flat_map(|gpu| &mut gpu.account.tenants);
    gate.with_comfyui(|instances| instances.tell(tenants, now));
    explanation.nodes.sort_by(|left, right| {
        let by_score = right.score.unwrap_or(-1.0).total_cmp(&left.score.unwrap_or(-1.0));
        by_score.then_with(|| left.node.cmp(&right.node))
    });
    if explanation.nodes.iter().all(|node| node.reason.is_some()) {
        let miss = ledger.nearest_miss(uid, ask, names.iter().copied(), now);
        explanation.nearest_miss = miss.map(|miss| miss.to_string());
    }
    explanation
}

/// How many are before a pod in the waiting line, and its entry there.
pub(super) type Place<'a> = (usize, WaitingPod<'a>);

/// How far a pod that exists has come.
fn state(ledger: &Ledger, facts: &PodFacts, now: Time) -> PodState {
    let is_it = |waiting: &WaitingPod<'_>| waiting.pod.uid == facts.id.uid;
    let place = || ledger.waiting().enumerate().find(|(_, waiting)| is_it(waiting));
    state_in_line(ledger, facts, place, now)
}

/// The same where its place in the waiting line, if it has one, is known or is to be looked for.
pub(super) fn state_in_line<'a>(
    ledger: &Ledger,
    facts: &PodFacts,
    place: impl FnOnce() -> Option<Place<'a>>,
    now: Time,
) -> PodState {
    let claim = ledger.claim(&facts.id.uid);
    if let Some((node, claim)) = claim.filter(|(_, claim)| !claim.is_reserved()) {
        let charged = claim.planned.iter();
        return PodState::Placed {
            claim: claim.state.word(),
            node: node.clone(),
            is_unmanaged: claim.is_unmanaged(),
            charged: charged
                .map(|(gpu, bytes)| Charged { gpu: gpu.clone(), bytes: *bytes })
                .collect(),
        };
    }
    match place() {
        Some((before_it, waiting)) => PodState::Waiting {
            waiting_seconds: now.since(waiting.since).as_secs_f64(),
            before_it,
            reserved_on: claim.map(|(node, _)| node.clone()),
        },
        None => PodState::Pending,
    }
}

impl PodName {
    pub(super) fn of(pod: &PodRef) -> Self {
        Self {
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            uid: pod.uid.to_string(),
        }
    }
}

impl Ask {
    pub(super) fn of(share: &Share) -> Self {
        Self {
            container: share.container.to_string(),
            resource: share.resource.to_string(),
            gpus: share.gpus,
            vram: share.vram,
            is_steered: share.steered_by.is_some(),
        }
    }
}
