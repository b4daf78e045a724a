//! What PodsAPI says: the node's pods, and which of them an entry of PodResources means.

use std::collections::HashMap;
use std::sync::Arc;

use prost::DecodeError;

use super::wire::pods::{ContainerStatus, ListPodsResponse, Pod};
use crate::agent::book::KnownPod;
use crate::engine::{DeviceAssignment, PodUid};

/// The node's pods.
pub(super) fn known(listed: &ListPodsResponse) -> Result<Vec<KnownPod>, DecodeError> {
    let pods = listed.pods.iter().map(|pod| <Pod as prost::Message>::decode(pod.clone()));
    pods.map(|pod| pod.map(|pod| known_pod(&pod))).collect()
}

fn known_pod(pod: &Pod) -> KnownPod {
    let metadata = pod.metadata.clone().unwrap_or_default();
    let status = pod.status.iter();
    let containers = status.flat_map(|status| {
        let early = status.init_container_statuses.iter();
        early.chain(&status.container_statuses).chain(&status.ephemeral_container_statuses)
    });
    KnownPod {
        uid: PodUid::from(metadata.uid),
        namespace: metadata.namespace.into(),
        name: metadata.name.into(),
        containers: containers.filter_map(started).collect(),
    }
}

fn started(container: &ContainerStatus) -> Option<(Arc<str>, Arc<str>)> {
    let (_runtime, id) = container.container_id.split_once("://")?;
    Some((id.into(), container.name.as_str().into()))
}

/// Writes UIDs to entries of PodResources, which has names alone. A pod may have been deleted and
/// made again under its name, so the entry's pod is certain only where the name meant the same pod
/// before and after PodResources was asked. Tells whether asking again would make more certain.
pub(super) fn identify(
    assignments: &mut [DeviceAssignment],
    before: &[KnownPod],
    after: &[KnownPod],
) -> bool {
    let (before, after) = (by_name(before), by_name(after));
    let mut is_open = false;
    for entry in assignments {
        let name = (&*entry.namespace, &*entry.pod);
        let Some(Some(uid)) = after.get(&name).copied() else { continue };
        let is_certain = before.get(&name) == Some(&Some(uid));
        entry.uid = (is_certain && is_of_api_server(uid)).then(|| uid.clone());
        is_open |= !is_certain;
    }
    is_open
}

/// `None` under a name that two pods have.
fn by_name(pods: &[KnownPod]) -> HashMap<(&str, &str), Option<&PodUid>> {
    let mut names = HashMap::new();
    for pod in pods {
        let same = names.entry((&*pod.namespace, &*pod.name));
        same.and_modify(|uid| *uid = None).or_insert(Some(&pod.uid));
    }
    names
}

/// A static pod's UID, a hash without dashes, is the kubelet's alone: to everyone else the pod is
/// its mirror, which has another.
fn is_of_api_server(uid: &PodUid) -> bool {
    uid.as_str().contains('-')
}

#[cfg(test)]
mod tests;
