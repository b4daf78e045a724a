//! The way of a pod through the ledger: judged, held, admitted, bound.

use std::sync::Arc;

use super::{Ledger, NodeIndex};
use crate::engine::claim::{Claim, ClaimState, Landing};
use crate::engine::marks::Marks;
use crate::engine::placement::Placement;
use crate::engine::pod::{CHARGED_ANNOTATION, Decision, FRACTION_ANNOTATION};
use crate::engine::request::{BadRequest, GPU_ANNOTATION, GpuAsk};
use crate::engine::{NodeName, PodFacts, PodRef, PodUid, Reason, Time};

/// A pod that was let through to a Binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// The pod.
    pub pod: PodRef,
    /// Its `metadata.resourceVersion` as the ledger knows it: the Binding's precondition.
    pub resource_version: Arc<str>,
    /// What it asked when room was found for it; `None` where nothing was decided about it.
    pub ask: Option<GpuAsk>,
    /// What to write on it in the same write as the Binding.
    pub annotations: Vec<(String, String)>,
    /// Where the pod was held before.
    pub hold: HoldOutcome,
}

/// What an admission found of the pod's hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldOutcome {
    /// It was held on this node.
    Used,
    /// It was held on another node.
    Moved,
    /// It was not held.
    Missing,
}

/// Why a pod is not let through to a Binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// No such pod with a GPU request is known, or it will not run any more.
    #[error("pod is not known, or asks for no GPU")]
    UnknownPod,
    /// Its annotations cannot be meant.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// An earlier Binding's outcome is not known yet.
    #[error("an earlier Binding of this pod is still in flight")]
    InFlight,
    /// It is bound, or was.
    #[error("pod is already bound to node {0}")]
    AlreadyBound(NodeName),
    /// It does not fit.
    #[error("{}", .0.text())]
    Refused(Reason),
}

impl Ledger {
    /// Whether a Binding of the pod may still be on its way, so that nothing can be said of it.
    #[must_use]
    pub fn is_binding(&self, pod: &PodUid) -> bool {
        matches!(self.claim(pod), Some((_, Claim { state: ClaimState::Binding { .. }, .. })))
    }

    /// Holds room for the pod on the node, in place of any hold it had. Advice: where the pod
    /// does not fit (any more), or is past being held, nothing happens.
    pub fn hold(&mut self, pod: &PodRef, ask: &GpuAsk, node: &str, now: Time) -> bool {
        self.hold_until(pod, ask, node, now + self.policy.hold_ttl, now)
    }

    pub(in crate::engine) fn hold_until(
        &mut self,
        pod: &PodRef,
        ask: &GpuAsk,
        node: &str,
        until: Time,
        now: Time,
    ) -> bool {
        let is_firm = self.claim(&pod.uid).is_some_and(|(_, claim)| !claim.is_advice());
        let Some(index) = self.node_index(node) else { return false };
        if is_firm || !self.policy.holds || self.deleted.known.contains(&pod.uid) {
            return false;
        }
        let eyes = self.eyes_of(&pod.uid);
        let Ok(placement) = self.nodes[index].place(eyes, ask, &self.policy, now) else {
            return false;
        };
        if self.is_nominated(&pod.uid) {
            // Its place is kept already, and longer than by a hold. It may go elsewhere, and then
            // goes without: a pod has one claim.
            return self.claim_at.get(&pod.uid) == Some(&index);
        }
        self.remove_claim(&pod.uid, now);
        let state = ClaimState::Held { until };
        self.insert_claim(index, claim(pod, ask, &placement, state), now);
        true
    }

    /// The pod was refused everywhere: it holds nothing and waits.
    pub fn release_hold(&mut self, pod: &PodUid, now: Time) {
        if self.claim(pod).is_some_and(|(_, claim)| claim.is_held()) {
            self.remove_claim(pod, now);
        }
    }

    /// The only way to a Binding. Where the pod fits by charges and measurements, its claim
    /// becomes *binding* and stays until [`Ledger::bound`] or [`Ledger::not_bound`] tell the
    /// outcome, however long that takes.
    ///
    /// # Errors
    /// Why the pod may not be bound there; the ledger is then as before.
    pub fn admit(&mut self, pod: &PodUid, node: &str, now: Time) -> Result<Admission, AdmitError> {
        let (facts, ask) = self.admissible(pod)?;
        let index = self.node_index(node).ok_or(AdmitError::Refused(Reason::UnknownNode))?;
        let placed = self.nodes[index].place(self.eyes_of(pod), &ask, &self.policy, now);
        let placement = placed.map_err(AdmitError::Refused)?;
        Ok(self.start_binding(&facts, &ask, index, &placement, now))
    }

    /// Lets the pod through although it may not fit: `mode: observe`, which changes nothing about
    /// where pods go. A pod that does not fit is charged as one that someone else bound.
    ///
    /// # Errors
    /// As [`Ledger::admit`], but for room.
    pub fn admit_unchecked(
        &mut self,
        pod: &PodUid,
        node: &str,
        now: Time,
    ) -> Result<(Admission, Option<Reason>), AdmitError> {
        match self.admit(pod, node, now) {
            Err(AdmitError::Refused(reason)) => {
                let (facts, ask) = self.admissible(pod)?;
                let index = self.intern(&NodeName::from(node));
                let nowhere = Placement::nowhere();
                Ok((self.start_binding(&facts, &ask, index, &nowhere, now), Some(reason)))
            }
            outcome => outcome.map(|admission| (admission, None)),
        }
    }

