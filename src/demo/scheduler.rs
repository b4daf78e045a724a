//! The demo's kube-scheduler: its wire protocol, and nothing else of it.
//!
//! The types are written down here again, apart from the extender's own, so that a demo that works
//! shows that both ends mean the same protocol.

use reqwest::Url;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::engine::PodRef;

/// `httpTimeout` of the shipped KubeSchedulerConfiguration.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the extender did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer.
    #[error("the extender does not answer {verb}: {source}")]
    Http {
        /// The verb.
        verb: &'static str,
        /// What happened.
        source: reqwest::Error,
    },
    /// It answered that it cannot say.
    #[error("the extender answers {verb} with an error: {text}")]
    Answer {
        /// The verb.
        verb: &'static str,
        /// Its text.
        text: String,
    },
}

/// Calls one extender.
#[derive(Debug, Clone)]
pub struct Scheduler {
    http: reqwest::Client,
    extender: Url,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Args<'a> {
    pod: &'a Pod,
    nodes: Option<()>,
    node_names: &'a [String],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FilterResult {
    node_names: Option<Vec<String>>,
    #[serde(default)]
    failed_and_unresolvable_nodes: Option<HashMap<String, String>>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostPriority {
    host: String,
    score: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BindingArgs<'a> {
    pod_name: &'a str,
    pod_namespace: &'a str,
    #[serde(rename = "PodUID")]
    pod_uid: &'a str,
    node: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BindingResult {
    #[serde(default)]
    error: String,
}

/// Filter's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feasible {
    /// Nodes that pass, in the order offered.
    pub nodes: Vec<String>,
    /// Why others do not.
    pub refused: HashMap<String, String>,
}

impl Scheduler {
    /// A scheduler that calls the extender at that base URL.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(extender: Url) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().no_proxy().timeout(HTTP_TIMEOUT).build()?;
        Ok(Self { http, extender })
    }

    /// Which nodes could take the pod.
    ///
    /// # Errors
    /// When the extender does not answer, or cannot say.
    pub async fn filter(&self, pod: &Pod, nodes: &[String]) -> Result<Feasible, CallError> {
        let args = Args { pod, nodes: None, node_names: nodes };
        let result: FilterResult = self.call("filter", &args).await?;
        if !result.error.is_empty() {
            return Err(CallError::Answer { verb: "filter", text: result.error });
        }
        Ok(Feasible {
            nodes: result.node_names.unwrap_or_default(),
            refused: result.failed_and_unresolvable_nodes.unwrap_or_default(),
        })
    }

    /// The node with the highest score. As kube-scheduler does, a single node is not scored.
    ///
    /// # Errors
    /// When the extender does not answer.
    pub async fn best(&self, pod: &Pod, nodes: &[String]) -> Result<Option<String>, CallError> {
        if nodes.len() < 2 {
            return Ok(nodes.first().cloned());
        }
        let args = Args { pod, nodes: None, node_names: nodes };
        let scores: Vec<HostPriority> = self.call("prioritize", &args).await?;
        let best = scores.into_iter().max_by(|one, other| {
            one.score.cmp(&other.score).then_with(|| other.host.cmp(&one.host))
        });
        Ok(best.map(|best| best.host))
    }

    /// Binds the pod; the text of a refusal otherwise.
    ///
    /// # Errors
    /// When the extender does not answer.
    pub async fn bind(&self, pod: &PodRef, node: &str) -> Result<Result<(), String>, CallError> {
        let args = BindingArgs {
            pod_name: &pod.name,
            pod_namespace: &pod.namespace,
            pod_uid: pod.uid.as_str(),
            node,
        };
        let result: BindingResult = self.call("bind", &args).await?;
        Ok(if result.error.is_empty() { Ok(()) } else { Err(result.error) })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        args: &impl Serialize,
    ) -> Result<T, CallError> {
        let mut url = self.extender.clone();
        url.set_path(verb);
        let answer =
            async { self.http.post(url).json(args).send().await?.error_for_status()?.json().await };
        answer.await.map_err(|source| CallError::Http { verb, source })
    }
}
