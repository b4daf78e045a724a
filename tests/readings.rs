//! Readings from agents to the extender, over real HTTP on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use filmgate::agent::simulated::{Delivery, Faults, GpuSpec, Loss, SimulatedFleet};
use filmgate::clock::{Clock, ManualClock};
use filmgate::engine::{Bytes, GpuUuid, NodeName, PodRef, Reading};
use filmgate::readings::client::{Arrival, ClientConfig, Event, LostReason, SampleNowError};
use filmgate::readings::discovery::endpoint;
use filmgate::readings::protocol::{Message, ProtocolError};
use filmgate::readings::server::{Pace, SampleError, Sampler, bind};
use support::agents::{Agent, Client, DEADLINE, false_agent, loopback, quick};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const SECOND: Duration = Duration::from_secs(1);

fn pod(name: &str) -> PodRef {
    PodRef { namespace: "studio".into(), name: name.into(), uid: format!("uid-{name}").into() }
}

/// One node with one GPU of 24 GiB, under a clock past the time in which peaks' cover still grows.
fn fleet() -> (SimulatedFleet, GpuUuid) {
    let manual = ManualClock::new();
    let fleet = SimulatedFleet::with_peak_window(manual.clock(), SECOND);
    fleet.add_node("n0", GpuSpec::gib(24).times(1));
    manual.advance(SECOND);
    let gpu = fleet.gpus("n0").unwrap()[0].clone();
    (fleet, gpu)
}

async fn lost_to(body: Vec<u8>) -> LostReason {
    let address = false_agent(body).await;
    Client::of(endpoint("n0", &format!("http://{address}")).unwrap()).lost().await
}

fn full_line(reading: Reading) -> Vec<u8> {
    Message::full(Arc::new(reading)).encode().unwrap().to_vec()
}

#[tokio::test]
async fn the_first_reading_of_a_stream_is_sampled_after_the_connection() {
    let (fleet, gpu) = fleet();
    // At this pace only a question makes the agent sample again.
    let pace = Pace { interval: Duration::from_secs(3600), push_threshold: Bytes::gib(100) };
    let agent = Agent::start_at(loopback(), &fleet, pace).await;
    let mut first = Client::of(agent.endpoint("n0"));
    first.arrival(|_| true).await;
    fleet.set_foreign("n0", &gpu, Bytes::gib(5)).unwrap();

    let clock = Clock::monotonic();
    let before = clock.now();
    let mut second = Client::with(quick(), clock);
    second.client.set_endpoints(vec![agent.endpoint("n0")]);
    let arrival = second.arrival(|_| true).await;
    assert_eq!(arrival.reading.gpus[0].used, Bytes::gib(5));
    let began_after = arrival.began_after.expect("a first reading is evidence");
    assert!(before <= began_after && began_after <= arrival.received_at);
}

#[tokio::test]
async fn changes_are_followed_by_heartbeats() {
    let (fleet, gpu) = fleet();
    let agent = Agent::start(&fleet).await;
    let mut client = Client::of(agent.endpoint("n0"));
    let first = client.arrival(|_| true).await;
    let quiet = client.heartbeat().await;
    assert!(quiet > first.reading.sampling);

    fleet.start_pod("n0", &gpu, &pod("a"), Bytes::gib(8)).unwrap();
    let changed = client.arrival(|reading| reading.gpus[0].measured() == Bytes::gib(8)).await;
    assert_eq!(changed.began_after, None, "nobody asked for it");
    assert_eq!(changed.reading.agent, first.reading.agent);
    assert!(client.heartbeat().await > changed.reading.sampling);
}

#[tokio::test]
async fn far_movement_is_pushed_before_the_interval_is_over() {
    let (fleet, gpu) = fleet();
    let pace = Pace { interval: Duration::from_secs(3600), ..Pace::default() };
    let agent = Agent::start_at(loopback(), &fleet, pace).await;
    let mut client = Client::of(agent.endpoint("n0"));
    client.arrival(|_| true).await;
    fleet.set_foreign("n0", &gpu, Bytes::mib(64)).unwrap();
    client.arrival(|reading| reading.gpus[0].used == Bytes::mib(64)).await;
}

