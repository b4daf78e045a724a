//! The Binding, and what each answer to it means.
//!
//! A Binding carries the pod's UID and version as preconditions and the decision as annotations,
//! which the API server merges into the pod in the same write. Once one is on the wire, only an
//! answer that rules it out makes it "refused"; everything else is "unknown", and a fence tells.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::core::Status;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::Jittered;
use super::client::Failure;
use super::defaults::NamespaceDefaults;
use super::identity::Identity;
use super::marks;
use crate::engine::{Admission, NodeName};
use crate::extender::writer::BindOutcome;

/// One pod that is to be bound to one node.
pub(super) struct Binding<'a> {
    pub(super) client: &'a Client,
    pub(super) identity: &'a Identity,
    pub(super) defaults: &'a NamespaceDefaults,
    pub(super) admission: &'a Admission,
    pub(super) node: &'a NodeName,
}

/// What follows from a look at the pod after a conflict.
#[derive(Debug, PartialEq)]
enum Next {
    /// Someone wrote to the pod meanwhile, and nothing that matters: once more with this version.
    Retry(String),
    Done(BindOutcome),
}

impl Binding<'_> {
    /// Posts until there is an answer that counts, or the deadline has passed.
    pub(super) async fn post_within(&self, deadline: Duration) -> BindOutcome {
        let end = Instant::now() + deadline;
        let mut version = self.admission.resource_version.to_string();
        if deadline.is_zero() {
            return BindOutcome::Refused("no time left to send a Binding".to_owned());
        }
        loop {
            let conflict = match timeout_at(end, self.post(&version)).await {
                Ok(Ok(())) => return BindOutcome::Bound,
                Ok(Err(Failure::Answered { code: 409, message })) => message,
                Ok(Err(failure)) => return outcome_of(&failure),
                Err(_) => return BindOutcome::Unknown(format!("no answer within {deadline:?}")),
            };
            match timeout_at(end, self.look(&version, &conflict)).await {
                Ok(Next::Retry(newer)) => version = newer,
                Ok(Next::Done(outcome)) => return outcome,
                // Some proxies repeat requests: the conflict may be with our own Binding.
                Err(_) => return BindOutcome::Unknown(format!("{conflict}; the pod was not read")),
            }
        }
    }

    async fn post(&self, version: &str) -> Result<(), Failure> {
        let pod = &self.admission.pod;
        let body = body(self.admission, self.node, version);
        let parameters = PostParams::default();
        let sent: Result<Status, _> =
            self.pods().create_subresource("binding", &pod.name, &parameters, &body).await;
        sent.map(|_| ()).map_err(Failure::from)
    }

    /// The pod as it is now, asked until the API server answers.
    async fn look(&self, version: &str, conflict: &str) -> Next {
        let mut backoff = Jittered::new();
        loop {
            match self.pods().get_opt(&self.admission.pod.name).await {
                Ok(pod) => return self.after_conflict(pod.as_ref(), version, conflict),
                Err(error) => tracing::debug!(pod = %self.admission.pod, %error, "not read"),
            }
            sleep(backoff.delay()).await;
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.admission.pod.namespace)
    }

    fn after_conflict(&self, pod: Option<&Pod>, version: &str, conflict: &str) -> Next {
        use BindOutcome::{Bound, Refused, Superseded};
        let own = &self.admission.pod;
        let Some(pod) = pod else { return Next::Done(Superseded("the pod is gone".to_owned())) };
        if pod.metadata.uid.as_deref() != Some(own.uid.as_str()) {
            return Next::Done(Superseded("another pod has its name".to_owned()));
        }
        let bound_to = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if let Some(node) = bound_to.filter(|node| !node.is_empty()) {
            let is_ours = node == self.node.as_str() && self.carries_decision(pod);
            let elsewhere = || Superseded(format!("the pod was bound to node {node} by another"));
            return Next::Done(if is_ours { Bound } else { elsewhere() });
        }
        if let Some(fence) = self.identity.foreign_fence(pod) {
            return Next::Done(Refused(format!("fenced by another filmgate ({fence})")));
        }
        if !self.asks_the_same(pod) {
            return Next::Done(Refused("the pod asks for something else by now".to_owned()));
        }
        if !self.writes_over_all(pod) {
            return Next::Done(Refused("the pod carries a new annotation of GPUs".to_owned()));
        }
        match pod.metadata.resource_version.as_deref() {
            Some(newer) if newer != version && pod.metadata.deletion_timestamp.is_none() => {
                Next::Retry(newer.to_owned())
            }
            // Nobody wrote to the pod: the API server has another reason, and it will not go away.
            _ => Next::Done(Refused(conflict.to_owned())),
        }
    }

    fn carries_decision(&self, pod: &Pod) -> bool {
        let on_pod = |key| pod.metadata.annotations.as_ref().and_then(|own| own.get(key));
        self.admission.annotations.iter().all(|(key, value)| on_pod(key) == Some(value))
    }

    /// No annotation that a container may read its GPUs from stays as somebody else wrote it. One
    /// that came after the admission was not known to it.
    fn writes_over_all(&self, pod: &Pod) -> bool {
        let written = &self.admission.annotations;
        let is_written = |key: &str| written.iter().any(|(written, _)| written == key);
        written.is_empty() || marks::read(&pod.metadata).containers().all(is_written)
    }

    /// Room was found for what the pod asked then.
    fn asks_the_same(&self, pod: &Pod) -> bool {
        self.admission.ask.as_ref().is_none_or(|admitted| {
            self.defaults.facts(pod).is_some_and(|facts| facts.ask.as_ref() == Ok(admitted))
        })
    }
}

fn body(admission: &Admission, node: &NodeName, version: &str) -> Value {
    let annotations: serde_json::Map<String, Value> = admission
        .annotations
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    let mut metadata = json!({
        "name": *admission.pod.name,
        "namespace": *admission.pod.namespace,
        "uid": admission.pod.uid,
        "annotations": annotations,
    });
    if !version.is_empty() {
        metadata["resourceVersion"] = Value::from(version);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": metadata,
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    })
}

/// What an answer other than success or a conflict says of the Binding.
///
/// - Other 4xx are given before anything is stored (429 by flow control, too).
/// - 5xx may come after: storage that timed out may still commit, and a proxy gives up by itself.
fn outcome_of(failure: &Failure) -> BindOutcome {
    match failure {
        Failure::Answered { code: 404, message } => BindOutcome::Superseded(message.clone()),
        // The gateway's or the server's clock ran out while the request was under way.
        Failure::Answered { code: 408 | 499, .. } => BindOutcome::Unknown(failure.to_string()),
        Failure::Answered { code: 400..=499, .. } | Failure::NotSent(_) => {
            BindOutcome::Refused(failure.to_string())
        }
        Failure::Answered { .. } | Failure::Lost(_) => BindOutcome::Unknown(failure.to_string()),
    }
}

/// Repeats nothing: for callers that need the answer of exactly one try.
pub(super) async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => Err(Failure::Lost(format!("nothing within {limit:?}"))),
    }
}

#[cfg(test)]
mod tests;
