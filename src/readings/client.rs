//! The extender's side: one task per node reads that node's stream.
//!
//! What is news goes into one channel as [`Event`]s, stamped with the moment it was received; the
//! consumer applies them to the ledger under its lock. A task holds no lock and keeps no history:
//! when in doubt about what it reads (silence, a pause of this process, a line that does not
//! follow) it drops the connection and begins again with a whole reading.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Url;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

pub use self::event::{Arrival, Event, Heartbeat, Lost, LostReason, SampleNowError};
pub use self::http::Trust;
use self::http::{Http, Response};
use self::stream::StreamTask;
use super::protocol::{Applied, Follower, Message, ProtocolError};
use crate::clock::Clock;
use crate::engine::{AgentRun, NodeName, Reading};
use crate::tls::TlsError;

mod event;
mod http;
mod lines;
mod stream;

/// Longest part of an agent's error that is kept.
const ERROR_TEXT: usize = 300;

/// Where a node's readings are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentEndpoint {
    /// The node.
    pub node: NodeName,
    /// The agent's base URL (`http://10.0.0.7:9112`).
    pub url: Url,
}

impl AgentEndpoint {
    /// The URL of one of the node's resources.
    fn resource(&self, name: &str) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["nodes", self.node.as_str(), name]);
        }
        url
    }
}

/// How readings are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// A reading older than this is not trusted: a stream silent for so long is given up, and one
    /// that was left unread for half of it.
    pub stale_after: Duration,
    /// Wait before the first try to connect again; it doubles with each failure.
    pub first_retry: Duration,
    /// Longest wait between tries.
    pub longest_retry: Duration,
    /// Longest wait for a TCP connection.
    pub connect_timeout: Duration,
    /// Longest line taken, in bytes.
    pub longest_line: usize,
    /// How agents prove themselves, and this reader to them; `None`: plain HTTP, to loopback.
    pub trust: Option<Trust>,
}

impl Default for ClientConfig {
    /// Stale after 10 s; tries from 100 ms to 5 s apart; lines to 4 MiB (a full reading of 16 GPUs
    /// with 50 pods each has about 200 KiB).
    fn default() -> Self {
        Self {
            stale_after: Duration::from_secs(10),
            first_retry: Duration::from_millis(100),
            longest_retry: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            longest_line: 4 << 20,
            trust: None,
        }
    }
}

/// Number of a node's newest sampling that became an event, with its run.
#[derive(Debug, Clone, Default)]
struct NewestSampling(Arc<Mutex<Option<(AgentRun, u64)>>>);

impl NewestSampling {
    /// Notes a sampling; false when one as new is known.
    fn advance(&self, run: &AgentRun, sampling: u64) -> bool {
        let mut newest = self.0.lock();
        let is_newer =
            newest.as_ref().is_none_or(|(known, number)| known != run || sampling > *number);
        if is_newer {
            *newest = Some((run.clone(), sampling));
        }
        is_newer
    }

    fn get(&self) -> Option<(AgentRun, u64)> {
        self.0.lock().clone()
    }
}

struct Node {
    endpoint: AgentEndpoint,
    newest: NewestSampling,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    config: Arc<ClientConfig>,
    clock: Clock,
    http: Http,
    events: mpsc::Sender<Event>,
    nodes: Mutex<HashMap<NodeName, Node>>,
}

/// The streams of all nodes. Cheap to clone; they end with the last clone.
#[derive(Clone)]
pub struct ReadingsClient(Arc<Shared>);

