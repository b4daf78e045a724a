//! One replica leads; the others stand by.

use std::time::Duration;

use axum::http::StatusCode;
use filmgate::cluster::pod::facts;
use filmgate::extender::GateSettings;
use filmgate::extender::writer::BindOutcome;
use serde_json::{Value, json};

use crate::site::{Site, asking, order};
use crate::support::node;

const NOT_LEADING: &str =
    "this filmgate does not lead: another replica answers, or it is still taking over";
/// Nobody answers in a scripted site, so nothing is gained by more.
const NO_TIME: Duration = Duration::from_millis(1);

fn standby() -> Site {
    let site = Site::with(&[node("n0").gpus(1)]);
    site.add(&asking("p", "12Gi"));
    site.gate.stand_by();
    site
}

async fn error_of_filter(site: &Site) -> Value {
    site.filter(&asking("p", "12Gi"), &["n0"]).await["Error"].clone()
}

#[tokio::test]
async fn a_standby_answers_every_verb_with_an_error_and_keeps_its_ledger() {
    let site = standby();
    let before = site.state();
    assert_eq!(error_of_filter(&site).await, NOT_LEADING);
    assert_eq!(site.scores(&asking("p", "12Gi"), &["n0"]).await, [("n0".to_owned(), 0)]);
    assert_eq!(site.bind("p", "n0").await, NOT_LEADING);
    let call = json!({"Pod": asking("p", "12Gi"), "NodeNameToMetaVictims": {}});
    let reply = site.post("/preempt", call.to_string()).await;
    assert_eq!((reply.status, &*reply.problem()), (StatusCode::SERVICE_UNAVAILABLE, NOT_LEADING));
    assert_eq!(site.state(), before);
    assert!(site.script.sent().is_empty());
    let series = "filmgate_request_duration_seconds_count{outcome=\"not_leading\",verb=\"bind\"}";
    assert_eq!(site.metric(series).await, "1");
}

#[tokio::test]
async fn a_standby_wakes_nobody() {
    let site = Site::with(&[node("n0").gpus(1).foreign(0, 20)]);
    site.add(&asking("p", "12Gi"));
    assert!(site.passing(&asking("p", "12Gi"), &["n0"]).await.is_empty());
    site.gate.stand_by();
    site.read(&node("n0").gpus(1));
    site.gate.round();
    assert!(site.script.wakes().is_empty());
    site.gate.lead_until(site.clock.now() + Duration::from_secs(10));
    site.gate.round();
    assert_eq!(site.script.wakes(), ["p"]);
}

#[tokio::test]
async fn explain_and_metrics_say_who_leads() {
    let site = standby();
    let explained = site.get("/explain?pod=default/p").await.json();
    assert_eq!(
        (&explained["isLeading"], &explained["isAnswering"]),
        (&false.into(), &false.into())
    );
    assert_eq!(site.metric("filmgate_leader").await, "0");
    site.gate.lead_until(site.clock.now() + Duration::from_secs(10));
    let explained = site.get("/explain?pod=default/p").await.json();
    assert_eq!((&explained["isLeading"], &explained["isAnswering"]), (&true.into(), &true.into()));
    assert_eq!(site.metric("filmgate_leader").await, "1");
}

#[tokio::test]
async fn a_standby_is_ready_beside_a_kube_scheduler_and_not_behind_a_service() {
    assert_eq!(standby().ops("/readyz").await.status, StatusCode::OK);
    let settings = GateSettings { standby_is_ready: false, ..GateSettings::default() };
    let behind_a_service = Site::under(settings, &[]);
    behind_a_service.gate.stand_by();
    let reply = behind_a_service.ops("/readyz").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text.contains(NOT_LEADING), "{}", reply.text);
    behind_a_service.gate.lead_until(behind_a_service.clock.now() + Duration::from_secs(10));
    assert_eq!(behind_a_service.ops("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_leader_that_hears_nothing_of_its_lease_ends_by_itself() {
    let site = standby();
    site.gate.lead_until(site.clock.now() + Duration::from_secs(10));
    site.clock.advance(Duration::from_secs(9));
    assert_eq!(error_of_filter(&site).await, "");
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(error_of_filter(&site).await, NOT_LEADING);
    assert_eq!(site.bind("p", "n0").await, NOT_LEADING);
}

/// The call was let in by a leader; what counts is who leads when the pod would be admitted.
#[tokio::test]
async fn leadership_that_is_lost_while_a_bind_is_under_way_admits_nothing() {
    let site = Site::with(&[node("n0").gpus(1)]);
    let pod = asking("q", "12Gi");
    site.script.has(facts(&serde_json::from_value(pod).unwrap(), None).unwrap());
    let read = site.script.read_later();
    let order = order("q", "q", "n0");
    let bind = site.verb("/bind", &order);
    tokio::pin!(bind);
    assert!(futures::poll!(&mut bind).is_pending());
    while !site.script.is_read() {
        tokio::task::yield_now().await;
    }
    site.gate.stand_by();
    read.send(()).unwrap();
    assert_eq!(bind.await["Error"], NOT_LEADING);
    assert_eq!(site.claim("q"), None);
    assert!(site.script.sent().is_empty());
}

#[tokio::test]
async fn who_takes_over_admits_nothing_by_readings_of_before() {
    let site = standby();
    site.gate.read_again(NO_TIME).await;
    site.gate.lead_until(site.clock.now() + Duration::from_secs(10));
    assert_eq!(site.bind("p", "n0").await, "no GPU telemetry yet");
    assert_eq!(site.gate.round(), ["n0".into()], "it is asked for a sampling");
    site.read(&node("n0").gpus(1));
    assert_eq!(site.bind("p", "n0").await, "no GPU telemetry yet", "of unknown age");
    site.read_now(&node("n0").gpus(1));
    assert_eq!(site.bind("p", "n0").await, "");
}

#[tokio::test]
async fn waits_for_bindings_of_an_earlier_term() {
    let site = Site::with(&[node("n0").gpus(1)]);
    site.add(&asking("p", "12Gi"));
    let tell = site.script.next_later();
    let order = order("p", "p", "n0");
    let bind = site.verb("/bind", &order);
    tokio::pin!(bind);
    assert!(futures::poll!(&mut bind).is_pending());
    while site.claim("p").is_none() {
        tokio::task::yield_now().await;
    }
    site.gate.stand_by();
    let ended = site.gate.bindings_ended();
    tokio::pin!(ended);
    assert!(futures::poll!(&mut ended).is_pending());
    tell.send(BindOutcome::Bound).unwrap();
    assert_eq!(bind.await["Error"], "");
    ended.await;
}
