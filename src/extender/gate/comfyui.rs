//! What is known of the pods' ComfyUIs: kept beside the ledger, behind a lock of its own, so that
//! no answer of a pod ever holds up a decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Gate;
use crate::engine::PodUid;
use crate::engine::comfyui::{Instances, Poll};

impl Gate {
    /// Pods with a GPU whose containers run, by their labels, with their addresses.
    pub fn running_pods(
        &self,
        is_wanted: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> Vec<(PodUid, Arc<str>)> {
        let nothing = BTreeMap::new();
        self.with_ledger(|ledger| {
            let living = ledger.pods().filter(|pod| pod.node.is_some() && !pod.has_ended);
            let wanted = living.filter(|pod| is_wanted(pod.labels.as_deref().unwrap_or(&nothing)));
            wanted.filter_map(|pod| Some((pod.id.uid.clone(), pod.address.clone()?))).collect()
        })
    }

    /// What came of asking a pod's ComfyUI.
    pub fn note_comfyui(&self, pod: &PodUid, poll: Poll) {
        self.comfyui.write().note(pod, poll);
    }

    /// Forgets what is known of all others.
    pub fn keep_comfyui(&self, is_kept: impl Fn(&PodUid) -> bool) {
        self.comfyui.write().keep(is_kept);
    }

    /// Reads what is known.
    pub fn with_comfyui<T>(&self, read: impl FnOnce(&Instances) -> T) -> T {
        read(&self.comfyui.read())
    }
}
