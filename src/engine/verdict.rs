//! Why a pod goes where it goes, or waits: every figure behind a decision, for people.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::account::GpuAccount;
use super::accounting::{Asker, GpuState, NodeView};
use super::ledger::Node;
use super::placement::{self, Placement};
use super::request::{GpuAsk, Vram};
use super::score::Terms;
use super::{Bytes, GpuUuid, Ledger, NodeName, PodUid, Reason, Time};

/// A node's answer to a pod.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeVerdict {
    /// The node.
    pub node: NodeName,
    /// Why it is refused; absent where the pod fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Refusal>,
    /// How good the place is, 0 to 1, where the pod fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// GPUs that the pod would be charged on, where it fits.
    pub chosen: Vec<GpuUuid>,
    /// Age of the last reading; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading_age_seconds: Option<f64>,
    /// Its GPUs, as the last reading and the ledger have them.
    pub gpus: Vec<GpuVerdict>,
}

/// A refusal, for programs and for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// One of a fixed list.
    pub code: Reason,
    /// What kube-scheduler shows.
    pub text: Arc<str>,
}

/// A GPU's answer to a pod, for the need of its hungriest container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuVerdict {
    /// Who has what of it.
    #[serde(flatten)]
    pub account: GpuAccount,
    /// Why it is refused; absent where one container fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Refusal>,
    /// The score's terms, where it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// The weighted terms, 0 to 1, where it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// The GPU on which a refused pod came nearest to fitting.
#[derive(Debug, Clone, PartialEq)]
pub struct NearestMiss {
    /// What was asked per GPU; `None`: a whole one.
    pub asked: Vram,
    /// The node.
    pub node: NodeName,
    /// NVML's index.
    pub index: u32,
    /// What a newcomer may have.
    pub free: Bytes,
    /// What there is.
    pub total: Bytes,
    /// Charged to pods.
    pub pods: Bytes,
    /// Used by no pod.
    pub foreign: Bytes,
    /// Held for pods on their way.
    pub held: Bytes,
    /// Age of the reading.
    pub age: Duration,
}

impl fmt::Display for NearestMiss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked.bytes() {
            Some(bytes) => write!(formatter, "asked {bytes} ({}); ", self.asked.source())?,
            None => write!(
                formatter,
                "asked a whole GPU (no {} on the pod); ",
                super::request::VRAM_ANNOTATION
            )?,
        }
        write!(
            formatter,
            "most free: {:.1} of {:.1} GiB on {} GPU {}: {:.1} pods, {:.1} foreign, {:.1} held; read {:.1} s ago",
            self.free.as_gib(),
            self.total.as_gib(),
            self.node,
            self.index,
            self.pods.as_gib(),
            self.foreign.as_gib(),
            self.held.as_gib(),
            self.age.as_secs_f64(),
        )
    }
}

impl Refusal {
    pub(super) fn of(code: Reason) -> Self {
        Self { code, text: Arc::from(code.text()) }
    }
}

