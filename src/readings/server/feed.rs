//! One node's samplings: a task that samples, and the handle by which readers reach it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Pace, SampleError, Sampler};
use crate::engine::{NodeName, Reading};
use crate::readings::protocol::has_moved;

/// Least time between two samplings for movement's sake, so that a storm of small movements does
/// not keep the feed busy. Questions never wait for it.
const MOVEMENT_GAP: Duration = Duration::from_millis(10);
/// Questions that may wait for one sampling; more wait to be asked.
const QUESTIONS: usize = 64;

type Sampled = Result<Arc<Reading>, SampleError>;
/// The newest sampling; `None` before the first.
pub(super) type Newest = Option<Sampled>;

/// The handle on a node's feed. The feed ends when the last handle is gone.
#[derive(Clone)]
pub(super) struct Feed {
    questions: mpsc::Sender<oneshot::Sender<Sampled>>,
    newest: watch::Receiver<Newest>,
}

impl Feed {
    pub(super) fn start<S: Sampler>(
        sampler: Arc<S>,
        node: NodeName,
        pace: Pace,
        shutdown: CancellationToken,
    ) -> Self {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let (publish, newest) = watch::channel(None);
        let movements = sampler.movements(&node);
        let task =
            Task { sampler, node, pace, asked, publish, movements, sampled_at: Instant::now() };
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = task.run() => {}
            }
        });
        Self { questions, newest }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.questions.is_closed()
    }

    pub(super) fn newest(&self) -> watch::Receiver<Newest> {
        self.newest.clone()
    }

    /// A reading from a sampling that begins after this call.
    pub(super) async fn ask(&self) -> Sampled {
        let (answer, answered) = oneshot::channel();
        self.questions.send(answer).await.map_err(|_| SampleError::ShuttingDown)?;
        answered.await.map_err(|_| SampleError::ShuttingDown)?
    }
}

/// Why a sampling is made.
enum Cause {
    Interval,
    Movement,
    Question(oneshot::Sender<Sampled>),
}

struct Task<S> {
    sampler: Arc<S>,
    node: NodeName,
    pace: Pace,
    asked: mpsc::Receiver<oneshot::Sender<Sampled>>,
    publish: watch::Sender<Newest>,
    movements: Option<watch::Receiver<()>>,
    sampled_at: Instant,
}

impl<S: Sampler> Task<S> {
    async fn run(mut self) {
        let mut ticks = interval(self.pace.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let not_before = self.sampled_at + MOVEMENT_GAP;
            // A movement that another cause overtakes is shown by that cause's sampling.
            let cause = tokio::select! {
                biased;
                question = self.asked.recv() => match question {
                    Some(question) => Cause::Question(question),
                    None => return,
                },
                _ = ticks.tick() => Cause::Interval,
                () = moved(&mut self.movements, not_before) => Cause::Movement,
            };
            let sampled = self.sample(cause).await;
            if matches!(sampled, Err(SampleError::UnknownNode { .. })) {
                return;
            }
        }
    }

    /// Samples once, publishes, and answers every question asked before the sampling began.
    async fn sample(&mut self, cause: Cause) -> Sampled {
        let is_due = !matches!(cause, Cause::Movement);
        let mut waiting = Vec::new();
        if let Cause::Question(question) = cause {
            waiting.push(question);
        }
        while let Ok(question) = self.asked.try_recv() {
            waiting.push(question);
        }
        let sampled = self.sampler.sample(&self.node).await.map(Arc::new);
        self.sampled_at = Instant::now();
        self.log_turn(&sampled);
        if !waiting.is_empty() {
            self.publish.send_replace(Some(sampled.clone()));
        } else if is_due || self.is_worth_a_push(&sampled) {
            let shown = sampled.clone().map(|reading| self.sampler.shown(&self.node, reading));
            self.publish.send_replace(Some(shown));
        }
        for question in waiting {
            // Whoever asked may be gone.
            drop(question.send(sampled.clone()));
        }
        sampled
    }

    /// Says once when samplings begin to fail, and once when they no longer do.
    fn log_turn(&self, sampled: &Sampled) {
        match (&*self.publish.borrow(), sampled) {
            (Some(Err(_)), Ok(_)) => tracing::info!(node = %self.node, "sampled again"),
            (Some(Ok(_)) | None, Err(error)) => {
                tracing::warn!(node = %self.node, %error, "not sampled")
            }
            _ => {}
        }
    }

    fn is_worth_a_push(&self, sampled: &Sampled) -> bool {
        match (&*self.publish.borrow(), sampled) {
            (Some(Ok(shown)), Ok(reading)) => has_moved(shown, reading, self.pace.push_threshold),
            (Some(Err(shown)), Err(error)) => shown != error,
            _ => true,
        }
    }
}

/// Ends when the node moved, though not before that moment.
async fn moved(movements: &mut Option<watch::Receiver<()>>, not_before: Instant) {
    let Some(receiver) = movements else { return std::future::pending().await };
    if receiver.changed().await.is_err() {
        *movements = None;
        return std::future::pending().await;
    }
    sleep_until(not_before).await;
}

#[cfg(test)]
mod tests;
