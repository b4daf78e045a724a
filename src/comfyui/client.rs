//! Questions to one ComfyUI, each bounded in time and in bytes.
//!
//! `GET /prompt` says how many prompts there are, whatever they are; `GET /queue` lists them with
//! all that they are made of, which costs ComfyUI the more the longer its queue is. So the second
//! is asked only to tell apart what runs and what waits of a few.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::TryStreamExt as _;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use tokio::time::timeout;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::AskError;
use super::wire;
use crate::engine::Bytes;
use crate::engine::comfyui::{Queue, TorchDevice};

/// An answer may wait for a model to be loaded, which holds Python's one lock.
const DEADLINE: Duration = Duration::from_secs(3);
/// A pod of the same cluster is there at once, or not at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// Idle connections are kept from one poll to the next.
const KEEP_IDLE: Duration = Duration::from_secs(60);
/// Counts and statistics take a few kilobytes.
const LONGEST: Bytes = Bytes::mib(1);
/// A workflow takes some 100 kB, and more where an image is in it.
const LONGEST_QUEUE: Bytes = Bytes::mib(16);
/// Of more prompts the list is not asked for: ComfyUI executes one at a time.
const MOST_LISTED: u64 = 32;
/// Longest content type that is shown.
const LONGEST_TYPE: usize = 60;

/// Asks ComfyUIs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

/// What one ComfyUI said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// Its prompts.
    pub queue: Result<Queue, AskError>,
    /// Its devices.
    pub devices: Result<Vec<TorchDevice>, AskError>,
}

impl Client {
    /// A client that goes nowhere but where it is sent: no proxy, no redirect.
    ///
    /// # Errors
    /// When the system has no resources for one.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(DEADLINE)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(KEEP_IDLE)
            .build()?;
        Ok(Self(http))
    }

    /// Asks the ComfyUI at that address; takes no longer than two deadlines of 3 s.
    pub async fn ask(&self, address: SocketAddr) -> Answers {
        let queue = within_deadline(self.queue(address)).await;
        let devices = match &queue {
            Ok(_) => within_deadline(self.devices(address)).await,
            Err(error) => Err(error.clone()),
        };
        Answers { queue, devices }
    }

    async fn queue(&self, address: SocketAddr) -> Result<Queue, AskError> {
        let depth = wire::depth(&self.get(address, wire::PROMPT).await?.whole().await?)?;
        if depth == 0 {
            return Ok(Queue::default());
        }
        let one_runs = Queue { running: 1, pending: depth - 1 };
        if depth > MOST_LISTED {
            return Ok(one_runs);
        }
        match self.get(address, wire::QUEUE).await?.counted().await {
            Err(AskError::TooLarge { .. }) => Ok(one_runs),
            counted => counted,
        }
    }

    async fn devices(&self, address: SocketAddr) -> Result<Vec<TorchDevice>, AskError> {
        wire::devices(&self.get(address, wire::SYSTEM_STATS).await?.whole().await?)
    }

    async fn get(&self, address: SocketAddr, path: &'static str) -> Result<Answer, AskError> {
        let response = self.0.get(format!("http://{address}{path}")).send().await;
        let response = response.map_err(failure)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(AskError::Redirect { path, status: status.as_u16() });
        }
        if status != StatusCode::OK {
            return Err(AskError::Status { path, status: status.as_u16() });
        }
        Ok(Answer { path, content_type: content_type(&response), response })
    }
}

/// An answer whose body is still to come.
struct Answer {
    path: &'static str,
    content_type: String,
    response: Response,
}

impl Answer {
    async fn whole(mut self) -> Result<wire::Body, AskError> {
        let Self { path, content_type, .. } = self;
        let mut bytes = Vec::new();
        while let Some(chunk) = self.response.chunk().await.map_err(failure)? {
            if (bytes.len() + chunk.len()) as u64 > LONGEST.get() {
                return Err(AskError::TooLarge { path, most: LONGEST });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(wire::Body { path, content_type, bytes })
    }

    /// Counts the prompts while they come in, and keeps nothing of them.
    async fn counted(self) -> Result<Queue, AskError> {
        let Self { path, content_type, response } = self;
        let bytes = StreamReader::new(response.bytes_stream().map_err(io::Error::other));
        let bytes = SyncIoBridge::new(bytes);
        let counting =
            tokio::task::spawn_blocking(move || wire::counted(bytes, LONGEST_QUEUE, content_type));
        let counted = counting.await;
        counted.unwrap_or_else(|error| Err(AskError::Unreachable(format!("{path}: {error}"))))
    }
}

async fn within_deadline<T>(
    asking: impl Future<Output = Result<T, AskError>>,
) -> Result<T, AskError> {
    timeout(DEADLINE, asking).await.unwrap_or(Err(AskError::TimedOut(DEADLINE)))
}

fn content_type(response: &Response) -> String {
    let header = response.headers().get(CONTENT_TYPE);
    let text = header.and_then(|value| value.to_str().ok()).unwrap_or("none");
    text.chars().take(LONGEST_TYPE).collect()
}

/// The innermost cause says what happened, those around it only where.
fn failure(error: reqwest::Error) -> AskError {
    if error.is_timeout() && !error.is_connect() {
        return AskError::TimedOut(DEADLINE);
    }
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    let text = cause.map(ToString::to_string);
    AskError::Unreachable(text.unwrap_or_else(|| error.without_url().to_string()))
}
