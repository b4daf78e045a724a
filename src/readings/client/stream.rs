//! One node's stream: connect, read, say what is news, connect again.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use reqwest::Url;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::lines::{LineBuffer, TooLong};
use super::{
    Arrival, ClientConfig, Event, Heartbeat, Http, Lost, LostReason, NewestSampling, refusal,
};
use crate::clock::Clock;
use crate::engine::{NodeName, Reading, Time};
use crate::readings::protocol::{self, Applied, Follower, Message};

pub(super) struct StreamTask {
    pub(super) url: Url,
    pub(super) node: NodeName,
    pub(super) config: Arc<ClientConfig>,
    pub(super) clock: Clock,
    pub(super) http: Http,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) newest: NewestSampling,
}

/// Why a connection is over.
enum End {
    Lost(LostReason),
    /// Nobody takes events any more.
    Unwanted,
}

impl From<LostReason> for End {
    fn from(why: LostReason) -> Self {
        Self::Lost(why)
    }
}

impl StreamTask {
    /// Runs until nobody takes the events, or it is aborted.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(&self.config);
        loop {
            let Err(End::Lost(why)) = self.read_stream(&mut backoff).await else { return };
            if backoff.is_fresh() {
                tracing::warn!(node = %self.node, reason = why.reason(), error = %why, "readings lost");
            } else {
                tracing::debug!(node = %self.node, reason = why.reason(), error = %why, "still no readings");
            }
            let lost = Lost { node: self.node.clone(), why, at: self.clock.now() };
            if self.events.send(Event::Lost(lost)).await.is_err() {
                return;
            }
            sleep(backoff.next()).await;
        }
    }

    async fn read_stream(&self, backoff: &mut Backoff) -> Result<Infallible, End> {
        let opened_at = self.clock.now();
        let mut vigil = Vigil::new(&self.clock, self.config.stale_after);
        let response = vigil.attend(self.http.get(&self.url)).await?;
        let mut response = response.map_err(|error| self.unreachable(&*error))?;
        if !response.status().is_success() {
            return Err(vigil.attend(refusal(&self.url, response)).await?.into());
        }
        let mut lines = LineBuffer::new(self.config.longest_line);
        let mut news = News::new(self.node.clone(), opened_at);
        loop {
            let chunk = vigil.attend(response.chunk()).await?;
            let chunk =
                chunk.map_err(|error| self.unreachable(&*error))?.ok_or(LostReason::Ended)?;
            lines.push(&chunk);
            while let Some(line) = self.next_line(&mut lines)? {
                let applied =
                    news.follower.apply(Message::decode(&line).map_err(LostReason::from)?);
                news.take(applied.map_err(LostReason::from)?, &self.newest);
                backoff.reset();
                vigil.heard();
            }
            if let Some(event) = news.event(&self.node, self.clock.now()) {
                self.events.send(event).await.map_err(|_| End::Unwanted)?;
            }
        }
    }

    fn next_line(&self, lines: &mut LineBuffer) -> Result<Option<bytes::Bytes>, LostReason> {
        lines.next_line().map_err(|TooLong| LostReason::LineTooLong(self.config.longest_line))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> LostReason {
        LostReason::unreachable(&self.url, error)
    }
}

/// What the lines that came together amount to: only the newest state is told.
struct News {
    follower: Follower,
    reading: Option<Arc<Reading>>,
    heartbeat: Option<protocol::Heartbeat>,
    /// When the connection was opened, until the stream's first reading has been told.
    opened_at: Option<Time>,
}

impl News {
    fn new(node: NodeName, opened_at: Time) -> Self {
        Self {
            follower: Follower::new(node),
            reading: None,
            heartbeat: None,
            opened_at: Some(opened_at),
        }
    }

    /// Late and repeated samplings are followed, since the next line builds on them, but are no
    /// news.
    fn take(&mut self, applied: Applied, newest: &NewestSampling) {
        match applied {
            Applied::Reading(reading) => {
                if newest.advance(&reading.agent, reading.sampling) {
                    self.reading = Some(reading);
                    self.heartbeat = None;
                } else {
                    // A first reading that we knew was not sampled after we connected.
                    self.opened_at = None;
                }
            }
            Applied::Heartbeat(heartbeat) => {
                if newest.advance(&heartbeat.agent, heartbeat.sampling) {
                    self.heartbeat = Some(heartbeat);
                }
            }
        }
    }

    fn event(&mut self, node: &NodeName, received_at: Time) -> Option<Event> {
        if let Some(reading) = self.reading.take() {
            let began_after = self.opened_at.take();
            return Some(Event::Arrival(Arrival { reading, received_at, began_after }));
        }
        let protocol::Heartbeat { agent, sampling } = self.heartbeat.take()?;
        Some(Event::Heartbeat(Heartbeat { node: node.clone(), agent, sampling, received_at }))
    }
}

/// Watches over the reading of one stream: whether the agent speaks, and whether we listen.
///
/// A process that was stopped finds old lines in its socket and no way to tell their age. So it
/// wakes at least four times per `staleAfter` while it waits; a longer gap between two wakings
/// means that it did not run, and nothing that it then reads is trusted.
struct Vigil<'a> {
    clock: &'a Clock,
    stale_after: Duration,
    woke_at: Time,
    heard_at: Time,
}

impl<'a> Vigil<'a> {
    fn new(clock: &'a Clock, stale_after: Duration) -> Self {
        let now = clock.now();
        Self { clock, stale_after, woke_at: now, heard_at: now }
    }

    /// Waits for `work` as long as the agent is not silent for too long.
    async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, LostReason> {
        let mut work = pin!(work);
        loop {
            let outcome = timeout(self.stale_after / 4, &mut work).await;
            self.check_awake()?;
            if let Ok(outcome) = outcome {
                return Ok(outcome);
            }
            let silence = self.woke_at.since(self.heard_at);
            if silence > self.stale_after {
                return Err(LostReason::Silent(silence));
            }
        }
    }

    fn check_awake(&mut self) -> Result<(), LostReason> {
        let now = self.clock.now();
        let gap = now.since(self.woke_at);
        self.woke_at = now;
        if gap > self.stale_after / 2 { Err(LostReason::Paused(gap)) } else { Ok(()) }
    }

    fn heard(&mut self) {
        self.heard_at = self.woke_at;
    }
}

/// Waits that double, each spread over half of it to one and a half, so that the streams of a
/// cluster do not come back all at once.
struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    fn new(config: &ClientConfig) -> Self {
        Self { first: config.first_retry, longest: config.longest_retry, next: config.first_retry }
    }

    /// Whether nothing has failed since the last reset.
    fn is_fresh(&self) -> bool {
        self.next == self.first
    }

    fn reset(&mut self) {
        self.next = self.first;
    }

    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait.mul_f64(rand::rng().random_range(0.5..1.5))
    }
}

#[cfg(test)]
mod tests;
