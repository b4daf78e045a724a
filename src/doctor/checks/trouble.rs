//! What goes wrong in running pods, volumes and GPUs.

mod crash;
mod gpus;
mod start;
mod storage;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;

pub(super) use crash::crash_loops;
pub(super) use gpus::{gpu_health, wrong_gpu};
pub(super) use start::comfyui_start;
pub(super) use storage::storage;

/// Of all containers, those that come first too.
fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let first = status.init_container_statuses.iter().flatten();
        first.chain(status.container_statuses.iter().flatten())
    })
}

/// Why the container waits: reason, and the kubelet's words.
fn waits(status: &ContainerStatus) -> Option<(&str, &str)> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default()))
}

/// `namespace/name`.
fn name_of(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}
