//! What a bridge knows, for people and for Prometheus.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::comfyui::Vram;
use crate::metrics::catalogue::bridge as catalogue;
use crate::metrics::exposition::Exposition;

/// What a bridge knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// What the pipeline asks.
    pub url: Option<String>,
    /// The tunnel that was told last.
    pub tunnel: Option<String>,
    /// Whether that counts as up; absent where none was told.
    pub is_up: Option<bool>,
    /// Why it did not answer the last look.
    pub trouble: Option<String>,
    /// Its GPUs, as it told them at the last look.
    pub gpus: Vec<Vram>,
    /// URLs that were told, by what came of them.
    #[serde(skip)]
    pub told: BTreeMap<&'static str, u64>,
    /// Workloads that were restarted.
    #[serde(skip)]
    pub restarts: u64,
}

impl Seen {
    /// The page of metrics.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut page = Exposition::default();
        let mut up = page.family(&catalogue::TUNNEL_UP);
        if let Some(is_up) = self.is_up {
            up.sample([], u8::from(is_up));
        }
        let memory = [
            (&catalogue::GPU_MEMORY_TOTAL, (|gpu: &Vram| gpu.total_bytes) as fn(&Vram) -> _),
            (&catalogue::GPU_MEMORY_FREE, |gpu| gpu.free_bytes),
        ];
        for (metric, bytes) in memory {
            let mut family = page.family(metric);
            for (index, gpu) in self.gpus.iter().enumerate() {
                family.sample([&*index.to_string(), model(&gpu.name)], bytes(gpu).get());
            }
        }
        let mut told = page.family(&catalogue::TOLD);
        for (outcome, count) in &self.told {
            told.sample([*outcome], count);
        }
        page.single(&catalogue::RESTARTS, self.restarts);
        page.finish()
    }
}

/// The model in ComfyUI's name of a device: `cuda:0 Tesla T4 : cudaMallocAsync`.
#[must_use]
pub fn model(name: &str) -> &str {
    let name = name.rsplit_once(" : ").map_or(name, |(name, _allocator)| name);
    match name.split_once(' ') {
        Some((device, model)) if device.contains(':') => model,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_its_makers_name() {
        assert_eq!(model("cuda:0 Tesla T4 : cudaMallocAsync"), "Tesla T4");
        assert_eq!(model("cuda:0 NVIDIA L4"), "NVIDIA L4");
        assert_eq!(model("Tesla T4"), "Tesla T4");
        assert_eq!(model(""), "");
    }
}
