//! What cannot be meant: each is answered in words, and changes nothing.

use axum::http::StatusCode;
use filmgate::engine::{Arrival, Bytes};
use filmgate::extender::GateSettings;
use serde_json::json;

use crate::site::{Site, asking, order};
use crate::support::node;

fn site() -> Site {
    Site::with(&[node("n0").gpus(1), node("n1").gpus(1)])
}

#[tokio::test]
async fn a_declaration_that_cannot_be_meant_is_refused_in_words() {
    for (value, problem) in [
        ("12GiB", "\"12GiB\" is not a quantity of memory"),
        ("-1", "\"-1\" must be above zero"),
        ("0", "\"0\" must be above zero"),
        ("12", "\"12\" is 12 bytes, less than 64 MiB and surely a mistake"),
        ("99999999999999999999", "\"99999999999999999999\" is larger than any GPU"),
    ] {
        let site = site();
        let pod = asking("p", value);
        site.add(&pod);
        let before = site.state();
        let answer = site.filter(&pod, &["n0", "n1"]).await;
        let text = format!("annotation filmgate.dev/vram: {problem}; write for example 12Gi");
        let refusals = json!({"n0": text, "n1": text});
        assert_eq!(answer["FailedAndUnresolvableNodes"], refusals);
        assert_eq!(answer["NodeNames"], json!([]));
        assert_eq!(site.bind("p", "n0").await, text);
        assert_eq!(site.state(), before);
        assert!(site.script.sent().is_empty());
    }
}

#[tokio::test]
async fn a_pod_whose_declaration_was_broken_gives_up_its_hold() {
    let site = site();
    site.passing(&asking("p", "12Gi"), &["n0"]).await;
    assert!(site.is_held_on("p", "n0"));
    site.filter(&asking("p", "12GiB"), &["n0"]).await;
    assert_eq!(site.claim("p"), None);
}

