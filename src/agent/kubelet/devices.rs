//! What PodResources says, in the words of the book.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::wire::pod_resources::{
    AllocatableResourcesResponse, ContainerResources, ListPodResourcesResponse, PodResources,
};
use crate::agent::book::Offer;
use crate::engine::request::is_gpu_resource;
use crate::engine::{DeviceAssignment, GpuUuid};

/// NVIDIA's driver for claims (DRA).
const CLAIM_DRIVER: &str = "gpu.nvidia.com";
/// As long as the kubelet itself waits for a device plugin that has gone.
const PLUGIN_GRACE: Duration = Duration::from_secs(300);

/// The GPUs given to containers, always in the same order: the kubelet's differs from call to call.
pub(super) fn assignments(listed: &ListPodResourcesResponse) -> Vec<DeviceAssignment> {
    let mut assignments: Vec<_> = listed.pod_resources.iter().flat_map(of_pod).collect();
    assignments.sort_unstable_by(|one, other| order(one).cmp(&order(other)));
    assignments
}

fn order(one: &DeviceAssignment) -> [&str; 5] {
    [&one.namespace, &one.pod, &one.container, &one.resource, one.gpu.as_str()]
}

fn of_pod(pod: &PodResources) -> Vec<DeviceAssignment> {
    let (namespace, name): (Arc<str>, Arc<str>) =
        (pod.namespace.as_str().into(), pod.name.as_str().into());
    let of_container = |container: &ContainerResources| {
        let assigned = |(resource, gpu): (&str, GpuUuid)| DeviceAssignment {
            namespace: Arc::clone(&namespace),
            pod: Arc::clone(&name),
            uid: None,
            container: container.name.as_str().into(),
            resource: resource.into(),
            gpu,
        };
        given(container).map(assigned).collect::<Vec<_>>()
    };
    pod.containers.iter().flat_map(of_container).collect()
}

/// By a device plugin or by a claim: each GPU and its resource, or the claim's driver.
fn given(container: &ContainerResources) -> impl Iterator<Item = (&str, GpuUuid)> {
    let gpus = container.devices.iter().filter(|devices| is_gpu_resource(&devices.resource_name));
    let plugged = gpus.flat_map(|devices| {
        let gpus = devices.device_ids.iter().map(|id| gpu(id));
        gpus.map(move |gpu| (devices.resource_name.as_str(), gpu))
    });
    let claims = container.dynamic_resources.iter().flat_map(|claim| &claim.claim_resources);
    let claimed = claims.filter(|device| device.driver_name == CLAIM_DRIVER);
    plugged.chain(claimed.map(|device| (CLAIM_DRIVER, GpuUuid::from(device.device_name.as_str()))))
}

/// The GPU behind a device id: replicas have a suffix (`GPU-…::3`, on GKE `nvidia0/vgpu3`).
fn gpu(id: &str) -> GpuUuid {
    let name = id.split_once("::").or_else(|| id.split_once("/vgpu")).map_or(id, |(gpu, _)| gpu);
    GpuUuid::from(name)
}

/// How GPUs are offered. After a restart the kubelet knows of no device until the plugin has
/// registered again: what was offered before stays for a while.
#[derive(Debug, Default)]
pub(super) struct Offers(HashMap<GpuUuid, (Offer, Instant)>);

impl Offers {
    /// Takes what the kubelet says now, and tells what holds.
    pub(super) fn update(
        &mut self,
        said: &AllocatableResourcesResponse,
        now: Instant,
    ) -> HashMap<GpuUuid, Offer> {
        let fresh = offers(said);
        let resources: HashSet<_> = fresh.values().map(|offer| offer.resource.clone()).collect();
        self.0.extend(fresh.into_iter().map(|(gpu, offer)| (gpu, (offer, now))));
        self.0.retain(|_, (offer, seen)| {
            let is_awaited = !resources.contains(&offer.resource);
            *seen == now || (is_awaited && now.duration_since(*seen) < PLUGIN_GRACE)
        });
        self.0.iter().map(|(gpu, (offer, _))| (gpu.clone(), offer.clone())).collect()
    }
}

/// A GPU that is offered under two resources counts as the one with more devices.
fn offers(said: &AllocatableResourcesResponse) -> HashMap<GpuUuid, Offer> {
    let mut counts: HashMap<(GpuUuid, &str), u32> = HashMap::new();
    for devices in said.devices.iter().filter(|one| is_gpu_resource(&one.resource_name)) {
        for id in &devices.device_ids {
            *counts.entry((gpu(id), devices.resource_name.as_str())).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|((_, resource), replicas)| (*replicas, *resource));
    let offer = |((gpu, resource), replicas): ((GpuUuid, &str), u32)| {
        (gpu, Offer { resource: resource.into(), replicas })
    };
    counts.into_iter().map(offer).collect()
}

#[cfg(test)]
mod tests;
