//! The agent's side: samplings out over HTTP.
//!
//! Each node has a *feed*: one task that alone samples it, at the interval, when the backend says
//! that something moved, and when a reader asks. It leaves the newest reading in a watch channel,
//! from which every stream takes what its reader is ready for: a slow reader skips samplings, it
//! never delays one. A question is answered by a sampling that began after it was asked; questions
//! that wait together share one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::serve::{Listener, ListenerExt as _};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::feed::{Feed, Newest};
use super::protocol::{Message, NDJSON};
use super::readers::{Readers, at_the_door};
use crate::engine::{Bytes, NodeName, Reading};
use crate::tls::TlsListener;

mod feed;

/// Longest wait for a sampling that was asked for; NVML answers in milliseconds.
const SAMPLE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a shutdown waits for streams whose readers do not read.
const DRAIN: Duration = Duration::from_secs(2);
/// Nodes that an error lists before it only counts.
const NODES_NAMED: usize = 5;

/// What can sample nodes: the NVML backend, or a simulation of it.
pub trait Sampler: Send + Sync + 'static {
    /// The nodes that it samples.
    fn nodes(&self) -> Vec<NodeName>;

    /// Makes a new sampling. It begins within this call, never earlier: an answer from a cache
    /// would free memory that is in use.
    fn sample(&self, node: &NodeName) -> impl Future<Output = Result<Reading, SampleError>> + Send;

    /// What streams show of a sampling that nobody asked for: the sampling itself. A simulation
    /// puts its faults here; what answers a question is never tampered with, since it is evidence.
    fn shown(&self, _node: &NodeName, reading: Arc<Reading>) -> Arc<Reading> {
        reading
    }

    /// Signals that a sampling before the interval is over would show something new. `None`: the
    /// backend cannot tell.
    fn movements(&self, _node: &NodeName) -> Option<watch::Receiver<()>> {
        None
    }
}

/// Why there is no sampling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// Not one of this agent's nodes.
    #[error("node {node} is not served here; {}", served(.known))]
    UnknownNode {
        /// The node asked for.
        node: NodeName,
        /// The nodes served.
        known: Vec<NodeName>,
    },
    /// The node cannot be sampled at present.
    #[error("node {node} cannot be sampled: {why}")]
    Unavailable {
        /// The node.
        node: NodeName,
        /// Why, for people.
        why: String,
    },
    /// The sampling did not end in time.
    #[error("the sampling of node {node} did not end within {} s", SAMPLE_DEADLINE.as_secs())]
    TimedOut {
        /// The node.
        node: NodeName,
    },
    /// The agent ends.
    #[error("this agent is shutting down")]
    ShuttingDown,
}

fn served(known: &[NodeName]) -> String {
    let named: Vec<_> = known.iter().take(NODES_NAMED).map(NodeName::as_str).collect();
    match known.len() {
        0 => "no node is".to_owned(),
        all if all > NODES_NAMED => format!("{all} are, among them {}", named.join(", ")),
        _ => format!("served: {}", named.join(", ")),
    }
}

impl SampleError {
    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownNode { .. } => StatusCode::NOT_FOUND,
            Self::Unavailable { .. } | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl IntoResponse for SampleError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.to_string() });
        (self.status(), Json(body)).into_response()
    }
}

/// How an agent samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time between two samplings that nobody asked for.
    pub interval: Duration,
    /// A movement of this much is pushed before the interval is over.
    pub push_threshold: Bytes,
}

impl Default for Pace {
    /// Every second, and at once from 64Mi: well below the headroom of 512Mi that covers what
    /// readers do not know yet.
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), push_threshold: Bytes::mib(64) }
    }
}

struct Agent<S> {
    sampler: Arc<S>,
    pace: Pace,
    shutdown: CancellationToken,
    feeds: Mutex<HashMap<NodeName, Feed>>,
}

impl<S: Sampler> Agent<S> {
    /// The node's feed, started if need be.
    fn feed(&self, node: &NodeName) -> Result<Feed, SampleError> {
        let mut feeds = self.feeds.lock();
        if let Some(feed) = feeds.get(node).filter(|feed| !feed.has_ended()) {
            return Ok(feed.clone());
        }
        if self.shutdown.is_cancelled() {
            return Err(SampleError::ShuttingDown);
        }
        let known = self.sampler.nodes();
        if !known.contains(node) {
            feeds.remove(node);
            return Err(SampleError::UnknownNode { node: node.clone(), known });
        }
        let sampler = Arc::clone(&self.sampler);
        let feed = Feed::start(sampler, node.clone(), self.pace, self.shutdown.clone());
        feeds.insert(node.clone(), feed.clone());
        Ok(feed)
    }
}

