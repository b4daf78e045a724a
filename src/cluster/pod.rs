//! A pod of the API server as the engine's facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::marks;
use super::workload::workload;
use crate::engine::bytes::QuantityError;
use crate::engine::request::{
    self, BadRequest, ContainerFacts, ContainerKind, is_gpu_resource, parse_vram,
};
use crate::engine::{Bytes, Decision, GpuAsk, NodeName, PodFacts, PodRef, PodUid, Vram};

/// On a namespace: what its pods are taken to need when they do not say.
pub const DEFAULT_VRAM_ANNOTATION: &str = "filmgate.dev/default-vram";
/// Where a container says which GPUs it is to see.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// Whose a pod is that names nobody; the API server writes it down.
const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// More devices than any node has; larger requests are all alike, and their sums must not wrap.
const MOST_DEVICES: u32 = u16::MAX as u32;

/// What pods that do not declare their need are taken to need: nothing known, an amount, or an
/// annotation on their namespace that cannot be meant.
pub type DefaultVram = Result<Option<Bytes>, BadRequest>;

/// The default of a namespace: its annotation's, else the configuration's. An annotation that
/// cannot be meant is an error, not the configuration's value: who wrote it wanted another one.
///
/// # Errors
/// When the annotation cannot be meant.
pub fn default_vram(
    namespace: &str,
    annotations: Option<&BTreeMap<String, String>>,
    configured: Option<Bytes>,
) -> DefaultVram {
    match annotations.and_then(|annotations| annotations.get(DEFAULT_VRAM_ANNOTATION)) {
        Some(value) => {
            let annotation = format!("{DEFAULT_VRAM_ANNOTATION} of namespace {namespace}");
            parse_vram(&annotation, value).map(Some)
        }
        None => Ok(configured),
    }
}

/// The pod's facts; `None` where it asks for no GPU.
#[must_use]
pub fn facts(pod: &Pod, default_vram: Option<Bytes>) -> Option<PodFacts> {
    facts_in(pod, &Ok(default_vram))
}

/// As [`facts`], in a namespace whose default may be an error: that of the pods which rely on it.
#[must_use]
pub fn facts_in(pod: &Pod, default_vram: &DefaultVram) -> Option<PodFacts> {
    Some(with_default(facts_by_itself(pod)?, default_vram))
}

/// The facts that the pod tells of itself: what it leaves to a default is a whole GPU.
pub(super) fn facts_by_itself(pod: &Pod) -> Option<PodFacts> {
    let spec = pod.spec.as_ref()?;
    let nothing = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&nothing);
    let created = pod.metadata.creation_timestamp.as_ref();
    Some(PodFacts {
        id: id(pod),
        workload: workload(pod),
        scheduler: Arc::from(spec.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER)),
        is_gated: spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
        node: bound_to(spec),
        ask: request::read_ask(&containers(spec), annotations, None).transpose()?,
        decision: Decision::from_annotations(annotations),
        marks: marks::read(&pod.metadata),
        has_ended: has_ended(pod, spec),
        priority: spec.priority.unwrap_or(0),
        created_at: created.map_or(0, |time| time.0.as_second()),
        started_at: started_at(pod),
        is_deleting: pod.metadata.deletion_timestamp.is_some(),
        nominated: nominated(pod),
        labels: pod.metadata.labels.clone().map(Arc::new),
        address: address(pod),
        resource_version: Arc::from(pod.metadata.resource_version.as_deref().unwrap_or("")),
    })
}

fn started_at(pod: &Pod) -> Option<i64> {
    let started = pod.status.as_ref()?.start_time.as_ref()?;
    Some(started.0.as_second())
}

fn address(pod: &Pod) -> Option<Arc<str>> {
    let status = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Running"))?;
    status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).map(Arc::from)
}

fn nominated(pod: &Pod) -> Option<NodeName> {
    let name = pod.status.as_ref()?.nominated_node_name.as_deref()?;
    (!name.is_empty()).then(|| NodeName::from(name))
}

/// Whether a default would change what the pod asks.
pub(super) fn relies_on_default(facts: &PodFacts) -> bool {
    let is_open = |ask: &GpuAsk| ask.all_shares().any(|share| share.vram == Vram::Exclusive);
    facts.ask.as_ref().is_ok_and(is_open)
}

/// [`facts_by_itself`] where the default is known.
pub(super) fn with_default(mut facts: PodFacts, default_vram: &DefaultVram) -> PodFacts {
    if !relies_on_default(&facts) {
        return facts;
    }
    match (default_vram, &mut facts.ask) {
        (Err(bad), _) => facts.ask = Err(bad.clone()),
        (Ok(Some(bytes)), Ok(ask)) => {
            for share in ask.shares.iter_mut().chain(&mut ask.early) {
                if share.vram == Vram::Exclusive {
                    share.vram = Vram::Default(*bytes);
                }
            }
        }
        _ => {}
    }
    facts
}

