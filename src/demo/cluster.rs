//! A cluster in memory: what the API server would keep of the demo's pods.
//!
//! It commits Bindings under the same preconditions (UID, version, not bound yet), keeps the
//! annotations that filmgate writes, and hands every change on as a watch would. Wakes are the
//! patches that make kube-scheduler try a pod again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;

use super::workload::TICK;
use crate::cluster::pod::{facts, id};
use crate::engine::pod::FRACTION_ANNOTATION;
use crate::engine::request::{GPU_ANNOTATION, VRAM_ANNOTATION};
use crate::engine::{Admission, Bytes, NodeName, PodFacts, PodRef, PodUid};
use crate::extender::writer::{BindOutcome, ClusterWriter, FenceOutcome};

/// The namespace of the demo's pods.
pub const NAMESPACE: &str = "demo";
/// Their one container.
pub const CONTAINER: &str = "comfyui";
/// When the demo's day begins: any fixed moment will do, it only orders pods by age.
const DAY_STARTS: i64 = 1_767_225_600;

/// The cluster. See the module's head.
#[derive(Debug, Default)]
pub struct MemoryCluster(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pods: HashMap<PodUid, Pod>,
    version: u64,
    changed: Vec<PodFacts>,
    woken: Vec<PodUid>,
    refusals: HashMap<PodUid, String>,
}

/// A pod to create.
#[derive(Debug, Clone, Copy)]
pub struct NewPod<'a> {
    /// Its number, from which its UID is made.
    pub number: usize,
    /// Its name.
    pub name: &'a str,
    /// What it declares.
    pub declared: Bytes,
    /// The tick of its creation.
    pub tick: usize,
}

impl MemoryCluster {
    /// An owner creates a pod; what the API server makes of it.
    pub fn create(&self, new: NewPod<'_>) -> Result<PodRef, serde_json::Error> {
        let mut pod: Pod = serde_json::from_value(manifest(new))?;
        let mut state = self.0.lock();
        state.commit(&mut pod);
        Ok(id(&pod))
    }

    /// The pod as it is now.
    #[must_use]
    pub fn pod(&self, uid: &PodUid) -> Option<Pod> {
        self.0.lock().pods.get(uid).cloned()
    }

    /// Its containers have ended, and its owner has deleted it: its last state.
    pub fn delete(&self, uid: &PodUid) -> Option<PodFacts> {
        let mut state = self.0.lock();
        let mut pod = state.pods.remove(uid)?;
        pod.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
        facts(&pod, None)
    }

    /// What a watch would have shown since the last call.
    pub fn take_changes(&self) -> Vec<PodFacts> {
        std::mem::take(&mut self.0.lock().changed)
    }

    /// Pods that were woken since the last call.
    pub fn take_wakes(&self) -> Vec<PodUid> {
        std::mem::take(&mut self.0.lock().woken)
    }

    /// Namespace and name of the first pod, for people to try.
    #[must_use]
    pub fn a_pod(&self) -> Option<String> {
        let state = self.0.lock();
        state.pods.values().map(id).min().map(|pod| pod.to_string())
    }

    /// The last event on the pod: why it waits.
    #[must_use]
    pub fn refusal(&self, uid: &PodUid) -> Option<String> {
        self.0.lock().refusals.get(uid).cloned()
    }
}

impl State {
    /// Stores the pod under a new version and shows it to the watch.
    fn commit(&mut self, pod: &mut Pod) {
        self.version += 1;
        pod.metadata.resource_version = Some(self.version.to_string());
        self.changed.extend(facts(pod, None));
        self.pods.insert(id(pod).uid, pod.clone());
    }

    fn bind(&mut self, admission: &Admission, node: &NodeName) -> BindOutcome {
        let Some(mut pod) = self.pods.get(&admission.pod.uid).cloned() else {
            return BindOutcome::Superseded("the pod is gone".to_owned());
        };
        let spec = pod.spec.get_or_insert_default();
        if spec.node_name.is_some() {
            return BindOutcome::Superseded("the pod is bound".to_owned());
        }
        let version = pod.metadata.resource_version.as_deref().unwrap_or_default();
        if !admission.resource_version.is_empty() && version != &*admission.resource_version {
            return BindOutcome::Refused("the pod has changed".to_owned());
        }
        spec.node_name = Some(node.to_string());
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.extend(admission.annotations.iter().cloned());
        self.commit(&mut pod);
        BindOutcome::Bound
    }

    fn fence(&mut self, uid: &PodUid) -> FenceOutcome {
        let Some(mut pod) = self.pods.get(uid).cloned() else { return FenceOutcome::Gone };
        self.commit(&mut pod);
        match facts(&pod, None) {
            Some(facts) if facts.node.is_some() => FenceOutcome::Bound(facts),
            Some(facts) => FenceOutcome::Unbound(facts),
            None => FenceOutcome::Gone,
        }
    }
}