/// The agent's routes. Sampling of every node begins with this call (peaks must not wait for a
/// reader) and ends with `shutdown`, as do the streams. Call it within a Tokio runtime.
pub fn router<S: Sampler>(sampler: Arc<S>, pace: Pace, shutdown: CancellationToken) -> Router {
    let nodes = sampler.nodes();
    let agent = Arc::new(Agent { sampler, pace, shutdown, feeds: Mutex::default() });
    for node in &nodes {
        if let Err(error) = agent.feed(node) {
            tracing::warn!(%node, %error, "node is not sampled");
        }
    }
    Router::new()
        .route("/nodes", get(list_nodes::<S>))
        .route("/nodes/{node}/readings", get(stream_readings::<S>))
        .route("/nodes/{node}/sample", post(sample_now::<S>))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { not_found() })
        .with_state(agent)
}

fn not_found() -> Response {
    let error = "no such path; there are GET /nodes, GET /nodes/<node>/readings, \
                 POST /nodes/<node>/sample and GET /healthz";
    (StatusCode::NOT_FOUND, Json(serde_json::json!({ "error": error }))).into_response()
}

async fn list_nodes<S: Sampler>(State(agent): State<Arc<Agent<S>>>) -> Response {
    Json(serde_json::json!({ "nodes": agent.sampler.nodes() })).into_response()
}

async fn sample_now<S: Sampler>(
    State(agent): State<Arc<Agent<S>>>,
    Path(node): Path<String>,
) -> Result<Json<Message>, SampleError> {
    let node = NodeName::from(node);
    let answer = agent.feed(&node)?;
    let reading = timeout(SAMPLE_DEADLINE, answer.ask()).await;
    Ok(Json(Message::full(reading.map_err(|_| SampleError::TimedOut { node })??)))
}

async fn stream_readings<S: Sampler>(
    State(agent): State<Arc<Agent<S>>>,
    Path(node): Path<String>,
) -> Result<Response, SampleError> {
    let feed = agent.feed(&NodeName::from(node))?;
    // Seen before asking: what is published from here on is the answer or newer.
    let mut newest = feed.newest();
    newest.borrow_and_update();
    let first = feed.ask().await?;
    let stream =
        Stream { newest, first: Some(first), shown: None, shutdown: agent.shutdown.clone() };
    let lines = futures::stream::unfold(stream, Stream::next);
    Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

/// One reader's stream. It is asked for a line when the reader has room for one.
struct Stream {
    newest: watch::Receiver<Newest>,
    first: Option<Arc<Reading>>,
    /// What the reader knows.
    shown: Option<Arc<Reading>>,
    shutdown: CancellationToken,
}

impl Stream {
    async fn next(mut self) -> Option<(Result<bytes::Bytes, Infallible>, Self)> {
        let reading = self.next_reading().await?;
        let message = match &self.shown {
            Some(shown) => Message::after(shown, &reading),
            None => Message::full(Arc::clone(&reading)),
        };
        let line = message
            .encode()
            .inspect_err(|error| tracing::error!(%error, "reading not sent"))
            .ok()?;
        self.shown = Some(reading);
        Some((Ok(line), self))
    }

    /// The newest reading that the reader has not seen; `None` when the stream ends.
    async fn next_reading(&mut self) -> Option<Arc<Reading>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                changed = self.newest.changed() => changed.ok()?,
            }
            // A failed sampling ends the stream: the answer to the next request says why.
            let reading = self.newest.borrow_and_update().clone()?.ok()?;
            if !self.shown.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, &reading)) {
                return Some(reading);
            }
        }
    }
}

/// Why an agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Beyond loopback, readings would travel unencrypted and anyone could ask for them.
    #[error(
        "--listen {0} is not a loopback address, and this agent speaks plain HTTP without authentication: \
         listen on 127.0.0.1, or add --allow-plain-non-loopback if the network is trusted"
    )]
    PlainBeyondLoopback(SocketAddr),
    /// The operating system refuses.
    #[error("cannot listen on {address} (--listen): {source}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// Its reason.
        source: std::io::Error,
    },
}

/// Listens on loopback, or beyond it where that was asked for in so many words.
///
/// # Errors
/// When the address is not allowed or cannot be had.
pub async fn bind(
    address: SocketAddr,
    allow_plain_non_loopback: bool,
) -> Result<TcpListener, BindError> {
    if !address.ip().is_loopback() && !allow_plain_non_loopback {
        return Err(BindError::PlainBeyondLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|source| BindError::Refused { address, source })
}

/// Serves until `shutdown`, then lets the streams end; one whose reader does not read is cut.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    // Lines are small and must not wait for the next one.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
    });
    serve_on(listener, router, shutdown).await
}

/// The same over TLS, to readers that prove themselves.
///
/// # Errors
/// When the listener fails.
pub async fn serve_readers(
    listener: TlsListener,
    router: Router,
    readers: Readers,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let door = axum::middleware::from_fn_with_state(readers, at_the_door);
    serve_on(listener, router.layer(door), shutdown).await
}

async fn serve_on<L>(
    listener: L,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let server =
        axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let drained = async {
        shutdown.cancelled().await;
        sleep(DRAIN).await;
    };
    tokio::select! {
        served = server.into_future() => served,
        () = drained => Ok(()),
    }
}
