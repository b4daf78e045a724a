//! The fence: a write to the pod after which no Binding that was sent before can commit.

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::backoff::Jittered;
use super::bind::within;
use super::client::Failure;
use super::identity::{FENCE_ANNOTATION, FENCE_LABEL, Identity};
use super::pod;
use crate::engine::PodRef;

/// One try. Longer than a busy API server needs, short against a person's patience.
const TRY_LIMIT: Duration = Duration::from_secs(2);
/// A page of pods may take longer than one pod.
const LIST_LIMIT: Duration = Duration::from_secs(30);
const PAGE_SIZE: u32 = 500;
/// Fences under way at a time when the process starts.
const FENCES_AT_A_TIME: usize = 32;
/// From this try on an operator should know.
const TRIES_UNTIL_WARNING: u32 = 3;
/// Pods that no Binding was ever posted for, or that cannot run any more, need no fence.
const UNBOUND_AND_ALIVE: &str = "spec.nodeName=,status.phase!=Succeeded,status.phase!=Failed";

/// Where the fence is written.
#[derive(Debug, Clone, Copy)]
enum Place {
    Annotation,
    /// For pods that have no room for one more annotation.
    Label,
}

/// Moves the pod's version and returns the pod as it was afterwards; `None` where it is gone.
/// Tries until the API server answers.
pub(super) async fn fence(client: &Client, identity: &Identity, pod: &PodRef) -> Option<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let (mut backoff, mut place) = (Jittered::new(), Place::Annotation);
    for attempt in 1_u32.. {
        let patch = Patch::Merge(patch(identity, pod, place));
        let parameters = PatchParams::default();
        let failure = match within(TRY_LIMIT, pods.patch(&pod.name, &parameters, &patch)).await {
            Ok(fenced) => return Some(fenced),
            Err(Failure::Answered { code: 404, .. }) => return None,
            Err(failure) => failure,
        };
        if let Failure::Answered { code: 409 | 422, .. } = failure {
            match within(TRY_LIMIT, pods.get_opt(&pod.name)).await {
                Ok(now) if !is_same(now.as_ref(), pod) => return None,
                Ok(_) => place = Place::Label,
                Err(_) => {}
            }
        }
        if attempt >= TRIES_UNTIL_WARNING {
            tracing::warn!(%pod, uid = %pod.uid, attempt, %failure, "a fence fails; trying again");
        }
        sleep(backoff.delay()).await;
    }
    None
}

fn patch(identity: &Identity, pod: &PodRef, place: Place) -> Value {
    match place {
        Place::Annotation => json!({"metadata": {
            "uid": pod.uid, "annotations": {FENCE_ANNOTATION: identity.fence()},
        }}),
        Place::Label => json!({"metadata": {
            "uid": pod.uid, "labels": {FENCE_LABEL: identity.fence_label()},
        }}),
    }
}

fn is_same(now: Option<&Pod>, pod: &PodRef) -> bool {
    now.and_then(|now| now.metadata.uid.as_deref()) == Some(pod.uid.as_str())
}

/// Fences every pod that asks for a GPU and is not bound: a Binding of an earlier process may be
/// on its way. Returns when each has answered.
pub(super) async fn fence_unbound(client: &Client, identity: &Identity) -> usize {
    let pods = unbound(client).await;
    let fences = pods.iter().map(|pod| fence(client, identity, pod));
    stream::iter(fences).buffer_unordered(FENCES_AT_A_TIME).count().await
}

/// Asked until there is an answer.
async fn unbound(client: &Client) -> Vec<PodRef> {
    let mut backoff = Jittered::new();
    loop {
        match list_unbound(client).await {
            Ok(pods) => return pods,
            Err(failure) => tracing::warn!(%failure, "unbound pods cannot be listed; trying again"),
        }
        sleep(backoff.delay()).await;
    }
}

/// From the store, not from a cache that may lag: no `resourceVersion` is given.
async fn list_unbound(client: &Client) -> Result<Vec<PodRef>, Failure> {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut page = ListParams::default().fields(UNBOUND_AND_ALIVE).limit(PAGE_SIZE);
    let mut found = Vec::new();
    loop {
        let list = within(LIST_LIMIT, pods.list(&page)).await?;
        found.extend(list.items.iter().filter(|pod| may_be_bound(pod)).map(pod::id));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

/// A pod that still has scheduling gates was never up for a Binding: gates only go.
fn may_be_bound(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    pod::asks_for_gpu(pod) && gates.is_none_or(Vec::is_empty)
}
