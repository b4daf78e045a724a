//! Devices: the device plugin's book, and how many are kept for pods that precede a newcomer.

use std::sync::Arc;

use super::{GpuState, NodeView};
use crate::engine::claim::{Claim, ClaimState};
use crate::engine::reading::Reading;
use crate::engine::{GpuAsk, PodUid};

/// What a newcomer may have of a resource some of whose devices are kept for pods that precede it.
/// kube-scheduler counts devices itself, but keeps none for a pod whose victims are gone and have
/// left nobody behind to evict, nor for one that is *reserved* a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicesLeft {
    /// The extended resource.
    pub resource: Arc<str>,
    /// So many devices.
    pub count: u32,
}

/// The device plugin's book, as far as it is known.
pub(super) fn count(view: &mut NodeView, reading: &Reading, claims: &[Claim], gone: &[PodUid]) {
    let is_given_back = |claim: &Claim, device| gone.contains(&claim.pod.uid) && claim.owns(device);
    for device in &reading.devices {
        if claims.iter().any(|claim| is_given_back(claim, device)) {
            continue;
        }
        let Some(gpu) = view.gpus.iter_mut().find(|gpu| gpu.uuid == device.gpu) else { continue };
        let stays = claims.iter().any(|claim| claim.is_staying() && claim.owns(device));
        gpu.assigned += 1;
        gpu.vacating += u32::from(!stays);
    }
}

/// Of each resource that a pod with precedence asks for: what there is, less what those have or are
/// promised who are not about to leave.
pub(super) fn left(gpus: &[GpuState], claims: &[&Claim], victims: &[&PodUid]) -> Vec<DevicesLeft> {
    let mut resources: Vec<&Arc<str>> = Vec::new();
    for claim in claims.iter().filter(|claim| claim.precedence().is_some()) {
        let shares = claim.ask.iter().flat_map(GpuAsk::all_shares);
        let new = shares.map(|share| &share.resource).filter(|one| !resources.contains(one));
        resources.extend(new.collect::<Vec<_>>());
    }
    let stays = |claim: &&&Claim| {
        !matches!(claim.state, ClaimState::Leaving { .. }) && !victims.contains(&&claim.pod.uid)
    };
    let left = |resource: &Arc<str>| {
        let offered = gpus.iter().filter(|gpu| gpu.resource == *resource);
        let offered: u32 = offered.map(|gpu| gpu.replicas).sum();
        // A pod whose annotations cannot be read has one device or more.
        let devices = |claim: &&Claim| claim.ask.as_ref().map_or(1, |ask| ask.devices_of(resource));
        let taken: u32 = claims.iter().filter(stays).map(devices).sum();
        DevicesLeft { resource: resource.clone(), count: offered.saturating_sub(taken) }
    };
    resources.into_iter().map(left).collect()
}