#[tokio::test]
async fn a_stream_returns_after_the_agent_was_restarted() {
    let (fleet, _) = fleet();
    let agent = Agent::start(&fleet).await;
    let mut client = Client::of(agent.endpoint("n0"));
    let before = client.arrival(|_| true).await;
    let address = agent.address;
    agent.stop().await;
    assert_eq!(client.lost().await.reason(), "ended");

    fleet.restart_agent("n0").unwrap();
    let _again = Agent::start_at(address, &fleet, Pace::default()).await;
    let after = client.arrival(|_| true).await;
    assert_ne!(after.reading.agent, before.reading.agent);
    assert!(after.began_after.is_some());
}

#[tokio::test]
async fn sample_now_answers_with_a_sampling_begun_after_the_question() {
    let (fleet, gpu) = fleet();
    let pace = Pace { interval: Duration::from_secs(3600), push_threshold: Bytes::gib(100) };
    let agent = Agent::start_at(loopback(), &fleet, pace).await;
    let mut client = Client::of(agent.endpoint("n0"));
    let first = client.arrival(|_| true).await;
    fleet.start_pod("n0", &gpu, &pod("a"), Bytes::gib(3)).unwrap();
    let node = NodeName::from("n0");
    let answer = client.client.sample_now(&node, DEADLINE).await.unwrap();
    assert_eq!(answer.reading.gpus[0].measured(), Bytes::gib(3));
    assert!(answer.reading.sampling > first.reading.sampling);
    assert!(answer.began_after.is_some_and(|began_after| began_after >= first.received_at));
    // The stream shows that sampling too.
    client.arrival(|reading| reading.sampling == answer.reading.sampling).await;
}

#[tokio::test]
async fn questions_that_come_together_are_all_answered() {
    let (fleet, _) = fleet();
    let agent = Agent::start(&fleet).await;
    let client = Client::of(agent.endpoint("n0"));
    let node = NodeName::from("n0");
    let asks = (0..200).map(|_| client.client.sample_now(&node, DEADLINE));
    for answer in futures::future::join_all(asks).await {
        answer.expect("an answer sampled after its question");
    }
}

/// An agent that has sampled once and answers everything with that.
struct Stuck(Reading);

impl Sampler for Stuck {
    fn nodes(&self) -> Vec<NodeName> {
        vec![self.0.node.clone()]
    }