    fn admissible(&self, pod: &PodUid) -> Result<(Arc<PodFacts>, GpuAsk), AdmitError> {
        let facts = self.pods.get(pod).ok_or(AdmitError::UnknownPod)?;
        let ask = facts.ask.clone()?;
        match self.claim(pod) {
            Some((_, Claim { state: ClaimState::Binding { .. }, .. })) => Err(AdmitError::InFlight),
            Some((node, claim)) if !claim.is_advice() => {
                Err(AdmitError::AlreadyBound(node.clone()))
            }
            _ => match &facts.node {
                Some(node) => Err(AdmitError::AlreadyBound(node.clone())),
                None if facts.has_ended => Err(AdmitError::UnknownPod),
                None => Ok((facts.clone(), ask)),
            },
        }
    }

    fn start_binding(
        &mut self,
        facts: &PodFacts,
        ask: &GpuAsk,
        index: NodeIndex,
        placement: &Placement,
        now: Time,
    ) -> Admission {
        let mut claim = claim(&facts.id, ask, placement, ClaimState::Binding { in_doubt: false });
        if !placement.charged.is_empty() {
            claim.landing = Landing::Awaited;
        }
        let hold = match self.remove_claim(&facts.id.uid, now) {
            Some((held_on, held)) if held_on == index => {
                claim.nomination = held.nomination;
                HoldOutcome::Used
            }
            Some(_) => HoldOutcome::Moved,
            None => HoldOutcome::Missing,
        };
        self.insert_claim(index, claim, now);
        self.waiting.remove(&facts.id.uid);
        Admission {
            pod: facts.id.clone(),
            resource_version: facts.resource_version.clone(),
            ask: Some(ask.clone()),
            annotations: annotations(placement, &facts.marks),
            hold,
        }
    }

    /// The API server says that the Binding took place.
    pub fn bound(&mut self, pod: &PodUid, now: Time) {
        if let Some((index, claim)) = self.claim_mut(pod)
            && matches!(claim.state, ClaimState::Binding { .. })
        {
            claim.state = ClaimState::Bound { since: now };
            claim.nomination = None;
            self.refresh(index, now);
        }
    }

    /// The API server says that the Binding did not and will not take place. A place that others
    /// were asked to leave is kept.
    pub fn not_bound(&mut self, pod: &PodUid, now: Time) {
        if !self.is_binding(pod) {
            return;
        }
        let may_run = |facts: &PodFacts| facts.node.is_none() && !facts.has_ended;
        let may_run = self.pod(pod).is_some_and(may_run);
        match self.claim_mut(pod) {
            Some((index, claim)) if may_run && claim.nomination.is_some() => {
                claim.state = ClaimState::Nominated;
                self.refresh(index, now);
            }
            _ => drop(self.remove_claim(pod, now)),
        }
    }

    /// Nobody knows whether the Binding took or will take place: the charge stays.
    pub fn doubt(&mut self, pod: &PodUid) {
        if let Some((_, claim)) = self.claim_mut(pod)
            && matches!(claim.state, ClaimState::Binding { .. })
        {
            claim.state = ClaimState::Binding { in_doubt: true };
        }
    }
}

pub(super) fn claim(pod: &PodRef, ask: &GpuAsk, placement: &Placement, state: ClaimState) -> Claim {
    Claim {
        pod: pod.clone(),
        state,
        planned: placement.charged.clone(),
        is_confirmed: false,
        ask: Some(ask.clone()),
        is_book_current: false,
        landing: Landing::Unwatched,
        grown: Vec::new(),
        nomination: None,
    }
}

/// What a Binding writes on the pod. GPUs as `NVIDIA_VISIBLE_DEVICES` wants them.
/// What is on the pod already, in one of their places, is none of ours and is written over: a
/// Binding cannot remove it.
fn annotations(placement: &Placement, marks: &Marks) -> Vec<(String, String)> {
    if placement.charged.is_empty() {
        return Vec::new();
    }
    let decision = Decision { charged: placement.charged.clone() };
    let mut annotations = vec![
        (CHARGED_ANNOTATION.to_owned(), decision.charged_annotation()),
        (FRACTION_ANNOTATION.to_owned(), fraction(placement.least_fraction)),
    ];
    let visible: Vec<_> = decision.charged.iter().map(|(gpu, _)| gpu.as_str()).collect();
    annotations.push((GPU_ANNOTATION.to_owned(), visible.join(",")));
    for container in &placement.containers {
        let Some(key) = container.steered_by.as_deref().filter(|key| *key != GPU_ANNOTATION) else {
            continue;
        };
        let gpus: Vec<_> = container.gpus.iter().map(|gpu| gpu.as_str()).collect();
        annotations.push((key.to_owned(), gpus.join(",")));
    }
    for key in marks.containers() {
        if annotations.iter().all(|(written, _)| written != key) {
            annotations.push((key.to_owned(), visible.join(",")));
        }
    }
    annotations
}

/// Four digits, rounded down: a fraction rounded up would let the pod past its charge.
fn fraction(part: f64) -> String {
    const SCALE: f64 = 10_000.0;
    format!("{:.4}", (part.clamp(1.0 / SCALE, 1.0) * SCALE).floor() / SCALE)
}
