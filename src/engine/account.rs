//! Who has what of each GPU, for people, whoever asks.

use std::sync::Arc;

use serde::Serialize;

use super::accounting::{self, Asker, Closed, GpuState};
use super::ledger::Node;
use super::reading::{GpuReading, Health};
use super::verdict::Refusal;
use super::{Attribution, Bytes, GpuUuid, Ledger, NodeName, PodRef, PodUid, Time};

/// A node and its GPUs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAccount {
    /// The node.
    pub node: NodeName,
    /// Why its figures may not be used; absent where they may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Refusal>,
    /// Age of the last reading; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading_age_seconds: Option<f64>,
    /// Why its memory cannot be told apart by pod; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unattributed: Option<Arc<str>>,
    /// Its GPUs, as the last reading and the ledger have them.
    pub gpus: Vec<GpuAccount>,
}

/// A GPU's memory, and who has what of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuAccount {
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
    /// Core temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<f64>,
    /// Why no newcomer may have anything, whatever is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// Who has what of it.
    pub tenants: Vec<Tenant>,
}

/// A pod on a GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// The pod's UID.
    #[serde(skip)]
    pub uid: PodUid,
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
    /// How many prompts its ComfyUI has; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<u64>,
    /// What of `measured_bytes` its ComfyUI holds as cache; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<Bytes>,
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

impl Ledger {
    /// Who has what on each of these nodes; those that the ledger does not know are left out.
    pub fn accounts<'n>(
        &self,
        nodes: impl IntoIterator<Item = &'n str>,
        now: Time,
    ) -> Vec<NodeAccount> {
        let known = nodes.into_iter().filter_map(|name| self.node(name));
        known.map(|node| self.node_account(node, now)).collect()
    }

    fn node_account(&self, node: &Node, now: Time) -> NodeAccount {
        let view = node.view_for(Asker::anyone(), self.policy(), now);
        let gpus = view.gpus.iter().enumerate();
        NodeAccount {
            node: node.name.clone(),
            trouble: node.check_usable(self.policy(), now).err().map(Refusal::of),
            reading_age_seconds: node.reading.as_ref().map(|_| node.age(now).as_secs_f64()),
            unattributed: node.reading.as_ref().and_then(|reading| match &reading.attribution {
                Attribution::Full => None,
                Attribution::Degraded { why } => Some(why.clone()),
            }),
            gpus: gpus.map(|(position, gpu)| self.account(node, position, gpu, None)).collect(),
        }
    }

    /// The account of one GPU, as the asker's view has it; `except` is no tenant of it.
    pub(super) fn account(
        &self,
        node: &Node,
        position: usize,
        gpu: &GpuState,
        except: Option<&PodUid>,
    ) -> GpuAccount {
        let reading = node.reading.as_ref().map(|reading| &reading.gpus[position]);
        GpuAccount {
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
            temperature_celsius: reading.and_then(|gpu| gpu.temperature_celsius),
            closed: gpu.closed.map(|closed| why(closed, reading)),
            tenants: tenants(node, position, self, except),
        }
    }
}

fn why(closed: Closed, gpu: Option<&GpuReading>) -> String {
    match (closed, gpu.map(|gpu| &gpu.health)) {
        (Closed::Unhealthy, Some(Health::Unhealthy { why })) => format!("unhealthy: {why}"),
        (Closed::Unhealthy, _) => "unhealthy".to_owned(),
        (Closed::Exclusive, _) => "a pod that declares no VRAM has all of it".to_owned(),
        (Closed::Unattributed, _) => "in use, and its memory cannot be told apart".to_owned(),
    }
}

fn tenants(node: &Node, position: usize, ledger: &Ledger, except: Option<&PodUid>) -> Vec<Tenant> {
    let Some(reading) = &node.reading else { return Vec::new() };
    let gpu = &reading.gpus[position];
    let others = node.claims.iter().filter(|claim| Some(&claim.pod.uid) != except);
    let claimed = others.filter_map(|claim| {
        let charges = accounting::charges(claim, reading);
        let charge = charges.into_iter().find(|charge| charge.gpu == position)?;
        Some(Tenant {
            uid: claim.pod.uid.clone(),
            pod: claim.pod.to_string(),
            state: claim.state.word(),
            charged_bytes: charge.bytes,
            measured_bytes: claim.memory_on(gpu).map_or(Bytes::ZERO, |memory| memory.used),
            over_charge_bytes: Some(claim.over_charge_on(gpu)).filter(|over| *over > Bytes::ZERO),
            queue_depth: None,
            cache_bytes: None,
            is_unmanaged: claim.is_unmanaged(),
            is_elsewhere: claim.was_bound() && claim.is_elsewhere(reading),
        })
    });
    let has_claim = |uid: &PodUid| node.claims.iter().any(|claim| claim.pod.uid == *uid);
    let unclaimed = gpu.pods.iter().filter(|memory| !has_claim(&memory.uid));
    let measured = unclaimed.map(|memory| Tenant {
        uid: memory.uid.clone(),
        pod: pod_name(ledger, &memory.uid),
        state: "measured",
        charged_bytes: Bytes::ZERO,
        measured_bytes: memory.used,
        over_charge_bytes: None,
        queue_depth: None,
        cache_bytes: None,
        is_unmanaged: false,
        is_elsewhere: false,
    });
    claimed.chain(measured).collect()
}

fn pod_name(ledger: &Ledger, uid: &PodUid) -> String {
    let known: Option<&PodRef> = ledger.pod(uid).map(|facts| &facts.id);
    known.map_or_else(|| uid.to_string(), PodRef::to_string)
}
