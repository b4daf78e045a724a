//! A port of this machine that leads to an extender in the cluster, as `kubectl port-forward` does.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use reqwest::Url;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::in_a_line;

/// The extender's pods in a cluster.
const SELECTOR: &str = "app.kubernetes.io/name=filmgate,app.kubernetes.io/component=extender";
/// Where the extender listens in its pod.
const VERBS_PORT: u16 = 9110;

/// Why no port leads to an extender.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
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
    Local(#[from] std::io::Error),
}

/// A port of 127.0.0.1 that leads to one extender's loopback listener, until dropped.
#[derive(Debug)]
pub struct PortForward {
    url: Url,
    task: JoinHandle<()>,
}

/// Names of the extender's running pods.
///
/// # Errors
/// When there is none, or the API server does not say.
pub async fn extenders(client: &Client, namespace: &str) -> Result<Vec<String>, ForwardError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let labels = ListParams::default().labels(SELECTOR);
    let listed = pods.list(&labels).await.map_err(no_cluster)?;
    let is_running = |pod: &&Pod| {
        pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
    };
    let running: Vec<_> = listed.items.iter().filter(is_running).map(Pod::name_any).collect();
    if running.is_empty() {
        return Err(ForwardError::NoExtender { namespace: namespace.to_owned() });
    }
    Ok(running)
}

impl PortForward {
    /// Opens one to that pod.
    ///
    /// # Errors
    /// When no port of this machine can be had. What the API server refuses shows when the port
    /// is used.
    pub async fn open(client: &Client, namespace: &str, pod: &str) -> Result<Self, ForwardError> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let url = Url::parse(&url).map_err(std::io::Error::other)?;
        let task = tokio::spawn(forward(listener, pods, pod.to_owned()));
        Ok(Self { url, task })
    }

    /// Where it leads from.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Each connection is a stream of its own; all end with this.
async fn forward(listener: TcpListener, pods: Api<Pod>, pod: String) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(connect(near, pods.clone(), pod.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(mut near: TcpStream, pods: Api<Pod>, pod: String) {
    let mut forwarder = match pods.portforward(&pod, &[VERBS_PORT]).await {
        Ok(forwarder) => forwarder,
        Err(error) => {
            return tracing::error!(error = in_a_line(error), pod, "cannot forward a port");
        }
    };
    if let Some(mut far) = forwarder.take_stream(VERBS_PORT) {
        // Either end may close; the answer is read by then, or its reader says what is missing.
        let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}

fn no_cluster(error: kube::Error) -> ForwardError {
    ForwardError::Cluster(in_a_line(error))
}
