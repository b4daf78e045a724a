//! Requests to agents, over plain HTTP or TLS, each with this reader's token.

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use reqwest::Url;

use super::ClientConfig;
use crate::tls::{self, TlsError};

/// How agents prove themselves, and this reader to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// PEM: the roots of the agents' certificates.
    pub roots: PathBuf,
    /// The name that the certificates have, whatever an agent's address is.
    pub name: String,
    /// The service account's token; read again for each request, since it is renewed.
    pub token: PathBuf,
}

/// What went wrong, with its causes.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The client. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    token: Option<PathBuf>,
}

impl Http {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout));
        let trusted = match &config.trust {
            Some(trust) => tls::client_config(&trust.roots, &trust.name)?,
            None => tls::trusting_nobody()?,
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(trusted);
        let connector = connector.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, token: config.trust.as_ref().map(|trust| trust.token.clone()) })
    }

    pub(super) async fn get(&self, url: &Url) -> Result<Response, Cause> {
        self.send(http::Method::GET, url).await
    }

    pub(super) async fn post(&self, url: &Url) -> Result<Response, Cause> {
        self.send(http::Method::POST, url).await
    }

    async fn send(&self, method: http::Method, url: &Url) -> Result<Response, Cause> {
        let mut request = http::Request::builder().method(method).uri(url.as_str());
        if let Some(path) = &self.token {
            let token = std::fs::read_to_string(path)
                .map_err(|error| format!("no token to show: {}: {error}", path.display()))?;
            let mut bearer = http::HeaderValue::from_str(&format!("Bearer {}", token.trim()))?;
            bearer.set_sensitive(true);
            request = request.header(http::header::AUTHORIZATION, bearer);
        }
        let answer = self.client.request(request.body(Empty::new())?).await?;
        Ok(Response(answer))
    }
}

/// An answer, its body still to come.
pub(super) struct Response(http::Response<hyper::body::Incoming>);

impl Response {
    pub(super) fn status(&self) -> http::StatusCode {
        self.0.status()
    }

    /// The next part of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Cause> {
        while let Some(frame) = self.0.body_mut().frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}
