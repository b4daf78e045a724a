//! Requests of the test itself, which get through in the end, whatever becomes of the API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch};
use serde_json::json;

use super::support::cluster::COMPLETE_ANNOTATION;
use super::support::eventually::eventually;

const NOT_FOUND: u16 = 404;
const ALREADY_THERE: u16 = 409;
/// A try at an API server that is stopped is given up, and made again.
const TRY: Duration = Duration::from_secs(3);
/// Longer than every fault.
const DEADLINE: Duration = Duration::from_secs(120);

/// Creates the pod. One of that name is this one: an answer got lost.
pub async fn create(pods: &Api<Pod>, pod: &Pod) {
    persist("created", ALREADY_THERE, || async { pods.create(&Default::default(), pod).await })
        .await;
}

/// Deletes the pod, with a grace or without, if it is there.
pub async fn delete(pods: &Api<Pod>, name: &str, is_forced: bool) {
    let usual = DeleteParams::default();
    let how = if is_forced { usual.grace_period(0) } else { usual };
    persist("deleted", NOT_FOUND, || async { pods.delete(name, &how).await }).await;
}

/// Has the pod end by itself as soon as it runs, if it is there.
pub async fn complete(pods: &Api<Pod>, name: &str) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {COMPLETE_ANNOTATION: "true"}}}));
    persist("completed", NOT_FOUND, || async {
        pods.patch(name, &Default::default(), &patch).await
    })
    .await;
}

/// Waits until no pod has that name.
pub async fn gone(pods: &Api<Pod>, name: &str) {
    eventually(DEADLINE, &format!("{name} gone"), async || {
        let found = tokio::time::timeout(TRY, pods.get_opt(name)).await;
        matches!(found, Ok(Ok(None))).then_some(())
    })
    .await;
}

async fn persist<T, F: Future<Output = kube::Result<T>>>(
    what: &str,
    fine: u16,
    mut request: impl FnMut() -> F,
) {
    eventually(DEADLINE, what, async || match tokio::time::timeout(TRY, request()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == fine => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    })
    .await;
}
