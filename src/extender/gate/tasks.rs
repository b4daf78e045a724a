//! What the gate does by itself: holds end, waiting pods are woken, samplings are asked for. And
//! how it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;

use super::Gate;
use crate::engine::{NodeName, Reading, Time};

/// Holds and graces end at most this late.
const TICK: Duration = Duration::from_millis(100);
/// Rounds are at least this far apart, however fast readings come in.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// A node is asked for a sampling at most this often at first; asks that go on become rarer.
const FIRST_ASK_INTERVAL: Duration = Duration::from_millis(200);
const LONGEST_ASK_INTERVAL: Duration = Duration::from_secs(2);

/// A sampling that was asked for.
#[derive(Debug, Clone)]
pub struct FreshReading {
    /// The reading.
    pub reading: Arc<Reading>,
    /// When it came in, by the gate's clock.
    pub received_at: Time,
    /// A moment, by the gate's clock, before the sampling began.
    pub began_after: Option<Time>,
}

/// Whom the gate asks for a sampling: the agents' client, or the demo's simulation.
pub trait SamplingSource: Send + Sync + 'static {
    /// Asks the node's agent to sample now. It gives up by itself after a while.
    fn sample_now<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<FreshReading, String>>;
}

impl Gate {
    /// Runs until [`Gate::drain`].
    pub async fn run(self: Arc<Self>, samplings: Arc<dyn SamplingSource>) {
        let mut asks = Asks::default();
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            for node in asks.due(self.round(), self.clock.now()) {
                let (gate, samplings) = (Arc::clone(&self), Arc::clone(&samplings));
                let asking = async move { gate.ask(&node, &*samplings).await };
                let stop = stop.clone();
                tokio::spawn(async move { stop.run_until_cancelled(asking).await });
            }
            let pause = async {
                tokio::time::sleep(LEAST_PAUSE).await;
                let _ = tokio::time::timeout(TICK, self.changed.notified()).await;
            };
            stop.run_until_cancelled(pause).await;
        }
    }

    /// One round: holds end, a place is reserved for who has waited too long, waiting pods that
    /// fit are woken. Returns the nodes to be asked for a
    /// sampling. The demo calls it by itself, in virtual time.
    pub fn round(&self) -> Vec<NodeName> {
        let now = self.clock.now();
        let wakes = {
            let mut ledger = self.write();
            ledger.tick(now);
            if self.check_answering().is_ok() {
                ledger.reserve(now);
                ledger.take_wakes(now)
            } else {
                Vec::new()
            }
        };
        for wake in &wakes {
            tracing::debug!(pod = %wake.pod, node = %wake.node, "waking a waiting pod");
            self.writer.wake(&wake.pod);
        }
        self.metrics.wakes(wakes.len());
        self.tell_notices();
        self.with_ledger(|ledger| ledger.samplings_wanted(now).cloned().collect())
    }

    async fn ask(&self, node: &NodeName, samplings: &dyn SamplingSource) {
        match samplings.sample_now(node).await {
            Ok(fresh) => {
                self.apply_reading(fresh.reading, fresh.received_at, fresh.began_after);
            }
            Err(why) => tracing::debug!(%node, why, "no sampling"),
        }
    }

    /// From now on no Binding is begun; returns when those under way have ended, or after
    /// `at_most`. A Binding that is cut off then is found out by the next process' fence.
    pub async fn drain(&self, at_most: Duration) {
        {
            let _no_admission_under_way = self.write();
            self.is_draining.store(true, Ordering::Release);
        }
        if tokio::time::timeout(at_most, self.binds.wait()).await.is_err() {
            tracing::warn!(bindings = self.binds.len(), "Bindings are still in flight");
        }
        self.stop.cancel();
    }
}

/// When which node was asked.
#[derive(Debug, Default)]
struct Asks(HashMap<NodeName, Ask>);

#[derive(Debug, Clone, Copy)]
struct Ask {
    next_at: Time,
    interval: Duration,
}

impl Asks {
    /// Those of the wanted nodes that may be asked now. Nodes that are not wanted any more are
    /// forgotten, and so begin anew.
    fn due(&mut self, wanted: Vec<NodeName>, now: Time) -> Vec<NodeName> {
        let mut before = std::mem::take(&mut self.0);
        let mut due = Vec::new();
        for node in wanted {
            let ask = before.remove(&node).unwrap_or(Ask { next_at: now, interval: TICK });
            let ask = if ask.next_at <= now {
                due.push(node.clone());
                let interval = (ask.interval * 2).clamp(FIRST_ASK_INTERVAL, LONGEST_ASK_INTERVAL);
                Ask { next_at: now + interval, interval }
            } else {
                ask
            };
            self.0.insert(node, ask);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_that_go_on_become_rarer_and_begin_anew_when_they_were_answered() {
        let mut asks = Asks::default();
        let node = NodeName::from("n0");
        let mut asked_at = Vec::new();
        let millis = |millis| Time::since_origin(Duration::from_millis(millis));
        for tick in 0..80 {
            if !asks.due(vec![node.clone()], millis(tick * 100)).is_empty() {
                asked_at.push(tick * 100);
            }
        }
        assert_eq!(asked_at, [0, 200, 600, 1400, 3000, 5000, 7000]);
        assert!(asks.due(Vec::new(), millis(8000)).is_empty());
        assert_eq!(asks.due(vec![node.clone()], millis(8100)), [node]);
    }
}