impl ReadingsClient {
    /// A client without nodes. `clock` stamps what comes in; it must not stand still while agents
    /// are silent, or the silence goes unnoticed.
    ///
    /// # Errors
    /// When the roots of the agents' certificates cannot be used.
    pub fn new(
        config: ClientConfig,
        clock: Clock,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, TlsError> {
        let http = Http::new(&config)?;
        let config = Arc::new(config);
        Ok(Self(Arc::new(Shared { config, clock, http, events, nodes: Mutex::default() })))
    }

    /// Reads from exactly these agents: new ones are connected, those that vanished are dropped,
    /// changed ones start again. Of two for one node the first counts. Call it within a Tokio
    /// runtime.
    pub fn set_endpoints(&self, endpoints: Vec<AgentEndpoint>) {
        let mut wanted = HashMap::new();
        for endpoint in endpoints {
            let node = endpoint.node.clone();
            if let Some(first) = wanted.get(&node) {
                tracing::warn!(%node, ?first, second = ?endpoint, "two agents for one node");
                continue;
            }
            wanted.insert(node, endpoint);
        }
        let mut nodes = self.0.nodes.lock();
        for (name, _) in nodes.extract_if(|name, node| wanted.get(name) != Some(&node.endpoint)) {
            if !wanted.contains_key(&name) {
                self.report_withdrawn(name);
            }
        }
        for (name, endpoint) in wanted {
            nodes.entry(name).or_insert_with(|| self.start(endpoint));
        }
    }

    fn start(&self, endpoint: AgentEndpoint) -> Node {
        let newest = NewestSampling::default();
        let task = StreamTask {
            url: endpoint.resource("readings"),
            node: endpoint.node.clone(),
            config: Arc::clone(&self.0.config),
            clock: self.0.clock.clone(),
            http: self.0.http.clone(),
            events: self.0.events.clone(),
            newest: newest.clone(),
        };
        Node { endpoint, newest, _task: AbortOnDropHandle::new(tokio::spawn(task.run())) }
    }

    /// Where the channel is full, from a task of its own: its consumer may wait for our lock.
    fn report_withdrawn(&self, node: NodeName) {
        let lost = Lost { node, why: LostReason::Withdrawn, at: self.0.clock.now() };
        if let Err(mpsc::error::TrySendError::Full(event)) =
            self.0.events.try_send(Event::Lost(lost))
        {
            let events = self.0.events.clone();
            tokio::spawn(async move { events.send(event).await });
        }
    }

    /// Follows what discovery publishes until its sender is gone.
    pub async fn follow(&self, mut endpoints: watch::Receiver<Vec<AgentEndpoint>>) {
        loop {
            let current = endpoints.borrow_and_update().clone();
            self.set_endpoints(current);
            if endpoints.changed().await.is_err() {
                return;
            }
        }
    }

    /// Asks for a sampling that begins after this call, whatever the stream does. The answer is
    /// returned, not sent as an event.
    ///
    /// # Errors
    /// When there is no answer within `deadline`, or it is no evidence.
    pub async fn sample_now(
        &self,
        node: &NodeName,
        deadline: Duration,
    ) -> Result<Arrival, SampleNowError> {
        let (url, newest) = {
            let nodes = self.0.nodes.lock();
            let known = nodes.get(node).ok_or_else(|| SampleNowError::NoAgent(node.clone()))?;
            (known.endpoint.resource("sample"), known.newest.clone())
        };
        let known_before = newest.get();
        let asked_at = self.0.clock.now();
        let answer = tokio::time::timeout(deadline, self.post(url, node.clone())).await;
        let reading = answer.map_err(|_| SampleNowError::TimedOut(deadline))??;
        if known_before
            .is_some_and(|(run, sampling)| run == reading.agent && reading.sampling <= sampling)
        {
            return Err(SampleNowError::NotNew(reading.sampling));
        }
        Ok(Arrival { reading, received_at: self.0.clock.now(), began_after: Some(asked_at) })
    }

    async fn post(&self, url: Url, node: NodeName) -> Result<Arc<Reading>, LostReason> {
        let response = self.0.http.post(&url).await;
        let response = response.map_err(|error| LostReason::unreachable(&url, &*error))?;
        let limit = self.0.config.longest_line;
        if !response.status().is_success() {
            return Err(refusal(&url, response).await);
        }
        let body = read_body(&url, response, limit).await?;
        match Follower::new(node).apply(Message::decode(&body)?)? {
            Applied::Reading(reading) => Ok(reading),
            Applied::Heartbeat(heartbeat) => {
                Err(ProtocolError::OutOfStep { sampling: heartbeat.sampling }.into())
            }
        }
    }
}

async fn read_body(url: &Url, mut response: Response, limit: usize) -> Result<Vec<u8>, LostReason> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| LostReason::unreachable(url, &*error))?
    {
        if body.len() + chunk.len() > limit {
            return Err(LostReason::LineTooLong(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What an agent's answer of 4xx or 5xx says, shortened.
async fn refusal(url: &Url, response: Response) -> LostReason {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    let status = response.status().as_u16();
    let body = read_body(url, response, 64 << 10).await.unwrap_or_default();
    let text = serde_json::from_slice(&body).map_or_else(
        |_| String::from_utf8_lossy(&body).into_owned(),
        |refusal: Refusal| refusal.error,
    );
    LostReason::Refused { status, text: text.chars().take(ERROR_TEXT).collect() }
}