#[tokio::test]
async fn a_body_that_is_no_call_is_answered_400_and_says_what_is_wrong() {
    let site = site();
    let before = site.state();
    for (path, body, says) in [
        ("/filter", "", "the body is no filter call: EOF"),
        ("/filter", "nonsense", "the body is no filter call: expected"),
        ("/filter", "{}", "the body is no filter call: it has no Pod"),
        ("/filter", "{\"Pod\":null,\"NodeNames\":null}", "it has no Pod"),
        ("/filter", "{\"Pod\":[],\"NodeNames\":[]}", "the body is no filter call: Pod: "),
        ("/filter", "{\"Pod\":{},\"NodeNames\":[1]}", "expected a name"),
        (
            "/filter",
            "{\"Pod\":{},\"Nodes\":{\"items\":[{}]}}",
            "Nodes.items[0] has no metadata.name",
        ),
        ("/filter", "[1,2", "the body is no filter call: "),
        ("/prioritize", "{}", "the body is no prioritize call: it has no Pod"),
        ("/preempt", "", "the body is no preempt call: EOF"),
        ("/preempt", "{}", "the body is no preempt call: it has no Pod"),
        ("/preempt", "{\"Pod\":{}}", "it has neither NodeNameToMetaVictims nor NodeNameToVictims"),
        ("/preempt", "{\"Pod\":{},\"NodeNameToMetaVictims\":[]}", "expected a map"),
        ("/preempt", "{\"Pod\":{},\"NodeNameToMetaVictims\":{\"n0\":null}}", "invalid type: null"),
        (
            "/preempt",
            "{\"Pod\":{},\"NodeNameToMetaVictims\":{\"n0\":{\"Pods\":[{}]}}}",
            "missing field `UID`",
        ),
        (
            "/preempt",
            "{\"Pod\":{},\"NodeNameToMetaVictims\":{\"n0\":{\"Pods\":[{\"UID\":\"\"}]}}}",
            "a victim on node n0 has no UID",
        ),
        (
            "/preempt",
            "{\"Pod\":{},\"NodeNameToVictims\":{\"n0\":{\"Pods\":[{\"metadata\":{}}]}}}",
            "a victim on node n0 has no UID",
        ),
        ("/bind", "", "the body is no bind call: EOF"),
        ("/bind", "{\"PodName\":\"p\"}", "missing field"),
        ("/explain", "{", "the body is no Pod: EOF"),
    ] {
        let reply = site.post(path, body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path} {body}");
        assert!(reply.problem().contains(says), "{path} {body}: {}", reply.problem());
    }
    let mut nameless = order("p", "p", "n0");
    nameless["PodUID"] = json!("");
    let reply = site.post("/bind", nameless.to_string()).await;
    assert_eq!(reply.problem(), "the body is no bind call: PodUID is empty");
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn text_that_is_no_utf_8_is_no_call() {
    let site = site();
    let reply = site.post("/filter", vec![b'{', 0xff, b'}']).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_oversized_body_is_answered_413() {
    let settings = GateSettings { max_body_bytes: 1000, ..GateSettings::default() };
    let site = Site::under(settings, &[node("n0").gpus(1)]);
    let before = site.state();
    for (path, limit) in [
        ("/filter", 1000),
        ("/prioritize", 1000),
        ("/preempt", 1000),
        ("/explain", 1000),
        ("/bind", 65536),
    ] {
        let reply = site.post(path, vec![b' '; limit + 1]).await;
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(reply.problem().contains(&format!("({limit} bytes)")), "{}", reply.problem());
    }
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn other_methods_and_paths_are_no_calls() {
    let site = site();
    assert_eq!(site.get("/filter").await.status, StatusCode::METHOD_NOT_ALLOWED);
    let reply = site.post("/preempted", "{}").await;
    assert_eq!(
        (reply.status, &*reply.problem()),
        (StatusCode::NOT_FOUND, "there is no /preempted")
    );
}

#[tokio::test]
async fn nodes_that_nobody_knows_are_refused() {
    let site = site();
    let pod = asking("p", "12Gi");
    let answer = site.filter(&pod, &["x", "", "n0\"\\\n"]).await;
    let text = "node unknown to filmgate";
    assert_eq!(
        answer["FailedAndUnresolvableNodes"],
        json!({"x": text, "": text, "n0\"\\\n": text})
    );
    assert_eq!(site.claim("p"), None);
}

#[tokio::test]
async fn an_empty_list_is_answered_with_one() {
    let site = site();
    let pod = asking("p", "12Gi");
    site.add(&pod);
    let before = site.state();
    let answer = site.filter(&pod, &[]).await;
    assert_eq!((&answer["NodeNames"], &answer["Error"]), (&json!([]), &json!("")));
    assert!(site.scores(&pod, &[]).await.is_empty());
    for body in [json!({"Pod": pod}), json!({"Pod": pod, "Nodes": {"items": null}})] {
        assert_eq!(site.verb("/filter", &body).await["Error"], "");
        assert_eq!(site.verb("/prioritize", &body).await, json!([]));
    }
    assert_eq!(site.state(), before);
    assert!(site.script.reports().is_empty());
}

#[tokio::test]
async fn the_same_name_twice_is_one_node() {
    let site = site();
    let pod = asking("p", "12Gi");
    assert_eq!(site.passing(&pod, &["n0", "n0"]).await, ["n0", "n0"]);
    assert!(site.is_held_on("p", "n0"), "one node remains");
    let scores = site.scores(&pod, &["n0", "n1", "n0"]).await;
    assert_eq!(scores.len(), 3);
    let text = site.post(
        "/filter",
        json!({"Pod": asking("q", "40Gi"), "NodeNames": ["n0", "x", "n0", "x"]}).to_string(),
    );
    let text = text.await.text;
    assert_eq!(text.matches("\"n0\":").count(), 1, "{text}");
    assert_eq!(text.matches("\"x\":").count(), 1, "{text}");
}

#[tokio::test]
async fn a_name_with_escapes_is_found() {
    let site = site();
    let body = format!(r#"{{"Pod":{},"NodeNames":["\u006e0"]}}"#, asking("p", "12Gi"));
    assert_eq!(site.post("/filter", body).await.json()["NodeNames"], json!(["n0"]));
    assert!(site.is_held_on("p", "n0"));
}

#[tokio::test]
async fn a_reading_that_cannot_be_true_closes_its_node_until_a_better_one_comes() {
    let site = site();
    let impossible =
        node("n0").gpus(1).gpu(0, |gpu| gpu.used = Bytes::gib(25)).sampling(u64::MAX - 1);
    let arrival = site.gate.apply_reading(impossible.reading.into(), site.clock.now(), None);
    assert!(matches!(arrival, Arrival::Impossible(_)));
    let pod = asking("p", "12Gi");
    let answer = site.filter(&pod, &["n0", "n1"]).await;
    assert_eq!(answer["FailedAndUnresolvableNodes"], json!({"n0": "impossible GPU telemetry"}));
    let better = node("n0").gpus(1).sampling(u64::MAX);
    site.gate.apply_reading(better.reading.into(), site.clock.now(), None);
    assert_eq!(site.passing(&pod, &["n0", "n1"]).await, ["n0", "n1"]);
}
