//! Gauges of the pods' ComfyUIs.

use crate::engine::comfyui::{Instances, State};
use crate::engine::{Ledger, PodRef, Time};
use crate::metrics::catalogue::ledger as fleet;
use crate::metrics::exposition::Exposition;

use super::PodFigure;

/// What is known of them at one moment.
pub(super) struct ComfyUiFigures {
    states: Vec<(PodRef, State)>,
    working: Vec<PodFigure>,
    cache: Vec<PodFigure>,
}

impl ComfyUiFigures {
    pub(super) fn of(ledger: &Ledger, instances: &Instances, now: Time) -> Self {
        let states = instances
            .pods()
            .filter_map(|pod| Some((ledger.pod(pod)?.id.clone(), instances.state(pod, now)?)));
        let split = ledger.told_apart(instances, now).map(|split| {
            let figure = |bytes| PodFigure {
                pod: split.pod.clone(),
                node: split.node.clone(),
                gpu: split.gpu,
                bytes,
            };
            (figure(split.working), figure(split.cache))
        });
        let (working, cache) = split.unzip();
        Self { states: states.collect(), working, cache }
    }

    pub(super) fn write(&self, page: &mut Exposition) {
        let mut up = page.family(&fleet::COMFYUI_UP);
        for (pod, state) in &self.states {
            up.sample([&*pod.namespace, &*pod.name], u8::from(state.is_up));
        }
        let mut prompts = page.family(&fleet::COMFYUI_PROMPTS);
        for (pod, state) in &self.states {
            let Some(queue) = state.queue else { continue };
            for (word, count) in [("running", queue.running), ("pending", queue.pending)] {
                prompts.sample([&*pod.namespace, &*pod.name, word], count);
            }
        }
        self.write_torch(page);
        PodFigure::write_all(&self.working, page.family(&fleet::POD_WORKING));
        PodFigure::write_all(&self.cache, page.family(&fleet::POD_CACHE));
    }

    fn write_torch(&self, page: &mut Exposition) {
        let mut torch = page.family(&fleet::COMFYUI_TORCH);
        for (pod, state) in &self.states {
            for device in &state.devices {
                let (total, free) = (device.torch_total_bytes, device.torch_free_bytes);
                for (kind, bytes) in [("total", total), ("free", free)] {
                    let index = device.index.to_string();
                    torch.sample([&*pod.namespace, &*pod.name, &index, kind], bytes.get());
                }
            }
        }
    }
}
