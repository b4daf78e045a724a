//! `/preempt`, in both of kube-scheduler's modes.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::site::{Site, asking, bound, plain};
use crate::support::node;

/// A pod of that priority.
fn ranked(name: &str, vram: &str, priority: i32) -> Value {
    let mut pod = asking(name, vram);
    pod["spec"]["priority"] = json!(priority);
    pod
}

fn high() -> Value {
    ranked("high", "16Gi", 1000)
}

/// Two nodes of one GPU, each with a pod of 20 GiB and low priority; the first node's is lower.
fn site() -> Site {
    let site = Site::with(&[node("n0").gpus(1), node("n1").gpus(1)]);
    occupy(&site);
    site
}

fn occupy(site: &Site) {
    for (name, priority, node) in [("low-0", 1, "n0"), ("low-1", 2, "n1")] {
        site.add(&bound(ranked(name, "20Gi", priority), node));
    }
}

/// A call by UIDs, each node to be cleared of one pod.
fn call(pod: &Value, nodes: &[(&str, &str)]) -> Value {
    let victims = |(node, uid): &(&str, &str)| {
        ((*node).to_owned(), json!({"Pods": [{"UID": uid}], "NumPDBViolations": 0}))
    };
    let nodes: serde_json::Map<_, _> = nodes.iter().map(victims).collect();
    json!({"Pod": pod, "NodeNameToVictims": null, "NodeNameToMetaVictims": nodes})
}

/// The answer's nodes.
async fn preempt(site: &Site, call: &Value) -> Value {
    site.verb("/preempt", call).await["NodeNameToMetaVictims"].clone()
}

fn one(node: &str, uid: &str) -> Value {
    json!({node: {"Pods": [{"UID": uid}], "NumPDBViolations": 0}})
}

const BOTH: [(&str, &str); 2] = [("n0", "low-0"), ("n1", "low-1")];

#[tokio::test]
async fn one_node_is_answered_and_its_place_is_kept() {
    let site = site();
    site.add(&high());
    assert_eq!(preempt(&site, &call(&high(), &BOTH)).await, one("n0", "low-0"));
    assert_eq!(site.claim("high"), Some(("n0".to_owned(), "Nominated".to_owned())));
    assert_eq!(site.metric("filmgate_preemption_victims_total").await, "1");
    assert_eq!(site.metric("filmgate_nominated_claims").await, "1");
    let labels = r#"node="n0",gpu="0",UUID="GPU-n0-0",modelName="NVIDIA L4""#;
    let nominated = format!("filmgate_gpu_kept_bytes{{{labels}}}");
    assert_eq!(site.metric(&nominated).await, "0", "the victim holds more");
    assert_eq!(preempt(&site, &call(&high(), &BOTH)).await, json!({}), "a second set");
    let count = |outcome| {
        format!("filmgate_request_duration_seconds_count{{outcome=\"{outcome}\",verb=\"preempt\"}}")
    };
    assert_eq!(site.metric(&count("ok")).await, "1");
    assert_eq!(site.metric(&count("no_node")).await, "1");
}

