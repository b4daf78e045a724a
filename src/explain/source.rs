//! Where an explanation comes from: an extender's URL, or a port-forward to one.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cluster;

/// The extender's pods in a cluster.
const SELECTOR: &str = "app.kubernetes.io/name=filmgate,app.kubernetes.io/component=extender";
/// Where the extender listens in its pod.
const VERBS_PORT: u16 = 9110;

/// What is asked about.
#[derive(Debug, Clone)]
pub enum Question {
    /// A pod that exists.
    Existing {
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
    },
    /// A pod that does not: what if?
    WhatIf(serde_json::Value),
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// Not `NAMESPACE/POD`.
    #[error("{0:?} names no pod: write NAMESPACE/POD, for example ai-film/comfyui")]
    Name(String),
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no manifest.
    #[error("{path} is no manifest of a Pod: {why}")]
    Manifest {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// Nobody answers there.
    #[error("no extender answers at {url}: {source}")]
    Unreachable {
        /// The address.
        url: Url,
        /// Why.
        source: reqwest::Error,
    },
    /// The extender's own words.
    #[error("{0}")]
    Refused(String),
    /// The cluster has no extender.
    #[error(
        "no running filmgate extender in namespace {namespace} (pods labelled {SELECTOR}): install it, name its namespace with --filmgate-namespace, or give --server URL"
    )]
    NoExtender {
        /// Where it was looked for.
        namespace: String,
    },
    /// The API server's words.
    #[error("cannot reach the extender through the API server: {0}")]
    Cluster(String),
    /// A socket of this machine.
    #[error("cannot forward a port: {0}")]
    Forward(#[from] std::io::Error),
}

impl Question {
    /// Reads `NAMESPACE/POD`.
    ///
    /// # Errors
    /// When it is none.
    pub fn about(text: &str) -> Result<Self, ExplainError> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self::Existing { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(ExplainError::Name(text.to_owned())),
        }
    }

    /// Reads a Pod's manifest, YAML or JSON; `-` is the standard input.
    ///
    /// # Errors
    /// When it cannot be read, or is no Pod.
    pub fn from_file(path: &Path) -> Result<Self, ExplainError> {
        let shown = path.display().to_string();
        let read = if shown == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(path)
        };
        let text = read.map_err(|source| ExplainError::File { path: shown.clone(), source })?;
        let manifest = |why: String| ExplainError::Manifest { path: shown.clone(), why };
        let pod: serde_json::Value =
            serde_saphyr::from_str(&text).map_err(|error| manifest(error.to_string()))?;
        match pod["kind"].as_str() {
            Some("Pod") => Ok(Self::WhatIf(pod)),
            kind => Err(manifest(format!("its kind is {}", kind.unwrap_or("missing")))),
        }
    }
}

/// Asks the extender at `server`; its answer, a JSON object.
///
/// # Errors
/// When nobody answers, or the extender says that it cannot.
pub async fn ask(server: &Url, question: &Question) -> Result<serde_json::Value, ExplainError> {
    let mut url = server.clone();
    url.set_path("/explain");
    let unreachable = |source| ExplainError::Unreachable { url: server.clone(), source };
    // An extender is on loopback, where no proxy of this machine's user leads.
    let http = reqwest::Client::builder().no_proxy().build().map_err(unreachable)?;
    let request = match question {
        Question::Existing { namespace, name } => {
            url.query_pairs_mut().append_pair("pod", &format!("{namespace}/{name}"));
            http.get(url)
        }
        Question::WhatIf(pod) => http.post(url).json(pod),
    };
    let response = request.send().await.map_err(unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    response.json().await.map_err(unreachable)
}

async fn refusal(response: Response) -> ExplainError {
    #[derive(Deserialize)]
    struct Problem {
        error: String,
    }
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let problem = serde_json::from_str::<Problem>(&text);
    ExplainError::Refused(
        problem.map_or_else(|_| format!("the server answers {status}"), |one| one.error),
    )
}

/// A port of this machine that leads to an extender in the cluster, until dropped.
#[derive(Debug)]
pub struct PortForward {
    url: Url,
    task: JoinHandle<()>,
}

impl PortForward {
    /// Opens one to a running extender.
    ///
    /// # Errors
    /// When there is none, or the API server does not let us.
    pub async fn open(client: Client, namespace: &str) -> Result<Self, ExplainError> {
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let listed =
            pods.list(&ListParams::default().labels(SELECTOR)).await.map_err(no_cluster)?;
        let is_running = |pod: &Pod| {
            pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
        };
        let Some(pod) = listed.items.into_iter().find(is_running) else {
            return Err(ExplainError::NoExtender { namespace: namespace.to_owned() });
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut forwarder =
            pods.portforward(&pod.name_any(), &[VERBS_PORT]).await.map_err(no_cluster)?;
        let task = tokio::spawn(async move {
            let (Ok((mut near, _)), Some(mut far)) =
                (listener.accept().await, forwarder.take_stream(VERBS_PORT))
            else {
                return;
            };
            // Either end may close; the answer is read by then, or its reader says what is missing.
            let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        let url = format!("http://{address}");
        let url = Url::parse(&url).map_err(|_| ExplainError::Name(url))?;
        Ok(Self { url, task })
    }

    /// Where it leads from.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}

fn no_cluster(error: kube::Error) -> ExplainError {
    ExplainError::Cluster(cluster::in_a_line(error))
}

impl Drop for PortForward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_namespace_and_a_pod() {
        assert!(matches!(
            Question::about("ai-film/comfyui"),
            Ok(Question::Existing { namespace, name }) if namespace == "ai-film" && name == "comfyui"
        ));
        for text in ["comfyui", "/comfyui", "ai-film/", "a/b/c", ""] {
            let error = Question::about(text).unwrap_err().to_string();
            assert!(error.contains("write NAMESPACE/POD"), "{error}");
        }
    }

    #[test]
    fn a_manifest_is_a_pods() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pod.yaml");
        std::fs::write(&path, "kind: Deployment\n").unwrap();
        let error = Question::from_file(&path).unwrap_err().to_string();
        assert!(error.ends_with("is no manifest of a Pod: its kind is Deployment"), "{error}");
        std::fs::write(&path, "kind: Pod\nmetadata: {name: p0}\n").unwrap();
        assert!(matches!(Question::from_file(&path), Ok(Question::WhatIf(_))));
        assert!(Question::from_file(&folder.path().join("none")).is_err());
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let url = Url::parse("http://127.0.0.1:1/").unwrap();
        let question = Question::about("default/p0").unwrap();
        let error = ask(&url, &question).await.unwrap_err().to_string();
        assert!(error.starts_with("no extender answers at http://127.0.0.1:1/"), "{error}");
    }
}
