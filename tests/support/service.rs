//! A Service: one address, whose calls go to the endpoint that was ready when it was last probed.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// As often as a kubelet can be told to probe.
const PROBE_PERIOD: Duration = Duration::from_secs(1);
const MOST_BYTES: usize = 1 << 20;

/// One endpoint behind the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where calls go.
    pub url: String,
    /// Where it says whether it is ready.
    pub readyz: String,
}

/// A running Service. Ends with the value.
pub struct Service {
    url: String,
    _tasks: [AbortOnDropHandle<()>; 2],
}

#[derive(Clone)]
struct Way {
    http: reqwest::Client,
    /// Endpoints that were ready at the last probe.
    ready: watch::Receiver<Vec<Endpoint>>,
}

impl Service {
    /// Starts in front of these.
    pub async fn start(endpoints: Vec<Endpoint>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (tell, ready) = watch::channel(Vec::new());
        let way = Way { http: reqwest::Client::new(), ready };
        let probing = tokio::spawn(probe(Arc::from(endpoints), tell));
        let router = Router::new().fallback(forward).with_state(way);
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("a service");
        });
        Self { url, _tasks: [probing, serving].map(AbortOnDropHandle::new) }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }
}

async fn probe(endpoints: Arc<[Endpoint]>, tell: watch::Sender<Vec<Endpoint>>) {
    let http = reqwest::Client::builder().timeout(PROBE_PERIOD).build().expect("a client");
    loop {
        let mut ready = Vec::new();
        for endpoint in endpoints.iter() {
            let answer = http.get(&endpoint.readyz).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                ready.push(endpoint.clone());
            }
        }
        let _ = tell.send(ready);
        tokio::time::sleep(PROBE_PERIOD / 2).await;
    }
}

async fn forward(State(way): State<Way>, request: Request) -> Response {
    let Some(endpoint) = way.ready.borrow().first().cloned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no endpoint is ready").into_response();
    };
    let url = format!("{}{}", endpoint.url, request.uri().path());
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MOST_BYTES).await.expect("a whole request");
    match way.http.request(parts.method, url).body(body).send().await {
        Ok(answer) => {
            let status = answer.status();
            let body = answer.bytes().await.unwrap_or_default();
            (status, Body::from(body)).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
