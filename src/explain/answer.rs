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
    /// What its ComfyUI says.
    pub comfyui: Option<ComfyUi>,
    /// What each node says.
    pub nodes: Vec<Node>,
}

/// What a pod's ComfyUI says of itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComfyUi {
    /// What was wrong with the last answer.
    pub trouble: Option<Refusal>,
    /// Its prompts, where it has told them of late.
    pub queue: Option<Queue>,
    /// Its devices.
    pub devices: Vec<TorchDevice>,
}

/// Prompts of one ComfyUI.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Queue {
    /// Those that are executed.
    pub running: u64,
    /// Those that wait.
    pub pending: u64,
}

/// What PyTorch has of one device.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TorchDevice {
    /// Its name.
    pub name: String,
    /// What PyTorch has taken.
    pub torch_total_bytes: Bytes,
    /// What of that no tensor is in.
    pub torch_free_bytes: Bytes,
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
    /// How many prompts its ComfyUI has.
    pub queue_depth: Option<u64>,
    /// What of the measured memory its ComfyUI holds as cache.
    pub cache_bytes: Option<Bytes>,
    /// Someone else bound it.
    #[serde(default)]
    pub is_unmanaged: bool,
    /// It is not on the GPU that it was sent to.
    #[serde(default)]
    pub is_elsewhere: bool,
}

impl ComfyUi {
    /// What it does, in a line.
    #[must_use]
    pub fn words(&self) -> String {
        let queue = self.queue.map_or("what it does is not known".to_owned(), |queue| {
            format!("{} prompts run, {} wait", queue.running, queue.pending)
        });
        let devices = self.devices.iter().map(|device| {
            let TorchDevice { name, torch_total_bytes: total, torch_free_bytes: free } = device;
            format!("PyTorch has {total} of {name}, {free} of that in no tensor")
        });
        let trouble = self.trouble.as_ref().map(|trouble| trouble.text.clone());
        std::iter::once(queue).chain(devices).chain(trouble).collect::<Vec<_>>().join("; ")
    }
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
        words + &self.queue_words()
    }

    fn queue_words(&self) -> String {
        match (self.queue_depth, self.cache_bytes) {
            (None, _) => String::new(),
            (Some(0), Some(cache)) if cache > Bytes::ZERO => {
                format!(", idle with {cache} of cache")
            }
            (Some(0), _) => ", idle".to_owned(),
            (Some(1), _) => ", 1 prompt".to_owned(),
            (Some(depth), _) => format!(", {depth} prompts"),
        }
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

    #[test]
    fn says_what_the_comfyui_of_a_tenant_does() {
        let mut tenant: Tenant = serde_json::from_value(serde_json::json!({
            "pod": "art/p", "state": "bound", "chargedBytes": 1 << 30, "measuredBytes": 2_u64 << 30,
            "queueDepth": 0, "cacheBytes": 0,
        }))
        .unwrap();
        assert_eq!(tenant.words(), "art/p bound, idle");
        tenant.cache_bytes = Some(Bytes::gib(1));
        assert_eq!(tenant.words(), "art/p bound, idle with 1.0 GiB of cache");
        tenant.queue_depth = Some(3);
        assert_eq!(tenant.words(), "art/p bound, 3 prompts");
    }

    #[test]
    fn says_what_a_comfyui_does() {
        let comfyui: ComfyUi = serde_json::from_value(serde_json::json!({
            "isUp": true, "queue": {"running": 1, "pending": 4}, "ageSeconds": 1.0,
            "devices": [{"name": "cuda:0 L4", "index": 0, "torchTotalBytes": 3_u64 << 30,
                         "torchFreeBytes": 1 << 30}],
        }))
        .unwrap();
        assert_eq!(
            comfyui.words(),
            "1 prompts run, 4 wait; PyTorch has 3.0 GiB of cuda:0 L4, 1.0 GiB of that in no tensor"
        );
        let lost: ComfyUi = serde_json::from_value(serde_json::json!({
            "isUp": false, "trouble": {"code": "status", "text": "/prompt answers 500"},
            "ageSeconds": 1.0, "devices": [],
        }))
        .unwrap();
        assert_eq!(lost.words(), "what it does is not known; /prompt answers 500");
    }
}