#[tokio::test]
async fn nobody_is_evicted_where_the_vram_would_not_fit() {
    let site = Site::with(&[node("n0").gpus(1).foreign(0, 10), node("n1").gpus(1)]);
    occupy(&site);
    assert_eq!(preempt(&site, &call(&high(), &BOTH)).await, one("n1", "low-1"));
    let before = site.state();
    let huge = ranked("huge", "24Gi", 1000);
    assert_eq!(preempt(&site, &call(&huge, &BOTH)).await, json!({}));
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn full_pods_are_answered_by_uid() {
    let site = site();
    let mut young = bound(ranked("young", "1Gi", 1), "n1");
    young["status"]["startTime"] = json!("2026-11-24T05:00:00Z");
    let mut old = bound(ranked("old", "1Gi", 1), "n0");
    old["status"]["startTime"] = json!("2026-11-24T04:00:00Z");
    // Neither is known here: what the call says of them counts.
    let victims = json!({
        "n0": {"Pods": [bound(ranked("low-0", "20Gi", 1), "n0"), old], "NumPDBViolations": 0},
        "n1": {"Pods": [bound(ranked("low-1", "20Gi", 1), "n1"), young], "NumPDBViolations": 0},
    });
    for (node, started) in [("n0", "2026-11-24T04:30:00Z"), ("n1", "2026-11-24T05:00:00Z")] {
        let mut low = bound(ranked(&format!("low-{}", &node[1..]), "20Gi", 1), node);
        low["status"]["startTime"] = json!(started);
        site.add(&low);
    }
    let call = json!({
        "Pod": high(), "NodeNameToVictims": victims, "NodeNameToMetaVictims": null,
    });
    let expected = json!({
        "n1": {"Pods": [{"UID": "low-1"}, {"UID": "young"}], "NumPDBViolations": 0}
    });
    assert_eq!(preempt(&site, &call).await, expected, "the earliest start is the latest there");
}

#[tokio::test]
async fn a_budget_that_would_be_violated_comes_last() {
    let site = site();
    let mut call = call(&high(), &BOTH);
    call["NodeNameToMetaVictims"]["n0"]["NumPDBViolations"] = json!(1);
    assert_eq!(preempt(&site, &call).await, one("n1", "low-1"));
}

#[tokio::test]
async fn an_answer_never_has_a_node_without_victims() {
    let site = site();
    let nothing = json!({"n0": {"Pods": [], "NumPDBViolations": 0}, "n1": {"Pods": null, "NumPDBViolations": 0}});
    let mut call = call(&high(), &BOTH);
    call["NodeNameToMetaVictims"] = nothing;
    assert_eq!(preempt(&site, &call).await, json!({}));
    call["Pod"] = plain("cpu");
    assert_eq!(preempt(&site, &call).await, json!({}));
    call["NodeNameToMetaVictims"] = json!({});
    assert_eq!(preempt(&site, &call).await, json!({}));
}

#[tokio::test]
async fn where_filmgate_has_no_say_every_candidate_comes_back() {
    let site = site();
    let all = call(&high(), &BOTH)["NodeNameToMetaVictims"].clone();
    assert_eq!(preempt(&site, &call(&plain("cpu"), &BOTH)).await, all);
    let observing = Site::observing(&[node("n0").gpus(1).foreign(0, 20), node("n1").gpus(1)]);
    occupy(&observing);
    let before = observing.state();
    assert_eq!(preempt(&observing, &call(&high(), &BOTH)).await, all);
    assert_eq!(observing.state(), before);
}

#[tokio::test]
async fn a_pod_whose_declaration_cannot_be_meant_evicts_nobody() {
    let site = site();
    let before = site.state();
    assert_eq!(preempt(&site, &call(&ranked("p", "12GiB", 1000), &BOTH)).await, json!({}));
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn what_cannot_be_said_now_fails_the_call() {
    let site = site();
    site.gate.set_ready(false);
    let reply = site.post("/preempt", call(&high(), &BOTH).to_string()).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.problem().contains("not ready yet"));
    site.gate.set_ready(true);
    site.add(&bound(high(), "n1"));
    let reply = site.post("/preempt", call(&high(), &BOTH).to_string()).await;
    assert_eq!(reply.problem(), "pod is already bound to node n1");
}

#[tokio::test]
async fn the_preemptor_is_refused_where_it_is_nominated_and_woken_when_memory_is_free() {
    let site = site();
    site.read(&node("n0").gpus(1).uses("low-0", 0, 20));
    site.add(&high());
    preempt(&site, &call(&high(), &BOTH)).await;
    let mut nominated = high();
    nominated["status"]["nominatedNodeName"] = json!("n0");
    site.add(&nominated);
    let text = json!("not enough free VRAM");
    let answer = site.filter(&nominated, &["n0"]).await;
    assert_eq!(answer["FailedNodes"], json!({"n0": text}));
    let small = asking("small", "2Gi");
    site.add(&small);
    site.gate.delete_pod(&"low-0".into(), None);
    site.clock.advance(Duration::from_secs(31));
    site.read_now(&node("n0").gpus(1).uses("low-0", 0, 20));
    site.gate.round();
    assert!(site.script.wakes().is_empty(), "its memory lingers");
    assert!(site.passing(&asking("mid", "8Gi"), &["n0"]).await.is_empty());
    site.clock.advance(Duration::from_secs(2));
    site.read(&node("n0").gpus(1));
    assert!(site.passing(&asking("mid", "8Gi"), &["n0"]).await.is_empty(), "the place is kept");
    site.gate.round();
    assert_eq!(site.script.wakes(), ["high"]);
    assert_eq!(site.passing(&nominated, &["n0"]).await, ["n0"]);
    assert_eq!(site.bind("high", "n0").await, "");
    assert_eq!(site.metric("filmgate_nominated_claims").await, "0");
}

#[tokio::test]
async fn a_higher_pod_that_was_judged_before_the_watch_showed_it_is_woken() {
    let site = site();
    site.add(&high());
    preempt(&site, &call(&high(), &BOTH)).await;
    site.gate.delete_pod(&"low-0".into(), None);
    site.clock.advance(Duration::from_secs(31));
    site.read_now(&node("n0").gpus(1));
    let higher = ranked("higher", "16Gi", 1001);
    assert!(site.passing(&higher, &["n0"]).await.is_empty(), "who knows its priority?");
    site.gate.round();
    site.add(&higher);
    site.gate.round();
    assert_eq!(site.script.wakes(), ["higher"]);
    assert_eq!(site.passing(&higher, &["n0"]).await, ["n0"]);
}

#[tokio::test]
async fn explain_shows_what_is_nominated_and_for_whom() {
    let site = site();
    site.add(&ranked("high", "22Gi", 1000));
    preempt(&site, &call(&ranked("high", "22Gi", 1000), &BOTH)).await;
    let own = site.get("/explain?pod=default/high").await.json();
    assert_eq!((&own["state"], &own["claim"]), (&json!("placed"), &json!("nominated")));
    let other = site.verb("/explain", &asking("p", "2Gi")).await;
    let n0 = other["nodes"].as_array().unwrap().iter().find(|node| node["node"] == "n0").unwrap();
    let gpu = &n0["gpus"][0];
    assert_eq!(gpu["keptBytes"], json!(2_u64 << 30), "22 less the 20 that are still there");
    let higher = site.verb("/explain", &ranked("p", "2Gi", 1001)).await;
    assert!(!higher.to_string().contains("\"keptBytes\":2"), "it passes around");
    let tenant = json!({
        "pod": "default/high", "state": "nominated", "chargedBytes": 22_u64 << 30, "measuredBytes": 0
    });
    assert!(gpu["tenants"].as_array().unwrap().contains(&tenant), "{gpu}");
}
