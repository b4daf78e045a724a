//! Which agent serves which node.
//!
//! In a cluster the agents' EndpointSlices say so: each endpoint carries its node's name. Loopback
//! addresses are not allowed in EndpointSlices, so tests and single machines name their agents in
//! the config instead. Both end in one list, which [`super::client`] follows.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client};
use reqwest::Url;
use tokio::sync::watch;

use super::client::AgentEndpoint;
use crate::engine::NodeName;

/// Why an agent's address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No name.
    #[error("agents: an entry has no node name: write node: <name of the Kubernetes node>")]
    NoNode,
    /// Not a URL.
    #[error(
        "agents: the url {url:?} of node {node} is no URL ({why}): write http://<address>:<port>"
    )]
    NoUrl {
        /// The node.
        node: String,
        /// The text.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// A URL of another kind.
    #[error(
        "agents: the url {url:?} of node {node} must begin with http:// or https:// and name a host"
    )]
    NotHttp {
        /// The node.
        node: String,
        /// The text.
        url: String,
    },
    /// The same node twice.
    #[error("agents: node {0} is listed twice: keep one of the two")]
    Twice(String),
}

/// An agent's endpoint from texts.
///
/// # Errors
/// When the node has no name or the URL is none.
pub fn endpoint(node: &str, url: &str) -> Result<AgentEndpoint, EndpointError> {
    if node.is_empty() {
        return Err(EndpointError::NoNode);
    }
    let wrong = |why: String| EndpointError::NoUrl { node: node.into(), url: url.into(), why };
    let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(EndpointError::NotHttp { node: node.into(), url: url.into() });
    }
    Ok(AgentEndpoint { node: NodeName::from(node), url: parsed })
}

/// The agents that a config lists, as (node, URL).
///
/// # Errors
/// The first entry that cannot be used.
pub fn listed<'a>(
    agents: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<AgentEndpoint>, EndpointError> {
    let mut endpoints = BTreeMap::new();
    for (node, url) in agents {
        if endpoints.insert(node, endpoint(node, url)?).is_some() {
            return Err(EndpointError::Twice(node.into()));
        }
    }
    Ok(endpoints.into_values().collect())
}

/// Which EndpointSlices are the agents'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceSelector {
    /// Their namespace.
    pub namespace: String,
    /// Their labels (`kubernetes.io/service-name=filmgate-agent`).
    pub labels: String,
    /// Name of the port that serves readings.
    pub port: String,
    /// Whether that port speaks TLS.
    pub is_tls: bool,
}

/// Publishes the agents' endpoints until nobody listens. A list that breaks off is never
/// published: a half of it would end the streams of the other half.
pub async fn watch_slices(
    client: Client,
    selector: SliceSelector,
    agents: watch::Sender<Vec<AgentEndpoint>>,
) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, &selector.namespace);
    let config = watcher::Config::default().labels(&selector.labels);
    let (store, writer) = reflector::store();
    let events = reflector(writer, watcher(slices, config).default_backoff());
    let mut events = std::pin::pin!(events);
    loop {
        let event = tokio::select! {
            () = agents.closed() => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(%error, "watch of the agents' EndpointSlices; trying again")
            }
            Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => {}
            Some(Ok(_)) => {
                let found = endpoints(store.state().iter().map(AsRef::as_ref), &selector);
                agents.send_if_modified(|current| {
                    let is_other = *current != found;
                    *current = found;
                    is_other
                });
            }
        }
    }
}

/// The agents of these slices, one per node, ordered by node. Of several for one node (an update
/// under way) the first address is taken, so that the choice does not flap.
pub fn endpoints<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    selector: &SliceSelector,
) -> Vec<AgentEndpoint> {
    let scheme = if selector.is_tls { "https" } else { "http" };
    let mut found = BTreeMap::new();
    for slice in slices {
        let Some(number) = port_number(slice, &selector.port) else { continue };
        for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)) {
            let Some(agent) = agent(endpoint, scheme, number) else { continue };
            let known = found.entry(agent.node.clone()).or_insert_with(|| agent.clone());
            if agent < *known {
                *known = agent;
            }
        }
    }
    found.into_values().collect()
}

fn port_number(slice: &EndpointSlice, name: &str) -> Option<i32> {
    slice.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name))?.port
}

/// An unknown readiness counts as ready, as the API says it should.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn agent(endpoint: &Endpoint, scheme: &str, port: i32) -> Option<AgentEndpoint> {
    let node = endpoint.node_name.as_deref()?;
    let address = endpoint.addresses.first()?;
    let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
    self::endpoint(node, &format!("{scheme}://{host}:{port}")).ok()
}

#[cfg(test)]
mod tests;
