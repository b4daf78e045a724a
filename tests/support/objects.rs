//! Builders for what tests put into the cluster: `node("n0").gpus(8)`,
//! `pod("p0").vram("12Gi").gpus(1)`.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, Node, NodeStatus, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, Pod, PodSpec, ResourceRequirements, Toleration, Volume,
};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

use super::kubelets;
use super::scheduler::SCHEDULER_NAME;

const GPU: &str = "nvidia.com/gpu";

/// Makes kwok play this node's kubelet (see tests/cluster/kwok.yaml).
const KWOK_LABEL: (&str, &str) = ("type", "kwok");

/// A node without GPUs and with more of everything else than tests ask for.
pub fn node(name: &str) -> NodeBuilder {
    NodeBuilder {
        name: name.to_owned(),
        labels: strings([KWOK_LABEL, ("kubernetes.io/hostname", name)]),
        capacity: strings([("cpu", "64"), ("memory", "512Gi"), ("pods", "110")]),
    }
}

/// See [`node`].
pub struct NodeBuilder {
    name: String,
    labels: BTreeMap<String, String>,
    capacity: BTreeMap<String, String>,
}

impl NodeBuilder {
    /// So many allocatable GPUs (with time-slicing: replicas).
    pub fn gpus(self, count: u32) -> Self {
        self.resource(GPU, &count.to_string())
    }

    /// So much capacity, all of it allocatable.
    pub fn resource(mut self, name: &str, quantity: &str) -> Self {
        self.capacity.insert(name.to_owned(), quantity.to_owned());
        self
    }

    /// A label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The node as its kubelet would register it.
    pub fn build(self) -> Node {
        let capacity = quantities(self.capacity);
        Node {
            metadata: ObjectMeta {
                name: Some(self.name),
                labels: Some(self.labels),
                ..ObjectMeta::default()
            },
            status: Some(NodeStatus {
                allocatable: Some(capacity.clone()),
                capacity: Some(capacity),
                ..NodeStatus::default()
            }),
            ..Node::default()
        }
    }
}

/// A pod of one container, for filmgate's scheduler, that asks for no GPU.
pub fn pod(name: &str) -> PodBuilder {
    PodBuilder {
        name: name.to_owned(),
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        limits: strings([("cpu", "100m"), ("memory", "64Mi")]),
        environment: Vec::new(),
        tolerations: Vec::new(),
        node: None,
        selector: BTreeMap::new(),
        claim: None,
        scheduler: SCHEDULER_NAME.to_owned(),
        priority_class: None,
    }
}

/// See [`pod`].
pub struct PodBuilder {
    name: String,
    annotations: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
    environment: Vec<EnvVar>,
    tolerations: Vec<Toleration>,
    node: Option<String>,
    selector: BTreeMap<String, String>,
    claim: Option<String>,
    scheduler: String,
    priority_class: Option<String>,
}

impl PodBuilder {
    /// So many GPUs (with time-slicing: replicas).
    pub fn gpus(self, count: u32) -> Self {
        self.devices(GPU, count)
    }

    /// So many devices of an extended resource.
    pub fn devices(mut self, resource: &str, count: u32) -> Self {
        self.limits.insert(resource.to_owned(), count.to_string());
        self
    }

    /// The VRAM that it declares per GPU, e.g. `12Gi`.
    pub fn vram(self, quantity: &str) -> Self {
        self.annotation("filmgate.dev/vram", quantity)
    }

    /// Its container takes the GPU that filmgate chose: what it sees comes from
    /// the annotation by the downward API.
    pub fn steered(mut self) -> Self {
        self.environment.push(EnvVar {
            name: "NVIDIA_VISIBLE_DEVICES".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "metadata.annotations['filmgate.dev/gpu']".to_owned(),
                    ..ObjectFieldSelector::default()
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        });
        self
    }

    /// Its priority, by the class that [`priority_class`] makes.
    pub fn priority(mut self, value: i32) -> Self {
        self.priority_class = Some(priority_class_name(value));
        self
    }

    /// Its processes outlive it, until the test ends them.
    pub fn lingering(self) -> Self {
        self.annotation(kubelets::LINGERS_ANNOTATION, kubelets::UNTIL_ENDED)
    }

    /// Its processes outlive it by so much.
    pub fn lingering_for(self, time: Duration) -> Self {
        self.annotation(kubelets::LINGERS_ANNOTATION, &time.as_millis().to_string())
    }

    /// What its processes really hold, where it is not what it declares.
    pub fn uses(self, quantity: &str) -> Self {
        self.annotation(kubelets::USES_ANNOTATION, quantity)
    }

    /// Another schedulerName than filmgate's.
    pub fn scheduler(mut self, name: &str) -> Self {
        self.scheduler = name.to_owned();
        self
    }

    /// It names its node itself, so that no scheduler is asked.
    pub fn pinned_to(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// Only nodes with that label take it.
    pub fn only_on(mut self, key: &str, value: &str) -> Self {
        self.selector.insert(key.to_owned(), value.to_owned());
        self
    }

    /// It has the volume of that claim.
    pub fn claims(mut self, claim: &str) -> Self {
        self.claim = Some(claim.to_owned());
        self
    }

    /// It tolerates taints of that key; without a key, all.
    pub fn tolerates(mut self, key: Option<&str>) -> Self {
        self.tolerations.push(Toleration {
            key: key.map(str::to_owned),
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        });
        self
    }

    /// An annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The pod as its owner would create it.
    pub fn build(self) -> Pod {
        let container = Container {
            name: "main".to_owned(),
            image: Some("comfyui".to_owned()),
            env: Some(self.environment),
            resources: Some(ResourceRequirements {
                limits: Some(quantities(self.limits)),
                ..ResourceRequirements::default()
            }),
            ..Container::default()
        };
        Pod {
            metadata: ObjectMeta {
                name: Some(self.name),
                annotations: Some(self.annotations),
                labels: Some(self.labels),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: vec![container],
                node_name: self.node,
                node_selector: (!self.selector.is_empty()).then_some(self.selector),
                volumes: self.claim.map(|claim| vec![volume(claim)]),
                tolerations: (!self.tolerations.is_empty()).then_some(self.tolerations),
                scheduler_name: Some(self.scheduler),
                priority_class_name: self.priority_class,
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }
}

fn volume(claim_name: String) -> Volume {
    let claim = PersistentVolumeClaimVolumeSource { claim_name, ..Default::default() };
    Volume { name: "data".to_owned(), persistent_volume_claim: Some(claim), ..Volume::default() }
}

/// The class of the pods with this priority: the API server takes a priority from
/// a class only.
pub fn priority_class(value: i32) -> PriorityClass {
    PriorityClass {
        metadata: ObjectMeta { name: Some(priority_class_name(value)), ..ObjectMeta::default() },
        value: Some(value),
        ..PriorityClass::default()
    }
}

fn priority_class_name(value: i32) -> String {
    format!("priority-{value}")
}

fn strings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn quantities(amounts: BTreeMap<String, String>) -> BTreeMap<String, Quantity> {
    amounts.into_iter().map(|(name, amount)| (name, Quantity(amount))).collect()
}

/// Whether some scheduler, or the pod itself, has named its node.
pub fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// Whether kube-scheduler has refused it, and it is not bound.
pub fn is_refused(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut reasons = conditions.filter_map(|one| one.reason.as_deref());
    !is_bound(pod) && reasons.any(|reason| reason == "Unschedulable")
}