impl Ledger {
    /// What each of these nodes says to the pod, with every figure. `pod` is left out of the
    /// accounts where it has a claim.
    pub fn explain<'n>(
        &self,
        pod: Option<&PodUid>,
        ask: &GpuAsk,
        nodes: impl IntoIterator<Item = &'n str>,
        now: Time,
    ) -> Vec<NodeVerdict> {
        self.explain_to(pod.map_or(Asker::anyone(), |pod| self.eyes_of(pod)), ask, nodes, now)
    }

    /// As [`Ledger::explain`], to a pod that may not exist: what it passes around, its priority
    /// tells.
    pub fn explain_to<'n>(
        &self,
        asker: Asker<'_>,
        ask: &GpuAsk,
        nodes: impl IntoIterator<Item = &'n str>,
        now: Time,
    ) -> Vec<NodeVerdict> {
        let verdict = |name| match self.node(name) {
            Some(node) => self.explain_node(node, asker, ask, now),
            None => NodeVerdict {
                node: NodeName::from(name),
                reason: Some(Refusal::of(Reason::UnknownNode)),
                score: None,
                chosen: Vec::new(),
                reading_age_seconds: None,
                gpus: Vec::new(),
            },
        };
        nodes.into_iter().map(verdict).collect()
    }

    fn explain_node(&self, node: &Node, asker: Asker<'_>, ask: &GpuAsk, now: Time) -> NodeVerdict {
        let policy = self.policy();
        let placed = node.place(asker, ask, policy, now);
        let view = node.view_for(asker, policy, now);
        let hungriest = hungriest(ask);
        let gpus = view.gpus.iter().enumerate().map(|(position, gpu)| {
            let judged = placement::judge(gpu, Bytes::ZERO, hungriest, node.terrain(policy, now));
            self.explain_gpu(self.account(node, position, gpu, asker.pod), judged)
        });
        let gpus = gpus.collect();
        NodeVerdict {
            node: node.name.clone(),
            reason: placed.as_ref().err().copied().map(Refusal::of),
            score: placed.as_ref().ok().map(|placement| placement.score),
            chosen: placed.map(chosen).unwrap_or_default(),
            reading_age_seconds: node.reading.as_ref().map(|_| node.age(now).as_secs_f64()),
            gpus,
        }
    }

    fn explain_gpu(&self, account: GpuAccount, judged: Result<Terms, Reason>) -> GpuVerdict {
        GpuVerdict {
            account,
            reason: judged.err().map(Refusal::of),
            terms: judged.ok(),
            score: judged.ok().map(|terms| self.policy().weights.score(terms)),
        }
    }

    /// Where, among these nodes, the pod came nearest to fitting; `None` where no node was ever
    /// read.
    pub fn nearest_miss<'n>(
        &self,
        pod: &PodUid,
        ask: &GpuAsk,
        nodes: impl IntoIterator<Item = &'n str>,
        now: Time,
    ) -> Option<NearestMiss> {
        let nodes = nodes.into_iter().filter_map(|name| self.node(name));
        let roomiest = |view: &NodeView| {
            let offered = view.gpus.iter().enumerate().filter(|(_, gpu)| is_offered(gpu, ask));
            let roomiest = offered.max_by_key(|(_, gpu)| gpu.open_bytes());
            roomiest.map(|(position, gpu)| (gpu.open_bytes(), position))
        };
        let candidates = nodes.filter_map(|node| {
            let view = node.view_for(self.eyes_of(pod), self.policy(), now);
            roomiest(&view).map(|(bytes, position)| (bytes, position, node))
        });
        // Of equals the same each time: kube-scheduler offers nodes in turning order, and a text
        // that turns with it would be news at each look.
        let most = candidates.max_by_key(|&(bytes, _, node)| (bytes, Reverse(&node.name)));
        let (_, position, node) = most?;
        let gpu = &node.view_for(self.eyes_of(pod), self.policy(), now).gpus[position];
        Some(NearestMiss {
            asked: hungriest(ask),
            node: node.name.clone(),
            index: gpu.index,
            free: gpu.open_bytes(),
            total: gpu.total,
            pods: gpu.charged,
            foreign: gpu.foreign,
            held: gpu.held + gpu.kept,
            age: node.age(now),
        })
    }

    /// The state of every GPU of every node: for gauges.
    pub fn for_each_gpu(&self, mut visit: impl FnMut(&NodeName, &GpuState)) {
        for node in self.nodes() {
            node.view.gpus.iter().for_each(|gpu| visit(&node.name, gpu));
        }
    }

    /// The age of each node's last reading.
    pub fn reading_ages(&self, now: Time) -> impl Iterator<Item = (&NodeName, Duration)> {
        let read = self.nodes().iter().filter(|node| node.reading.is_some());
        read.map(move |node| (&node.name, node.age(now)))
    }
}

fn hungriest(ask: &GpuAsk) -> Vram {
    let most = |vram: &Vram| vram.bytes().unwrap_or(Bytes::new(u64::MAX));
    ask.all_shares().map(|share| share.vram).max_by_key(most).unwrap_or(Vram::Exclusive)
}

fn is_offered(gpu: &GpuState, ask: &GpuAsk) -> bool {
    ask.all_shares().any(|share| share.resource == gpu.resource)
}

fn chosen(placement: Placement) -> Vec<GpuUuid> {
    placement.charged.into_iter().map(|(gpu, _)| gpu).collect()
}
