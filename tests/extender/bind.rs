//! Bind, and what becomes of Bindings.

use std::time::Duration;

use filmgate::cluster::pod::facts;
use filmgate::engine::{Bytes, PodFacts};
use filmgate::extender::GateSettings;
use filmgate::extender::writer::{BindOutcome, FenceOutcome};
use serde_json::Value;

use crate::script::Answer;
use crate::site::{Site, asking, bound, order, plain};
use crate::support::{gpu, node};

fn site() -> Site {
    Site::with(&[node("n0").gpus(1), node("n1").gpus(1)])
}

fn facts_of(pod: &Value) -> PodFacts {
    facts(&serde_json::from_value(pod.clone()).unwrap(), None).unwrap()
}

/// Waits for a condition that other tasks bring about.
async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came about");
}

fn is(site: &Site, pod: &str, node: &str, state: &str) -> bool {
    site.claim(pod) == Some((node.to_owned(), state.to_owned()))
}

#[tokio::test]
async fn writes_the_decision_with_the_binding() {
    let site = site();
    site.add(&asking("p", "12Gi"));
    assert_eq!(site.bind("p", "n0").await, "");
    let sent = &site.script.sent()[0];
    assert_eq!(&*sent.admission.resource_version, "7");
    assert_eq!(sent.node.as_str(), "n0");
    let written = |key| {
        let found = sent.admission.annotations.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(written("filmgate.dev/gpu"), Some(gpu("n0", 0).as_str()));
    assert_eq!(written("filmgate.dev/vram-charged"), Some("GPU-n0-0=12884901888"));
    assert_eq!(written("filmgate.dev/vram-fraction"), Some("0.4791"));
    assert!(is(&site, "p", "n0", "Bound"));
    assert_eq!(site.metric("filmgate_binds_total{outcome=\"bound\"}").await, "1");
}

#[tokio::test]
async fn admits_by_itself_a_pod_that_was_not_held() {
    let site = site();
    site.add(&asking("p", "12Gi"));
    site.add(&asking("q", "12Gi"));
    assert_eq!(site.bind("p", "n0").await, "");
    let before = site.state();
    assert_eq!(site.bind("q", "n0").await, "not enough free VRAM");
    assert_eq!(site.state(), before);
    assert_eq!(site.script.sent().len(), 1);
    assert_eq!(site.metric("filmgate_bind_conflicts_total{kind=\"no_room\"}").await, "1");
}

#[tokio::test]
async fn a_bind_elsewhere_moves_the_hold() {
    let site = site();
    let pod = asking("p", "12Gi");
    site.add(&pod);
    site.passing(&pod, &["n0"]).await;
    assert_eq!(site.bind("p", "n1").await, "");
    assert!(is(&site, "p", "n1", "Bound"));
    assert_eq!(site.free("n0"), site.free("n0").max(Bytes::gib(23)));
}

#[tokio::test]
async fn asks_the_api_server_about_a_pod_that_the_watch_has_not_shown() {
    let site = site();
    site.script.has(facts_of(&asking("p", "12Gi")));
    assert_eq!(site.bind("p", "n0").await, "");
    assert!(is(&site, "p", "n0", "Bound"));
}

#[tokio::test]
async fn a_bind_for_another_uid_is_refused() {
    let site = site();
    site.script.has(facts_of(&asking("p", "12Gi")));
    let before = site.state();
    let error = site.bind_uid("p", "p-before", "n0").await;
    assert_eq!(error, "pod default/p has UID p, not p-before: it is another pod");
    assert_eq!(site.state(), before);
    assert!(site.script.sent().is_empty());
}

#[tokio::test]
async fn a_pod_that_cannot_be_read_is_not_bound() {
    let site = site();
    site.script.fall_silent();
    let before = site.state();
    let error = site.bind("p", "n0").await;
    assert_eq!(error, "pod default/p cannot be read: connection refused");
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn a_pod_without_a_gpu_is_bound_as_it_is() {
    let site = site();
    let before = site.state();
    assert!(facts(&serde_json::from_value(plain("p")).unwrap(), None).is_none());
    assert_eq!(site.bind("p", "n0").await, "");
    let sent = &site.script.sent()[0];
    assert!(sent.admission.annotations.is_empty() && sent.admission.resource_version.is_empty());
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn an_unknown_node_is_refused() {
    let site = site();
    site.add(&asking("p", "12Gi"));
    let before = site.state();
    assert_eq!(site.bind("p", "nowhere").await, "node unknown to filmgate");
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn a_refusal_of_the_api_server_ends_the_claim() {
    let site = site();
    site.add(&asking("p", "12Gi"));
    let free = site.free("n0");
    site.script.next_outcome(BindOutcome::Refused("node is gone".into()));
    assert_eq!(site.bind("p", "n0").await, "the API server refused the Binding: node is gone");
    assert_eq!((site.claim("p"), site.free("n0")), (None, free));
}

#[tokio::test]
async fn a_binding_in_flight_is_charged_and_that_pod_is_not_answered() {
    let site = site();
    let pod = asking("p", "12Gi");
    site.add(&pod);
    let tell = site.script.next_later();
    let order = order("p", "p", "n0");
    let bind = site.verb("/bind", &order);
    tokio::pin!(bind);
    assert!(futures::poll!(&mut bind).is_pending());
    until(|| is(&site, "p", "n0", "Binding")).await;

    assert_eq!(site.passing(&asking("q", "12Gi"), &["n0", "n1"]).await, ["n1"]);
    let answer = site.filter(&pod, &["n0", "n1"]).await;
    assert_eq!(answer["Error"], "an earlier Binding of this pod is still in flight");
    assert!(site.bind("p", "n1").await.contains("in flight"));

    tell.send(BindOutcome::Bound).unwrap();
    assert_eq!(bind.await["Error"], "");
    let answer = site.filter(&pod, &["n0", "n1"]).await;
    assert_eq!(answer["Error"], "pod is already bound to node n0");
    assert_eq!(site.bind("p", "n0").await, "", "it is done already");
    assert_eq!(site.bind("p", "n1").await, "pod is already bound to node n0");
}

#[tokio::test]
async fn a_binding_goes_on_when_nobody_listens_any_more() {
    let site = site();
    site.add(&asking("p", "12Gi"));
    let tell = site.script.next_later();
    {
        let order = order("p", "p", "n0");
        let call = site.verb("/bind", &order);
        tokio::pin!(call);
        assert!(futures::poll!(&mut call).is_pending());
    }
    until(|| is(&site, "p", "n0", "Binding")).await;
    tell.send(BindOutcome::Bound).unwrap();
    until(|| is(&site, "p", "n0", "Bound")).await;
}

#[tokio::test]
async fn an_unknown_outcome_stays_charged_until_a_fence_tells() {
    for (found, state) in [(true, Some("Bound")), (false, None)] {
        let site = site();
        let pod = asking("p", "12Gi");
        site.add(&pod);
        site.script.next_outcome(BindOutcome::Unknown("timed out".into()));
        let fence = site.script.fence_later();
        let error = site.bind("p", "n0").await;
        assert_eq!(error, "the outcome of the Binding is not known yet: timed out");
        assert!(is(&site, "p", "n0", "Binding"));
        assert_eq!(site.metric("filmgate_bindings_in_doubt").await, "1");
        assert!(site.filter(&pod, &["n1"]).await["Error"].as_str().unwrap().contains("in flight"));

        let outcome = if found {
            FenceOutcome::Bound(facts_of(&bound(pod, "n0")))
        } else {
            FenceOutcome::Unbound(facts_of(&pod))
        };
        fence.send(outcome).unwrap();
        let claim = state.map(|state| ("n0".to_owned(), state.to_owned()));
        until(|| site.claim("p") == claim).await;
        assert_eq!(site.metric("filmgate_bindings_in_doubt").await, "0");
    }
}

#[tokio::test]
async fn a_pod_that_the_fence_finds_gone_stays_charged_for_its_grace() {
    let site = site();
    site.add(&asking("p", "12Gi"));
    site.script.next_outcome(BindOutcome::Unknown("timed out".into()));
    let fence = site.script.fence_later();
    site.bind("p", "n0").await;
    fence.send(FenceOutcome::Gone).unwrap();
    until(|| is(&site, "p", "n0", "Leaving")).await;
}

#[tokio::test]
async fn a_writer_without_an_end_is_cut_off_and_the_outcome_unknown() {
    let bind_timeout = Duration::from_millis(20);
    let settings = GateSettings { bind_timeout, ..GateSettings::default() };
    let site = Site::under(settings, &[node("n0").gpus(1)]);
    site.add(&asking("p", "12Gi"));
    site.script.next(Answer::Never);
    assert!(site.bind("p", "n0").await.contains("not known yet"));
    assert!(site.script.sent()[0].deadline <= bind_timeout);
    assert!(is(&site, "p", "n0", "Binding"));
}

#[tokio::test]
async fn a_defect_while_binding_leaves_the_charge_and_a_fence_to_tell() {
    let site = site();
    let pod = asking("p", "12Gi");
    site.add(&pod);
    site.script.next(Answer::Panic);
    let fence = site.script.fence_later();
    assert_eq!(site.bind("p", "n0").await, "filmgate failed while binding");
    assert!(is(&site, "p", "n0", "Binding"));
    fence.send(FenceOutcome::Unbound(facts_of(&pod))).unwrap();
    until(|| site.claim("p").is_none()).await;
}

#[tokio::test]
async fn a_pod_that_someone_else_bound_is_charged_where_it_is() {
    let site = site();
    let pod = asking("p", "12Gi");
    site.add(&pod);
    site.script.has(facts_of(&bound(pod, "n1")));
    site.script.next_outcome(BindOutcome::Superseded("it is on n1".into()));
    let error = site.bind("p", "n0").await;
    assert_eq!(error, "the pod was decided about elsewhere: it is on n1");
    until(|| is(&site, "p", "n1", "Bound")).await;
    assert_eq!(site.metric("filmgate_bind_conflicts_total{kind=\"superseded\"}").await, "1");
}

#[tokio::test]
async fn observing_binds_what_does_not_fit_and_charges_it() {
    let site = Site::observing(&[node("n0").gpus(1).foreign(0, 20)]);
    site.add(&asking("p", "12Gi"));
    assert_eq!(site.bind("p", "n0").await, "");
    assert_eq!(site.free("n0"), Bytes::ZERO);
    site.script.has(facts_of(&asking("q", "12GiB")));
    assert_eq!(site.bind("q", "n0").await, "");
}

#[tokio::test]
async fn a_drain_begins_no_binding_and_waits_for_those_under_way() {
    let site = site();
    site.add(&asking("p", "12Gi"));
    site.add(&asking("q", "2Gi"));
    let tell = site.script.next_later();
    let order = order("p", "p", "n0");
    let bind = site.verb("/bind", &order);
    tokio::pin!(bind);
    assert!(futures::poll!(&mut bind).is_pending());
    until(|| is(&site, "p", "n0", "Binding")).await;

    let drain = site.gate.drain(Duration::from_secs(30));
    tokio::pin!(drain);
    assert!(futures::poll!(&mut drain).is_pending());
    assert_eq!(site.bind("q", "n0").await, "filmgate is shutting down");
    let answer = site.filter(&asking("q", "2Gi"), &["n0"]).await;
    assert_eq!(answer["Error"], "filmgate is shutting down");
    assert_eq!(site.ops("/readyz").await.status, 503);

    tell.send(BindOutcome::Bound).unwrap();
    drain.await;
    assert_eq!(bind.await["Error"], "");
    assert!(is(&site, "p", "n0", "Bound"));
}