    async fn sample(&self, _node: &NodeName) -> Result<Reading, SampleError> {
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn an_old_answer_is_no_evidence() {
    let (fleet, _) = fleet();
    let stuck = Arc::new(Stuck(fleet.sample_at_once("n0").unwrap()));
    let agent = Agent::of(loopback(), stuck, Pace::default()).await;
    let mut client = Client::of(agent.endpoint("n0"));
    client.arrival(|_| true).await;
    let answer = client.client.sample_now(&NodeName::from("n0"), DEADLINE).await;
    assert!(matches!(answer, Err(SampleNowError::NotNew(1))), "{answer:?}");
}

#[tokio::test]
async fn a_lost_agent_is_noticed_at_once_and_comes_back() {
    let (fleet, _) = fleet();
    let agent = Agent::start(&fleet).await;
    let mut client = Client::of(agent.endpoint("n0"));
    client.arrival(|_| true).await;
    fleet.set_lost("n0", true).unwrap();
    assert_eq!(client.lost().await.reason(), "ended");
    let LostReason::Refused { status: 503, text } = client.lost().await else {
        panic!("a refusal was due")
    };
    assert_eq!(text, "node n0 cannot be sampled: simulated loss");
    let error = client.client.sample_now(&NodeName::from("n0"), DEADLINE).await.unwrap_err();
    assert!(matches!(error, SampleNowError::Failed(LostReason::Refused { .. })), "{error}");
    fleet.set_lost("n0", false).unwrap();
    assert!(client.arrival(|_| true).await.began_after.is_some());
}

#[tokio::test]
async fn a_hung_agent_is_given_up_after_a_while() {
    let (fleet, _) = fleet();
    let agent = Agent::start(&fleet).await;
    let config = ClientConfig { stale_after: Duration::from_millis(400), ..quick() };
    let mut client = Client::with(config, Clock::monotonic());
    client.client.set_endpoints(vec![agent.endpoint("n0")]);
    client.arrival(|_| true).await;
    fleet.set_faults("n0", Faults { lost: Some(Loss::Hung), ..Faults::default() }).unwrap();
    let silent = client.lost().await;
    assert_eq!(silent.reason(), "silent", "{silent}");
    let node = NodeName::from("n0");
    let unanswered = client.client.sample_now(&node, Duration::from_millis(50)).await;
    assert!(matches!(unanswered, Err(SampleNowError::TimedOut(_))));
    fleet.set_lost("n0", false).unwrap();
    client.arrival(|_| true).await;
}

#[tokio::test]
async fn the_newest_reading_wins() {
    let (fleet, gpu) = fleet();
    let agent = Agent::start(&fleet).await;
    for delivery in [Delivery::Repeated, Delivery::OutOfOrder] {
        fleet.set_faults("n0", Faults { delivery, ..Faults::default() }).unwrap();
        let mut client = Client::of(agent.endpoint("n0"));
        let mut newest = 0;
        for step in 1..=20 {
            fleet.set_foreign("n0", &gpu, Bytes::gib(step)).unwrap();
            let node = NodeName::from("n0");
            let asked = client
                .client
                .sample_now(&node, DEADLINE)
                .await
                .expect("evidence despite the faults");
            assert_eq!(asked.reading.gpus[0].used, Bytes::gib(step), "{delivery:?}");
            let sampling = match client.next().await {
                Event::Arrival(arrival) => arrival.reading.sampling,
                Event::Heartbeat(heartbeat) => heartbeat.sampling,
                Event::Lost(lost) => panic!("{delivery:?}: {}", lost.why),
            };
            assert!(sampling > newest, "{delivery:?}: {sampling} after {newest}");
            newest = sampling;
        }
    }
}

#[tokio::test]
async fn a_late_reading_delays_only_its_node() {
    let (fleet, _) = fleet();
    fleet.add_node("n1", GpuSpec::gib(24).times(1));
    fleet
        .set_faults("n0", Faults { late: Duration::from_secs(3600), ..Faults::default() })
        .unwrap();
    let agent = Agent::start(&fleet).await;
    let mut client = Client::with(quick(), Clock::monotonic());
    client.client.set_endpoints(vec![agent.endpoint("n0"), agent.endpoint("n1")]);
    for _ in 0..3 {
        let Event::Arrival(Arrival { reading, .. }) = client.next().await else { continue };
        assert_eq!(reading.node.as_str(), "n1");
    }
}

#[tokio::test]
async fn impossible_numbers_travel_unchanged() {
    let (fleet, _) = fleet();
    fleet.set_faults("n0", Faults { has_impossible_numbers: true, ..Faults::default() }).unwrap();
    let agent = Agent::start(&fleet).await;
    let arrival = Client::of(agent.endpoint("n0")).arrival(|_| true).await;
    assert!(arrival.reading.validate().is_err(), "the ledger is to judge them");
}

#[tokio::test]
async fn garbage_ends_the_connection() {
    let lost = lost_to(b"<html>not an agent</html>\n".to_vec()).await;
    assert!(matches!(lost, LostReason::Protocol(ProtocolError::Malformed(_))), "{lost}");
    let lost = lost_to(b"{\"type\":\"heartbeat\",\"agent\":\"x\",\"sampling\":1}\n".to_vec()).await;
    assert_eq!(lost.reason(), "out_of_step");
}

#[tokio::test]
async fn a_line_without_end_is_not_kept() {
    let lost = lost_to(vec![b' '; 5 << 20]).await;
    assert!(matches!(lost, LostReason::LineTooLong(4_194_304)), "{lost}");
}

#[tokio::test]
async fn another_nodes_reading_is_not_taken() {
    let (fleet, _) = fleet();
    fleet.add_node("n7", GpuSpec::gib(80).times(1));
    let lost = lost_to(full_line(fleet.sample_at_once("n7").unwrap())).await;
    assert!(
        matches!(&lost, LostReason::Protocol(ProtocolError::WrongNode(node)) if node.as_str() == "n7")
    );
}

#[tokio::test]
async fn another_version_is_named() {
    let lost = lost_to(b"{\"type\":\"full\",\"version\":7,\"reading\":null}\n".to_vec()).await;
    assert!(lost.to_string().contains("speaks version 7"), "{lost}");
}

#[tokio::test]
async fn an_unknown_node_is_refused_by_name() {
    let (fleet, _) = fleet();
    let agent = Agent::start(&fleet).await;
    let LostReason::Refused { status: 404, text } = Client::of(agent.endpoint("n9")).lost().await
    else {
        panic!("a refusal was due")
    };
    assert_eq!(text, "node n9 is not served here; served: n0");
}

#[tokio::test]
async fn a_node_added_later_is_served_and_a_removed_one_is_not() {
    let (fleet, _) = fleet();
    let agent = Agent::start(&fleet).await;
    fleet.add_node("n1", GpuSpec::gib(24).times(1));
    let mut client = Client::of(agent.endpoint("n1"));
    client.arrival(|_| true).await;
    fleet.remove_node("n1");
    assert_eq!(client.lost().await.reason(), "ended");
    assert!(matches!(client.lost().await, LostReason::Refused { status: 404, .. }));
}

#[tokio::test]
async fn readings_that_waited_while_this_process_stood_still_are_not_trusted() {
    let (fleet, _) = fleet();
    let agent = Agent::start(&fleet).await;
    let manual = ManualClock::new();
    let mut client = Client::with(quick(), manual.clock());
    client.client.set_endpoints(vec![agent.endpoint("n0")]);
    client.arrival(|_| true).await;
    manual.advance(Duration::from_secs(11));
    let paused = client.lost().await;
    assert!(
        matches!(paused, LostReason::Paused(gap) if gap >= Duration::from_secs(11)),
        "{paused}"
    );
    let fresh = client.arrival(|_| true).await;
    assert_eq!(
        fresh.began_after,
        Some(manual.now()),
        "the next reading is sampled after the pause"
    );
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody() {
    let (fleet, gpu) = fleet();
    let agent = Agent::start(&fleet).await;
    let mut slow = TcpStream::connect(agent.address).await.unwrap();
    slow.write_all(b"GET /nodes/n0/readings HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();

    let mut client = Client::of(agent.endpoint("n0"));
    for gib in 1..=20 {
        fleet.set_foreign("n0", &gpu, Bytes::gib(gib)).unwrap();
        client.arrival(|reading| reading.gpus[0].used == Bytes::gib(gib)).await;
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_withdrawn_endpoint_ends_its_stream() {
    let (fleet, _) = fleet();
    let agent = Agent::start(&fleet).await;
    let mut client = Client::of(agent.endpoint("n0"));
    client.arrival(|_| true).await;
    client.client.set_endpoints(Vec::new());
    assert_eq!(client.lost().await.reason(), "withdrawn");
    let error = client.client.sample_now(&NodeName::from("n0"), DEADLINE).await.unwrap_err();
    assert!(matches!(error, SampleNowError::NoAgent(_)));
    client.client.set_endpoints(vec![agent.endpoint("n0")]);
    client.arrival(|_| true).await;
}

#[tokio::test]
async fn plain_http_beyond_loopback_needs_a_clear_word() {
    let error = bind(SocketAddr::from(([0, 0, 0, 0], 0)), false).await.unwrap_err();
    assert!(error.to_string().contains("--allow-plain-non-loopback"), "{error}");
    assert!(bind(SocketAddr::from(([0, 0, 0, 0], 0)), true).await.is_ok());
}

#[tokio::test]
async fn other_paths_say_what_there_is() {
    let (fleet, _) = fleet();
    let agent = Agent::start(&fleet).await;
    let get =
        async |path: &str| reqwest::get(format!("http://{}{path}", agent.address)).await.unwrap();
    assert_eq!(get("/healthz").await.status(), 200);
    assert_eq!(get("/nodes").await.text().await.unwrap(), r#"{"nodes":["n0"]}"#);
    let missing = get("/node").await;
    assert_eq!(missing.status(), 404);
    assert!(missing.text().await.unwrap().contains("POST /nodes/<node>/sample"));
}
