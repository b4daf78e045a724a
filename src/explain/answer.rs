//! What the table shows of an extender's answer. `docs/explain.md` describes the whole of it.

use serde::Deserialize;

use crate::engine::score::Terms;
use crate::engine::{Bytes, Vram};

/// An explanation as the extender sends it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The pod.
    pub pod: PodName,
    /// `enforce` or `observe`.
    pub mode: String,
    /// Whether kube-scheduler is answered at present.
    pub is_answering: bool,
    /// Whether this replica leads.
    pub is_leading: bool,
    /// How far the pod has come.
    pub state: String,
    /// For how long it waits.
    pub waiting_seconds: Option<f64>,
    /// How many are before it in the line.
    pub before_it: Option<usize>,
    /// The node where what becomes free is kept for it.
    pub reserved_on: Option<String>,
    /// How far its claim has come.
    pub claim: Option<String>,
    /// Where its claim lies.
    pub node: Option<String>,
    /// Someone else bound it.
    #[serde(default)]
    pub is_unmanaged: bool,
    /// What its containers ask.
    pub asks: Vec<Ask>,
    /// What is wrong with its annotations.
    pub problem: Option<String>,
    /// How near it came, where no node takes it.
    pub nearest_miss: Option<String>,
    /// What each node says.
    pub nodes: Vec<Node>,
}

/// Which pod.
#[derive(Debug, Clone, Deserialize)]
pub struct PodName {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// What one container asks.
#[derive(Debug, Clone, Deserialize)]
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

/// A node's answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The node.
    pub node: String,
    /// Why it is refused.
    pub reason: Option<Refusal>,
    /// How good the place is, 0 to 1.
    pub score: Option<f64>,
    /// GPUs that the pod would be charged on.
    pub chosen: Vec<String>,
    /// Age of the last reading.
    pub reading_age_seconds: Option<f64>,
    /// Its GPUs.
    pub gpus: Vec<Gpu>,
}

/// A refusal.
#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    /// What kube-scheduler shows.
    pub text: String,
}

/// A GPU's answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// NVML's index.
    pub index: u32,
    /// NVML's UUID.
    pub uuid: String,
    /// The product's name.
    pub model: String,
    /// All of its memory.
    pub total_bytes: Bytes,
    /// In use by anyone.
    pub used_bytes: Bytes,
    /// In use by no pod.
    pub foreign_bytes: Bytes,
    /// Held against pods.
    pub charged_bytes: Bytes,
    /// Held for pods on their way.
    pub held_bytes: Bytes,
    /// Kept for pods for which others were asked to leave.
    #[serde(default)]
    pub kept_bytes: Bytes,
    /// What a newcomer may have.
    pub free_bytes: Bytes,
    /// What the driver reserves.
    pub reserved_bytes: Bytes,
    /// What nobody is promised.
    pub headroom_bytes: Bytes,
    /// Part of the time in which a kernel ran.
    pub utilization_ratio: f64,
    /// Core temperature.
    pub temperature_celsius: Option<f64>,
    /// Why no newcomer may have anything.
    pub closed: Option<String>,
    /// Why it is refused.
    pub reason: Option<Refusal>,
    /// The score's terms.
    pub terms: Option<Terms>,
    /// The weighted terms.
    pub score: Option<f64>,
    /// Who has what of it.
    pub tenants: Vec<Tenant>,
}

/// A pod on a GPU.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// The pod.
    pub pod: String,
    /// How far its claim has come.
    pub state: String,
    /// What is held against it.
    pub charged_bytes: Bytes,
    /// What its processes hold.
    pub measured_bytes: Bytes,
    /// How much more that is than its charge.
    pub over_charge_bytes: Option<Bytes>,
    /// Someone else bound it.
    #[serde(default)]
    pub is_unmanaged: bool,
    /// It is not on the GPU that it was sent to.
    #[serde(default)]
    pub is_elsewhere: bool,
}

impl Tenant {
    /// Who it is, and what is odd about it.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = format!("{} {}", self.pod, self.state);
        if self.is_unmanaged {
            words += " by others";
        }
        if let Some(over) = self.over_charge_bytes {
            words += &format!(", {over} past its charge");
        }
        if self.is_elsewhere {
            words += ", not where it was sent";
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_odd_about_a_tenant() {
        let mut tenant: Tenant = serde_json::from_value(serde_json::json!({
            "pod": "art/p", "state": "bound", "chargedBytes": 1 << 30, "measuredBytes": 2_u64 << 30,
        }))
        .unwrap();
        assert_eq!(tenant.words(), "art/p bound");
        tenant.is_unmanaged = true;
        tenant.over_charge_bytes = Some(Bytes::gib(1));
        assert_eq!(tenant.words(), "art/p bound by others, 1.0 GiB past its charge");
        tenant.is_elsewhere = true;
        assert!(tenant.words().ends_with(", not where it was sent"));
    }
}