impl ClusterWriter for MemoryCluster {
    fn bind<'a>(
        &'a self,
        admission: &'a Admission,
        node: &'a NodeName,
        _deadline: Duration,
    ) -> BoxFuture<'a, BindOutcome> {
        ready(self.0.lock().bind(admission, node)).boxed()
    }

    fn fence<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, FenceOutcome> {
        ready(self.0.lock().fence(&pod.uid)).boxed()
    }

    fn get<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<Option<PodFacts>, String>> {
        let found = self.0.lock().pods.get(&pod.uid).and_then(|pod| facts(pod, None));
        ready(Ok(found)).boxed()
    }

    fn wake(&self, pod: &PodRef) {
        self.0.lock().woken.push(pod.uid.clone());
    }

    fn report_refusal(&self, pod: &PodRef, message: String) {
        self.0.lock().refusals.insert(pod.uid.clone(), message);
    }
}

/// What a bound pod's container finds in its environment: its GPU, and the part of it that its
/// allocator may use.
#[must_use]
pub fn steering(pod: &Pod) -> Option<(String, Option<f64>)> {
    let annotations: &BTreeMap<_, _> = pod.metadata.annotations.as_ref()?;
    let fraction = annotations.get(FRACTION_ANNOTATION).and_then(|text| text.parse().ok());
    Some((annotations.get(GPU_ANNOTATION)?.clone(), fraction))
}

/// The pod as its owner writes it: one GPU, steered and capped by the downward API.
fn manifest(new: NewPod<'_>) -> serde_json::Value {
    let created = DAY_STARTS + (new.tick as u64 * TICK.as_secs()) as i64;
    let created = jiff::Timestamp::from_second(created).unwrap_or_default();
    let from =
        |key: &str| json!({"fieldRef": {"fieldPath": format!("metadata.annotations['{key}']")}});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": NAMESPACE,
            "name": new.name,
            "uid": format!("00000000-0000-4000-8000-{:012x}", new.number),
            "creationTimestamp": created.to_string(),
            "annotations": {VRAM_ANNOTATION: new.declared.get().to_string()},
        },
        "spec": {
            "schedulerName": "filmgate",
            "containers": [{
                "name": CONTAINER,
                "image": "comfyui",
                "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}},
                "env": [
                    {"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": from(GPU_ANNOTATION)},
                    {"name": "FILMGATE_VRAM_FRACTION", "valueFrom": from(FRACTION_ANNOTATION)},
                    {
                        "name": "PYTORCH_CUDA_ALLOC_CONF",
                        "value": "per_process_memory_fraction:$(FILMGATE_VRAM_FRACTION)",
                    },
                ],
            }],
        },
        "status": {"phase": "Pending"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::HoldOutcome;

    const POD: NewPod<'static> =
        NewPod { number: 7, name: "pod-7", declared: Bytes::gib(38), tick: 3 };

    fn admission(pod: &PodRef, version: &str) -> Admission {
        Admission {
            pod: pod.clone(),
            resource_version: version.into(),
            ask: None,
            annotations: vec![
                (GPU_ANNOTATION.to_owned(), "GPU-a".to_owned()),
                (FRACTION_ANNOTATION.to_owned(), "0.4687".to_owned()),
            ],
            hold: HoldOutcome::Missing,
        }
    }

    #[test]
    fn the_pod_is_a_steered_one_that_declares_its_vram() {
        let cluster = MemoryCluster::default();
        cluster.create(POD).unwrap();
        let created = cluster.take_changes().remove(0);
        let ask = created.ask.unwrap();
        assert!(ask.is_steered());
        assert_eq!(ask.most_per_gpu(), Some(Bytes::gib(38)));
        assert_eq!(created.created_at, DAY_STARTS + 3 * 57);
    }

    #[test]
    fn a_binding_commits_once_with_its_annotations() {
        let cluster = MemoryCluster::default();
        let pod = cluster.create(POD).unwrap();
        let version = cluster.take_changes().remove(0).resource_version;
        let bind = |version: &str| {
            cluster.0.lock().bind(&admission(&pod, version), &NodeName::from("gpu-00"))
        };
        assert!(matches!(bind("999"), BindOutcome::Refused(_)));
        assert_eq!(bind(&version), BindOutcome::Bound);
        assert!(matches!(bind(&version), BindOutcome::Superseded(_)));
        let bound = cluster.pod(&pod.uid).unwrap();
        assert_eq!(steering(&bound), Some(("GPU-a".to_owned(), Some(0.4687))));
        assert_eq!(cluster.take_changes().remove(0).node, Some(NodeName::from("gpu-00")));
    }

    #[test]
    fn a_fence_makes_an_earlier_binding_fail() {
        let cluster = MemoryCluster::default();
        let pod = cluster.create(POD).unwrap();
        let version = cluster.take_changes().remove(0).resource_version;
        assert!(matches!(cluster.0.lock().fence(&pod.uid), FenceOutcome::Unbound(_)));
        let late = cluster.0.lock().bind(&admission(&pod, &version), &NodeName::from("gpu-00"));
        assert!(matches!(late, BindOutcome::Refused(_)));
        assert!(cluster.delete(&pod.uid).is_some_and(|last| last.has_ended));
        assert_eq!(cluster.0.lock().fence(&pod.uid), FenceOutcome::Gone);
    }
}
