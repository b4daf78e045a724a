//! What a bridge knows, for people and for Prometheus.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::comfyui::Vram;
use crate::metrics::catalogue::bridge as catalogue;
use crate::metrics::exposition::Exposition;

/// What a bridge knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// In a line: the row of `filmgate top`.
impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.url.as_deref().unwrap_or("nothing");
        let (Some(tunnel), Some(is_up)) = (&self.tunnel, self.is_up) else {
            return write!(formatter, "bridge: no tunnel was told; {asked} is asked");
        };
        write!(formatter, "bridge: {tunnel} is {}", if is_up { "up" } else { "down" })?;
        for gpu in &self.gpus {
            let Vram { name, total_bytes, free_bytes } = gpu;
            write!(formatter, "; {}, {free_bytes} free of {total_bytes}", model(name))?;
        }
        match &self.trouble {
            Some(why) if is_up => write!(formatter, "; no answer of late: {why}")?,
            _ => {}
        }
        if asked == tunnel { Ok(()) } else { write!(formatter, "; {asked} is asked") }
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
    fn a_line_says_what_is_there_and_what_is_asked() {
        let json = serde_json::json!({
            "url": "https://a.trycloudflare.com", "tunnel": "https://a.trycloudflare.com",
            "isUp": true, "trouble": null,
            "gpus": [{"name": "cuda:0 Tesla T4 : cudaMallocAsync",
                      "totalBytes": 16_u64 << 30, "freeBytes": 12_u64 << 30}],
        });
        let mut seen: Seen = serde_json::from_value(json).unwrap();
        let up = "bridge: https://a.trycloudflare.com is up; Tesla T4, 12.0 GiB free of 16.0 GiB";
        assert_eq!(seen.to_string(), up);
        seen.gpus.clear();
        (seen.is_up, seen.url) = (Some(false), Some("http://comfyui:8188".to_owned()));
        let down = "bridge: https://a.trycloudflare.com is down; http://comfyui:8188 is asked";
        assert_eq!(seen.to_string(), down);
        assert_eq!(Seen::default().to_string(), "bridge: no tunnel was told; nothing is asked");
    }

    #[test]
    fn a_model_is_known_by_its_makers_name() {
        assert_eq!(model("cuda:0 Tesla T4 : cudaMallocAsync"), "Tesla T4");
        assert_eq!(model("cuda:0 NVIDIA L4"), "NVIDIA L4");
        assert_eq!(model("Tesla T4"), "Tesla T4");
        assert_eq!(model(""), "");
    }
}