/// How the API server and people name the pod.
#[must_use]
pub fn id(pod: &Pod) -> PodRef {
    PodRef {
        namespace: Arc::from(pod.metadata.namespace.as_deref().unwrap_or("default")),
        name: Arc::from(pod.metadata.name.as_deref().unwrap_or("")),
        uid: PodUid::from(pod.metadata.uid.as_deref().unwrap_or("")),
    }
}

/// Whether it asks for a GPU that filmgate decides about.
#[must_use]
pub fn asks_for_gpu(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        let early = spec.init_containers.iter().flatten();
        spec.containers.iter().chain(early).any(|container| !gpus(container).is_empty())
    })
}

fn bound_to(spec: &PodSpec) -> Option<NodeName> {
    spec.node_name.as_deref().filter(|name| !name.is_empty()).map(NodeName::from)
}

fn containers(spec: &PodSpec) -> Vec<ContainerFacts> {
    let early = spec.init_containers.iter().flatten().map(|container| {
        let is_sidecar = container.restart_policy.as_deref() == Some("Always");
        (if is_sidecar { ContainerKind::Sidecar } else { ContainerKind::Init }, container)
    });
    let app = spec.containers.iter().map(|container| (ContainerKind::App, container));
    let fact = |(kind, container): (ContainerKind, &Container)| ContainerFacts {
        name: Arc::from(container.name.as_str()),
        kind,
        gpus: gpus(container),
        steered_by: steered_by(container),
    };
    early.chain(app).map(fact).collect()
}

/// GPU resources as kube-scheduler counts them: requests, and limits where there is no request
/// (the API server copies them over; a pod that somebody posts to `explain` has not been there).
fn gpus(container: &Container) -> Vec<(Arc<str>, u32)> {
    let Some(resources) = &container.resources else { return Vec::new() };
    let mut amounts: BTreeMap<&str, &Quantity> = BTreeMap::new();
    for (name, amount) in resources.limits.iter().chain(&resources.requests).flatten() {
        amounts.insert(name, amount);
    }
    let gpus = amounts.into_iter().filter(|(name, _)| is_gpu_resource(name));
    gpus.map(|(name, amount)| (Arc::from(name), devices(amount)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// A number of devices. The API server refuses what is no whole number; elsewhere such an amount
/// counts as more than any node has.
fn devices(amount: &Quantity) -> u32 {
    let text = amount.0.trim();
    if let Some(thousandths) = text.strip_suffix('m') {
        let thousandths = thousandths.parse::<u64>().unwrap_or(u64::MAX);
        return capped(thousandths.div_ceil(1000));
    }
    match Bytes::parse_quantity(text) {
        Ok(count) => capped(count.get()),
        Err(QuantityError::NotPositive) => 0,
        Err(QuantityError::Syntax | QuantityError::TooLarge) => MOST_DEVICES,
    }
}

fn capped(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(MOST_DEVICES).min(MOST_DEVICES)
}

/// The annotation that `NVIDIA_VISIBLE_DEVICES` is read from. Of several entries of that name the
/// kubelet takes the last.
fn steered_by(container: &Container) -> Option<Arc<str>> {
    let last = container.env.iter().flatten().rfind(|entry| entry.name == VISIBLE_DEVICES)?;
    let path = &last.value_from.as_ref()?.field_ref.as_ref()?.field_path;
    let key = path.strip_prefix("metadata.annotations['")?.strip_suffix("']")?;
    (!key.is_empty()).then(|| Arc::from(key))
}

/// Whether the pod's processes have ended, or never will begin:
///
/// - its phase is terminal;
/// - or it is being deleted and was never bound: the API server refuses a Binding from then on;
/// - or it is being deleted and each of its containers, init and ephemeral ones included, is
///   reported `terminated`. Without a deletion a terminated container may start again. A container
///   that is `waiting`, or has no status, may have been started a moment ago.
fn has_ended(pod: &Pod, spec: &PodSpec) -> bool {
    let nothing = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&nothing);
    let is_terminal = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let is_deleting = pod.metadata.deletion_timestamp.is_some();
    is_terminal
        || (is_deleting
            && (bound_to(spec).is_none() || every_container_has_terminated(spec, status)))
}

fn every_container_has_terminated(spec: &PodSpec, status: &PodStatus) -> bool {
    let kinds = [
        (spec.containers.len(), &status.container_statuses),
        (spec.init_containers.as_ref().map_or(0, Vec::len), &status.init_container_statuses),
        (
            spec.ephemeral_containers.as_ref().map_or(0, Vec::len),
            &status.ephemeral_container_statuses,
        ),
    ];
    kinds.into_iter().all(|(count, statuses)| {
        let statuses: &[ContainerStatus] = statuses.as_deref().unwrap_or_default();
        statuses.len() >= count && statuses.iter().all(has_terminated)
    })
}

fn has_terminated(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.terminated.is_some())
}

#[cfg(test)]
mod tests;
