use std::io::Read;

use serde_json::json;

use super::*;
use crate::cluster::identity::FENCE_ANNOTATION;
use crate::engine::{Bytes, GpuAsk, HoldOutcome, PodRef, Vram};

const CHARGED: &str = "filmgate.dev/vram-charged";

fn admission() -> Admission {
    Admission {
        pod: PodRef { namespace: "art".into(), name: "comfy".into(), uid: "u1".into() },
        resource_version: "7".into(),
        ask: Some(GpuAsk::unsteered(1, Vram::Declared(Bytes::gib(12)))),
        annotations: vec![(CHARGED.to_owned(), "GPU-a=1".to_owned())],
        hold: HoldOutcome::Used,
    }
}

/// The pod that was admitted, with `change` in it.
fn pod(change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {
            "namespace": "art", "name": "comfy", "uid": "u1", "resourceVersion": "8",
            "annotations": {"filmgate.dev/vram": "12Gi"},
        },
        "spec": {"containers": [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
    });
    change(&mut pod);
    serde_json::from_value(pod).unwrap()
}

/// What follows from finding that pod after a conflict.
async fn next_for(admission: &Admission, identity: &Identity, pod: Option<&Pod>) -> Next {
    let never = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
    let client = Client::try_from(never).unwrap();
    let defaults = NamespaceDefaults::new(None);
    let node = NodeName::from("n0");
    let binding =
        Binding { client: &client, identity, defaults: &defaults, admission, node: &node };
    binding.after_conflict(pod, "7", "the object has been modified")
}

async fn after(change: impl FnOnce(&mut Value)) -> Next {
    next_for(&admission(), &Identity::new("gate-0"), Some(&pod(change))).await
}

fn is_refused(next: &Next, why: &str) -> bool {
    matches!(next, Next::Done(BindOutcome::Refused(text)) if text.contains(why))
}

fn is_superseded(next: &Next) -> bool {
    matches!(next, Next::Done(BindOutcome::Superseded(_)))
}

#[tokio::test]
async fn a_write_that_does_not_matter_is_worth_another_try() {
    assert_eq!(after(|_| {}).await, Next::Retry("8".to_owned()));
    let identity = Identity::new("gate-0");
    let fence = identity.fence();
    let fenced = pod(|pod| pod["metadata"]["annotations"][FENCE_ANNOTATION] = json!(fence));
    let next = next_for(&admission(), &identity, Some(&fenced)).await;
    assert_eq!(next, Next::Retry("8".to_owned()), "our own fence");
}

#[tokio::test]
async fn our_node_under_our_decision_is_success() {
    let bound = |pod: &mut Value| {
        pod["spec"]["nodeName"] = json!("n0");
        pod["metadata"]["annotations"][CHARGED] = json!("GPU-a=1");
    };
    assert_eq!(after(bound).await, Next::Done(BindOutcome::Bound));
}

#[tokio::test]
async fn another_decision_stands_whoever_made_it() {
    assert!(is_superseded(&after(|pod| pod["spec"]["nodeName"] = json!("n0")).await));
    assert!(is_superseded(&after(|pod| pod["spec"]["nodeName"] = json!("n1")).await));
}

#[tokio::test]
async fn another_pod_or_none_is_not_bound() {
    assert!(is_superseded(&after(|pod| pod["metadata"]["uid"] = json!("u2")).await));
    let none = next_for(&admission(), &Identity::new("gate-0"), None).await;
    assert!(is_superseded(&none));
}

#[tokio::test]
async fn another_holders_fence_stops_us() {
    let fence = |pod: &mut Value| {
        pod["metadata"]["annotations"][FENCE_ANNOTATION] = json!("gate-1/5/0");
    };
    assert!(is_refused(&after(fence).await, "gate-1/5/0"));
}

#[tokio::test]
async fn room_was_not_found_for_a_pod_that_asks_for_more_by_now() {
    let more = |pod: &mut Value| {
        pod["metadata"]["annotations"]["filmgate.dev/vram"] = json!("20Gi");
    };
    assert!(is_refused(&after(more).await, "something else"));
}

