//! What the kubelet of the measured machine answers, in this process: what the agent spends on
//! asking is measured, what the kubelet spends on answering is not.

use filmgate::agent::kubelet::wire::pod_resources::{
    AllocatableResourcesResponse, ContainerDevices, ContainerResources, ListPodResourcesResponse,
    PodResources,
};
use filmgate::agent::kubelet::wire::pods::{
    ContainerStatus, ListPodsResponse, ObjectMeta, Pod, PodStatus,
};
use prost::Message as _;

use super::super::support::kubelet_sockets::KubeletSockets;
use super::super::support::nvml;
use super::machine::{GPUS, PODS, container_id, gpu_of, uid};

const RESOURCE: &str = "nvidia.com/gpu";
const REPLICAS: usize = 10;
/// What a pod's object has beside what the agent reads of it: a field that it does not know, of
/// bytes (wire type 2).
const REST_OF_A_POD: usize = 8 << 10;
const UNKNOWN_FIELD: usize = 1_000 << 3 | 2;

/// One that knows every pod.
pub fn answers() -> KubeletSockets {
    KubeletSockets {
        listed: ListPodResourcesResponse { pod_resources: (0..PODS).map(resources).collect() },
        offered: AllocatableResourcesResponse { devices: vec![devices(all_replicas())] },
        pods: ListPodsResponse { pods: (0..PODS).map(|pod| object(pod).into()).collect() },
    }
}

fn name(pod: usize) -> String {
    format!("comfyui-{pod}")
}

fn replica(gpu: usize, number: usize) -> String {
    format!("{}::{number}", nvml::uuid(gpu as u32))
}

fn all_replicas() -> Vec<String> {
    (0..GPUS).flat_map(|gpu| (0..REPLICAS).map(move |number| replica(gpu, number))).collect()
}

fn devices(device_ids: Vec<String>) -> ContainerDevices {
    ContainerDevices { resource_name: RESOURCE.to_owned(), device_ids }
}

fn resources(pod: usize) -> PodResources {
    let container = ContainerResources {
        name: "main".to_owned(),
        devices: vec![devices(vec![replica(gpu_of(pod), pod % REPLICAS)])],
        dynamic_resources: Vec::new(),
    };
    PodResources { name: name(pod), namespace: "default".to_owned(), containers: vec![container] }
}

fn object(pod: usize) -> Vec<u8> {
    let container = ContainerStatus {
        name: "main".to_owned(),
        container_id: format!("containerd://{}", container_id(pod)),
    };
    let status = PodStatus { container_statuses: vec![container], ..PodStatus::default() };
    let metadata = ObjectMeta { name: name(pod), namespace: "default".to_owned(), uid: uid(pod) };
    let mut object = Pod { metadata: Some(metadata), status: Some(status) }.encode_to_vec();
    prost::encode_length_delimiter(UNKNOWN_FIELD, &mut object).unwrap();
    prost::encode_length_delimiter(REST_OF_A_POD, &mut object).unwrap();
    object.extend([b'x'; REST_OF_A_POD]);
    object
}
