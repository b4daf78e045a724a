//! What the checks look at: the API server, and the extender through it.

use std::fmt::Debug;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, Client, Resource};
use reqwest::Url;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::finding::Unmade;
use crate::cluster::in_a_line;
use crate::query::Extender;
use crate::top::answer::Fleet;

/// Where the cluster and its parts are.
#[derive(Debug, Clone)]
pub struct Place {
    /// Which cluster (else as kubectl).
    pub kubeconfig: Option<PathBuf>,
    /// An extender's address (else a port-forward is opened to one in the cluster).
    pub server: Option<Url>,
    /// Where filmgate runs.
    pub filmgate: String,
    /// Where the pipeline runs.
    pub pipeline: String,
    /// Where people open Dagster's page.
    pub dagster: Url,
}

/// One look at a cluster. What several checks ask for is asked once.
pub struct Ground {
    /// The API server.
    pub client: Client,
    /// Where everything is.
    pub place: Place,
    extender: OnceCell<Result<Extender, Unmade>>,
    fleet: OnceCell<Result<Fleet, Unmade>>,
    nodes: OnceCell<Result<Vec<Node>, Unmade>>,
}

impl Ground {
    /// A look that has not begun.
    #[must_use]
    pub fn new(client: Client, place: Place) -> Self {
        let (extender, fleet, nodes) = Default::default();
        Self { client, place, extender, fleet, nodes }
    }

    /// The extender.
    ///
    /// # Errors
    /// Why none can be asked.
    pub async fn extender(&self) -> Result<&Extender, Unmade> {
        let find = async || {
            let found = match &self.place.server {
                Some(server) => Extender::at(server.clone()),
                None => Extender::in_cluster(&self.client, &self.place.filmgate).await,
            };
            found.map_err(|error| Unmade(format!("the extender cannot be asked: {error}")))
        };
        self.extender.get_or_init(find).await.as_ref().map_err(Clone::clone)
    }

    /// The fleet as the extender knows it.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn fleet(&self) -> Result<&Fleet, Unmade> {
        let ask = async || {
            let answer = self.extender().await?.get("/fleet", &[]).await;
            answer.map_err(|error| Unmade(format!("the extender does not say: {error}")))
        };
        self.fleet.get_or_init(ask).await.as_ref().map_err(Clone::clone)
    }

    /// Every node.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn nodes(&self) -> Result<&[Node], Unmade> {
        let ask = async || list(&Api::all(self.client.clone()), "").await;
        self.nodes.get_or_init(ask).await.as_deref().map_err(Clone::clone)
    }

    /// Pods of a namespace with these labels (empty: all).
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn pods(&self, namespace: &str, labels: &str) -> Result<Vec<Pod>, Unmade> {
        list(&Api::namespaced(self.client.clone(), namespace), labels).await
    }

    /// One object of filmgate's namespace, if it exists.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn own<K>(&self, name: &str) -> Result<Option<K>, Unmade>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned,
    {
        get(&Api::namespaced(self.client.clone(), &self.place.filmgate), name).await
    }

    /// The API server's clock, to a second.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn server_time(&self) -> Result<Timestamp, Unmade> {
        let request = http::Request::get("/version").body(Body::empty());
        let request = request.map_err(|error| Unmade(error.to_string()))?;
        let answer = self.client.send(request).await.map_err(unmade)?;
        let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
        let date = date.ok_or_else(|| Unmade("the API server sends no Date".to_owned()))?;
        let zoned = jiff::fmt::rfc2822::parse(date);
        Ok(zoned.map_err(|error| Unmade(format!("Date {date}: {error}")))?.timestamp())
    }
}

/// Objects with these labels (empty: all).
///
/// # Errors
/// When the API server does not say.
pub async fn list<K>(api: &Api<K>, labels: &str) -> Result<Vec<K>, Unmade>
where
    K: Clone + Debug + DeserializeOwned,
{
    let listed = api.list(&ListParams::default().labels(labels)).await;
    Ok(listed.map_err(unmade)?.items)
}

/// An object, if it exists.
///
/// # Errors
/// When the API server does not say.
pub async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Unmade>
where
    K: Clone + Debug + DeserializeOwned,
{
    api.get_opt(name).await.map_err(unmade)
}

/// In the API server's words.
pub fn unmade(error: kube::Error) -> Unmade {
    Unmade(in_a_line(error))
}
