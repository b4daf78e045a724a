use super::*;
use crate::agent::simulated::{GpuSpec, SimulatedFleet};
use crate::clock::ManualClock;

const OPENED: Time = Time::from_secs(7);

fn reading(sampling: u64) -> Arc<Reading> {
    let fleet = SimulatedFleet::new(ManualClock::new().clock());
    fleet.add_node("n0", GpuSpec::gib(24).times(1));
    let reading = fleet.sample_at_once("n0").unwrap();
    Arc::new(Reading { agent: "run".into(), sampling, ..reading })
}

fn heartbeat(sampling: u64) -> Applied {
    Applied::Heartbeat(protocol::Heartbeat { agent: "run".into(), sampling })
}

/// What the lines of one chunk amount to: the sampling told, and its evidence.
fn told(
    newest: &NewestSampling,
    news: &mut News,
    lines: Vec<Applied>,
) -> Option<(u64, Option<Time>)> {
    for line in lines {
        news.take(line, newest);
    }
    match news.event(&"n0".into(), Time::from_secs(9))? {
        Event::Arrival(arrival) => Some((arrival.reading.sampling, arrival.began_after)),
        Event::Heartbeat(heartbeat) => Some((heartbeat.sampling, None)),
        Event::Lost(lost) => panic!("{}", lost.why),
    }
}

#[test]
fn of_lines_that_come_together_the_newest_is_told() {
    let newest = NewestSampling::default();
    let mut news = News::new("n0".into(), OPENED);
    let lines = vec![Applied::Reading(reading(1)), heartbeat(2), Applied::Reading(reading(3))];
    assert_eq!(told(&newest, &mut news, lines), Some((3, Some(OPENED))));
    assert_eq!(told(&newest, &mut news, vec![heartbeat(4), heartbeat(5)]), Some((5, None)));
    assert_eq!(told(&newest, &mut news, vec![heartbeat(5)]), None, "a repetition is no news");
}

#[test]
fn only_a_streams_first_reading_is_evidence() {
    let newest = NewestSampling::default();
    let mut news = News::new("n0".into(), OPENED);
    assert_eq!(
        told(&newest, &mut news, vec![Applied::Reading(reading(4))]),
        Some((4, Some(OPENED)))
    );
    assert_eq!(told(&newest, &mut news, vec![Applied::Reading(reading(5))]), Some((5, None)));
}

#[test]
fn a_first_reading_that_was_known_is_no_evidence_nor_is_what_follows() {
    let newest = NewestSampling::default();
    assert!(newest.advance(&"run".into(), 4));
    let mut news = News::new("n0".into(), OPENED);
    assert_eq!(told(&newest, &mut news, vec![Applied::Reading(reading(4))]), None);
    assert_eq!(told(&newest, &mut news, vec![Applied::Reading(reading(5))]), Some((5, None)));
}

#[test]
fn waits_double_to_a_limit_and_are_spread() {
    let config = ClientConfig::default();
    let mut backoff = Backoff::new(&config);
    for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
        let wait = backoff.next().as_millis();
        assert!((expected / 2..=expected * 3 / 2).contains(&wait), "{wait} around {expected}");
    }
    assert!(!backoff.is_fresh());
    backoff.reset();
    assert!(backoff.is_fresh() && backoff.next() <= Duration::from_millis(150));
}

#[tokio::test]
async fn a_gap_between_wakings_is_noticed_though_data_came() {
    let manual = ManualClock::new();
    let clock = manual.clock();
    let mut vigil = Vigil::new(&clock, Duration::from_secs(10));
    manual.advance(Duration::from_secs(5));
    assert!(vigil.attend(async {}).await.is_ok(), "half of staleAfter is within bounds");
    manual.advance(Duration::from_millis(5001));
    assert!(matches!(vigil.attend(async {}).await, Err(LostReason::Paused(_))));
}
