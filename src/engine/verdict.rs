//! Why a pod goes where it goes, or waits: every figure behind a decision, for people.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::accounting::{self, Asker, GpuState, NodeView};
use super::claim::{Claim, ClaimState};
use super::ledger::Node;
use super::placement::{self, Placement};
use super::request::{GpuAsk, Vram};
use super::score::Terms;
use super::{Bytes, GpuUuid, Ledger, NodeName, PodRef, PodUid, Reason, Time};

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
    /// NVML's index.
    pub index: u32,
    /// NVML's UUID.
    pub uuid: GpuUuid,
    /// The product's name.
    pub model: Arc<str>,
    /// All of its memory.
    pub total_bytes: Bytes,
    /// In use by anyone.
    pub used_bytes: Bytes,
    /// What the driver reserves.
    pub reserved_bytes: Bytes,
    /// What nobody is promised.
    pub headroom_bytes: Bytes,
    /// In use by no pod.
    pub foreign_bytes: Bytes,
    /// Held against pods that are bound or being bound, and measured of others.
    pub charged_bytes: Bytes,
    /// Held for pods on their way.
    pub held_bytes: Bytes,
    /// Kept for a pod that has waited too long, and for pods for which others were asked to leave,
    /// beyond what those still hold. For whom: the tenants that are `reserved` or `nominated`.
    pub kept_bytes: Bytes,
    /// What a newcomer may have.
    pub free_bytes: Bytes,
    /// Part of the time in which a kernel ran.
    pub utilization_ratio: f64,
    /// Why it is refused; absent where one container fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Refusal>,
    /// The score's terms, where it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// The weighted terms, 0 to 1, where it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Who has what of it.
    pub tenants: Vec<Tenant>,
}

/// A pod on a GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// `namespace/name`, or the UID of a pod that is only measured.
    pub pod: String,
    /// How far its claim has come; `measured` where it has none.
    pub state: &'static str,
    /// What the ledger holds against it here.
    pub charged_bytes: Bytes,
    /// What its processes hold here.
    pub measured_bytes: Bytes,
    /// How much more that is than the pod's charge, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_charge_bytes: Option<Bytes>,
    /// Someone else bound it: filmgate decided nothing about it.
    #[serde(skip_serializing_if = "is_false")]
    pub is_unmanaged: bool,
    /// It is not on the GPU that it was sent to.
    #[serde(skip_serializing_if = "is_false")]
    pub is_elsewhere: bool,
}

/// Oddities are said where they are.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
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
    fn of(code: Reason) -> Self {
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
            self.explain_gpu(gpu, judged, tenants(node, position, self, asker.pod))
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

    fn explain_gpu(
        &self,
        gpu: &GpuState,
        judged: Result<Terms, Reason>,
        tenants: Vec<Tenant>,
    ) -> GpuVerdict {
        GpuVerdict {
            index: gpu.index,
            uuid: gpu.uuid.clone(),
            model: gpu.model.clone(),
            total_bytes: gpu.total,
            used_bytes: gpu.used,
            reserved_bytes: gpu.reserved,
            headroom_bytes: self.policy().headroom,
            foreign_bytes: gpu.foreign,
            charged_bytes: gpu.charged,
            held_bytes: gpu.held,
            kept_bytes: gpu.kept,
            free_bytes: gpu.open_bytes(),
            utilization_ratio: gpu.utilization_ratio,
            reason: judged.err().map(Refusal::of),
            terms: judged.ok(),
            score: judged.ok().map(|terms| self.policy().weights.score(terms)),
            tenants,
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

fn tenants(node: &Node, position: usize, ledger: &Ledger, except: Option<&PodUid>) -> Vec<Tenant> {
    let Some(reading) = &node.reading else { return Vec::new() };
    let gpu = &reading.gpus[position];
    let others = node.claims.iter().filter(|claim| Some(&claim.pod.uid) != except);
    let claimed = others.filter_map(|claim| {
        let charges = accounting::charges(claim, reading);
        let charge = charges.into_iter().find(|charge| charge.gpu == position)?;
        Some(Tenant {
            pod: claim.pod.to_string(),
            state: state(claim),
            charged_bytes: charge.bytes,
            measured_bytes: claim.memory_on(gpu).map_or(Bytes::ZERO, |memory| memory.used),
            over_charge_bytes: Some(claim.over_charge_on(gpu)).filter(|over| *over > Bytes::ZERO),
            is_unmanaged: claim.is_unmanaged(),
            is_elsewhere: claim.was_bound() && claim.is_elsewhere(reading),
        })
    });
    let has_claim = |uid: &PodUid| node.claims.iter().any(|claim| claim.pod.uid == *uid);
    let unclaimed = gpu.pods.iter().filter(|memory| !has_claim(&memory.uid));
    let measured = unclaimed.map(|memory| Tenant {
        pod: pod_name(ledger, &memory.uid),
        state: "measured",
        charged_bytes: Bytes::ZERO,
        measured_bytes: memory.used,
        over_charge_bytes: None,
        is_unmanaged: false,
        is_elsewhere: false,
    });
    claimed.chain(measured).collect()
}

fn pod_name(ledger: &Ledger, uid: &PodUid) -> String {
    let known: Option<&PodRef> = ledger.pod(uid).map(|facts| &facts.id);
    known.map_or_else(|| uid.to_string(), PodRef::to_string)
}

fn state(claim: &Claim) -> &'static str {
    match claim.state {
        ClaimState::Held { .. } => "held",
        ClaimState::Reserved { .. } => "reserved",
        ClaimState::Nominated => "nominated",
        ClaimState::Binding { in_doubt: false } => "binding",
        ClaimState::Binding { in_doubt: true } => "inDoubt",
        ClaimState::Bound { .. } => "bound",
        ClaimState::Leaving { .. } => "leaving",
    }
}
