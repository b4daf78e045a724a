use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::agent::simulated::{GpuSpec, SimulatedFleet};
use crate::clock::ManualClock;
use crate::engine::Bytes;

const DEADLINE: Duration = Duration::from_secs(20);
/// At this pace only questions make a feed sample, after its first time.
const SLOW: Pace = Pace { interval: Duration::from_secs(3600), push_threshold: Bytes::mib(64) };

/// Samplings that begin at once and end when a permit comes.
struct Gated {
    fleet: SimulatedFleet,
    begun: watch::Sender<u64>,
    permits: Semaphore,
}

impl Gated {
    fn new() -> Arc<Self> {
        let fleet = SimulatedFleet::new(ManualClock::new().clock());
        fleet.add_node("n0", GpuSpec::gib(24).times(1));
        Arc::new(Self { fleet, begun: watch::Sender::new(0), permits: Semaphore::new(0) })
    }

    async fn has_begun(&self, number: u64) {
        let mut begun = self.begun.subscribe();
        let waited = timeout(DEADLINE, begun.wait_for(|begun| *begun >= number)).await;
        waited.expect("a sampling in time").unwrap();
    }
}

impl Sampler for Gated {
    fn nodes(&self) -> Vec<NodeName> {
        self.fleet.node_names()
    }

    async fn sample(&self, node: &NodeName) -> Result<Reading, SampleError> {
        let reading = self.fleet.sample_at_once(node.as_str()).unwrap();
        self.begun.send_replace(reading.sampling);
        self.permits.acquire().await.unwrap().forget();
        Ok(reading)
    }
}

fn ask(feed: &Feed) -> tokio::task::JoinHandle<Sampled> {
    let feed = feed.clone();
    tokio::spawn(async move { feed.ask().await })
}

async fn answered(answer: tokio::task::JoinHandle<Sampled>) -> u64 {
    timeout(DEADLINE, answer).await.expect("an answer in time").unwrap().unwrap().sampling
}

#[tokio::test]
async fn a_question_during_a_sampling_is_answered_by_the_next() {
    let gated = Gated::new();
    let feed = Feed::start(Arc::clone(&gated), "n0".into(), SLOW, CancellationToken::new());
    let first = ask(&feed);
    gated.has_begun(1).await;
    // Asked while the sampling runs: whatever it shows was so before the question.
    let (second, third) = (ask(&feed), ask(&feed));
    let both_wait = async {
        while feed.questions.capacity() > QUESTIONS - 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, both_wait).await.expect("both questions wait");
    gated.permits.add_permits(10);
    let first = answered(first).await;
    let (second, third) = (answered(second).await, answered(third).await);
    assert!(first < second, "{first}, {second}");
    assert_eq!(second, third, "questions that wait together share a sampling");
}

#[tokio::test]
async fn a_feed_ends_with_its_handles_and_with_the_agent() {
    let gated = Gated::new();
    let feed = Feed::start(Arc::clone(&gated), "n0".into(), SLOW, CancellationToken::new());
    let mut newest = feed.newest();
    gated.permits.add_permits(10);
    drop(feed);
    let ended = async { while newest.changed().await.is_ok() {} };
    timeout(DEADLINE, ended).await.expect("no handle, no feed");

    let shutdown = CancellationToken::new();
    let feed = Feed::start(Gated::new(), "n0".into(), SLOW, shutdown.clone());
    let unanswered = ask(&feed);
    shutdown.cancel();
    let answer = timeout(DEADLINE, unanswered).await.expect("an answer in time").unwrap();
    assert_eq!(answer.unwrap_err(), SampleError::ShuttingDown);
}
