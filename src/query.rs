//! Questions to a running extender: how the commands that people use reach it.

use kube::Client;
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::forward::{ForwardError, PortForward, extenders};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
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
    /// No port leads to one.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// An extender that can be asked.
#[derive(Debug)]
pub struct Extender {
    url: Url,
    http: reqwest::Client,
    /// Open as long as it is asked.
    _forward: Option<PortForward>,
}

impl Extender {
    /// The one at that address.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn at(url: Url) -> Result<Self, QueryError> {
        Self::through(None, url)
    }

    /// One of those in the cluster, through a port-forward: the leader, if it answers.
    ///
    /// # Errors
    /// When there is none, or the API server does not let us.
    pub async fn in_cluster(client: &Client, namespace: &str) -> Result<Self, QueryError> {
        let mut second_best =
            Err(ForwardError::NoExtender { namespace: namespace.to_owned() }.into());
        for pod in extenders(client, namespace).await? {
            let forward = PortForward::open(client, namespace, &pod).await?;
            let url = forward.url().clone();
            let extender = Self::through(Some(forward), url)?;
            match extender.is_leading().await {
                Ok(true) => return Ok(extender),
                Ok(false) => second_best = Ok(extender),
                Err(error) if second_best.is_err() => second_best = Err(error),
                Err(_) => {}
            }
        }
        second_best
    }

    fn through(forward: Option<PortForward>, url: Url) -> Result<Self, QueryError> {
        // An extender is on loopback, where no proxy of this machine's user leads.
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|source| QueryError::Unreachable { url: url.clone(), source })?;
        Ok(Self { url, http, _forward: forward })
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    async fn is_leading(&self) -> Result<bool, QueryError> {
        let fleet: Value = self.get("/fleet", &[("limit", "0")]).await?;
        Ok(fleet["isLeading"] == true)
    }

    /// What it says to a GET.
    ///
    /// # Errors
    /// When nobody answers, or the extender says that it cannot.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, QueryError> {
        let mut url = self.url_of(path);
        url.query_pairs_mut().extend_pairs(query);
        self.send(self.http.get(url)).await
    }

    /// What it says to a POST of that JSON.
    ///
    /// # Errors
    /// When nobody answers, or the extender says that it cannot.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, QueryError> {
        self.send(self.http.post(self.url_of(path)).json(body)).await
    }

    fn url_of(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, QueryError> {
        let unreachable = |source| QueryError::Unreachable { url: self.url.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response).await);
        }
        response.json().await.map_err(unreachable)
    }
}

async fn refusal(response: Response) -> QueryError {
    #[derive(Deserialize)]
    struct Problem {
        error: String,
    }
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let problem = serde_json::from_str::<Problem>(&text);
    QueryError::Refused(
        problem.map_or_else(|_| format!("the server answers {status}"), |one| one.error),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let extender = Extender::at(Url::parse("http://127.0.0.1:1/").unwrap()).unwrap();
        let asked = extender.get::<Value>("/fleet", &[]).await;
        let error = asked.unwrap_err().to_string();
        assert!(error.starts_with("no extender answers at http://127.0.0.1:1/"), "{error}");
    }
}