#[tokio::test]
async fn a_place_of_gpus_that_the_decision_does_not_write_over_stops_us() {
    let other = |pod: &mut Value| {
        pod["metadata"]["annotations"]["filmgate.dev/gpu.other"] = json!("GPU-x");
    };
    assert!(is_refused(&after(other).await, "a new annotation of GPUs"));
    let known = ("filmgate.dev/gpu.other".to_owned(), "GPU-a".to_owned());
    let knowing = Admission { annotations: vec![known], ..admission() };
    let next = next_for(&knowing, &Identity::new("gate-0"), Some(&pod(other))).await;
    assert_eq!(next, Next::Retry("8".to_owned()));
}

#[tokio::test]
async fn a_conflict_that_no_newer_version_explains_is_final() {
    let same = after(|pod| pod["metadata"]["resourceVersion"] = json!("7")).await;
    assert!(is_refused(&same, "the object has been modified"));
    let deletion = |pod: &mut Value| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    };
    assert!(is_refused(&after(deletion).await, "the object has been modified"));
}

#[tokio::test]
async fn a_pod_that_nothing_was_decided_about_is_tried_again() {
    let plain = Admission {
        resource_version: "".into(),
        ask: None,
        annotations: Vec::new(),
        ..admission()
    };
    let next = next_for(&plain, &Identity::new("gate-0"), Some(&pod(|_| {}))).await;
    assert_eq!(next, Next::Retry("8".to_owned()));
}

#[test]
fn a_binding_carries_preconditions_and_decision() {
    let body = body(&admission(), &"n0".into(), "8");
    assert_eq!(body["metadata"]["uid"], "u1");
    assert_eq!(body["metadata"]["resourceVersion"], "8");
    assert_eq!(body["metadata"]["annotations"], json!({CHARGED: "GPU-a=1"}));
    assert_eq!(body["target"]["name"], "n0");
    let without = super::body(&admission(), &"n0".into(), "");
    assert_eq!(without["metadata"].get("resourceVersion"), None);
}

fn answered(code: u16) -> Failure {
    Failure::Answered { code, message: "no".to_owned() }
}

#[test]
fn only_an_answer_that_rules_the_binding_out_is_a_refusal() {
    use BindOutcome::{Refused, Superseded, Unknown};
    for code in [400, 401, 403, 413, 422, 429] {
        assert!(matches!(outcome_of(&answered(code)), Refused(_)), "{code}");
    }
    assert!(matches!(outcome_of(&answered(404)), Superseded(_)));
    for code in [0, 408, 500, 502, 503, 504] {
        assert!(matches!(outcome_of(&answered(code)), Unknown(_)), "{code}");
    }
    assert!(matches!(outcome_of(&Failure::NotSent(String::new())), Refused(_)));
    assert!(matches!(outcome_of(&Failure::Lost(String::new())), Unknown(_)));
}

#[tokio::test]
async fn a_binding_that_found_nobody_to_talk_to_was_never_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert!(matches!(bind_at(address).await, BindOutcome::Refused(_)));
}

#[tokio::test]
async fn a_binding_whose_connection_broke_after_it_was_sent_is_in_doubt() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hang_up = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.read_exact(&mut [0; 16]).unwrap();
    });
    assert!(matches!(bind_at(address).await, BindOutcome::Unknown(_)));
    hang_up.join().unwrap();
}

#[tokio::test]
async fn a_binding_without_an_answer_is_in_doubt_and_one_without_time_is_not_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert!(matches!(
        bind_within(address, Duration::from_millis(50)).await,
        BindOutcome::Unknown(_)
    ));
    assert!(matches!(bind_within(address, Duration::ZERO).await, BindOutcome::Refused(_)));
}

async fn bind_at(address: std::net::SocketAddr) -> BindOutcome {
    bind_within(address, Duration::from_secs(10)).await
}

async fn bind_within(address: std::net::SocketAddr, deadline: Duration) -> BindOutcome {
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    config.default_retry = false;
    let (client, identity) = (Client::try_from(config).unwrap(), Identity::new("gate-0"));
    let (admission, defaults) = (admission(), NamespaceDefaults::new(None));
    let node = NodeName::from("n0");
    let (client, identity, defaults) = (&client, &identity, &defaults);
    let binding = Binding { client, identity, defaults, admission: &admission, node: &node };
    binding.post_within(deadline).await
}
