//! The wire, byte by byte, and `explain`'s documented shape. `FILMGATE_BLESS=1` writes them anew.

use std::path::PathBuf;

use serde_json::Value;

use crate::site::{Site, asking, bound};
use crate::support::node;

/// Compares with the file, or writes it.
pub(crate) fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/extender/golden").join(name);
    if std::env::var_os("FILMGATE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{name} differs; FILMGATE_BLESS=1 writes it anew");
}

/// A call as kube-scheduler 1.37 sends it.
fn recorded(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/extender/golden").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn site() -> Site {
    let (n0, n1, n2) = (node("n0"), node("n1"), node("n2"));
    Site::with(&[n0.gpus(1), n1.gpus(1).foreign(0, 8), n2.gpus(1).foreign(0, 20)])
}

#[tokio::test]
async fn filter_answers_in_gos_words() {
    let reply = site().post("/filter", recorded("filter-call.json")).await;
    check("filter-answer.json", &reply.text);
}

#[tokio::test]
async fn filter_answers_full_nodes_in_gos_words() {
    let reply = site().post("/filter", recorded("filter-full-call.json")).await;
    check("filter-full-answer.json", &reply.text);
}

#[tokio::test]
async fn filter_says_in_gos_words_that_it_cannot_say() {
    let site = site();
    site.gate.set_ready(false);
    let reply = site.post("/filter", recorded("filter-call.json")).await;
    check("filter-error.json", &reply.text);
}

#[tokio::test]
async fn prioritize_answers_in_gos_words() {
    let reply = site().post("/prioritize", recorded("filter-call.json")).await;
    check("prioritize-answer.json", &reply.text);
}

#[tokio::test]
async fn bind_answers_in_gos_words() {
    let site = site();
    let mut pod = asking("comfy-0", "12Gi");
    pod["metadata"]["uid"] = "9f2c1d8e-0000-4000-8000-000000000001".into();
    site.add(&pod);
    let reply = site.post("/bind", recorded("bind-call.json")).await;
    check("bind-answer.json", &reply.text);
    let reply = site.post("/bind", recorded("bind-call.json").replace("n1", "n2")).await;
    check("bind-error.json", &reply.text);
}

/// As [`site`], with the victims of the calls, which differ in their start alone.
fn crowded() -> Site {
    let site = Site::with(&[node("n0").gpus(1), node("n1").gpus(1)]);
    let victims = [("n0", "a", "2026-11-24T03:00:02Z"), ("n1", "b", "2026-11-24T03:30:02Z")];
    for (node, digit, started) in victims {
        let mut pod = bound(asking(&format!("low-{}", &node[1..]), "16Gi"), node);
        pod["metadata"]["uid"] = format!("5b1d7f60-0000-4000-8000-00000000000{digit}").into();
        pod["spec"]["priority"] = 10.into();
        pod["status"]["startTime"] = started.into();
        site.add(&pod);
    }
    site
}

#[tokio::test]
async fn preempt_answers_in_gos_words_in_both_modes() {
    for call in ["preempt-call.json", "preempt-full-call.json"] {
        let site = crowded();
        let reply = site.post("/preempt", recorded(call)).await;
        check("preempt-answer.json", &reply.text);
        let reply = site.post("/preempt", recorded(call)).await;
        check("preempt-nobody.json", &reply.text);
    }
}

#[test]
fn the_recorded_calls_are_json() {
    for name in [
        "filter-call.json",
        "filter-full-call.json",
        "bind-call.json",
        "preempt-call.json",
        "preempt-full-call.json",
    ] {
        serde_json::from_str::<Value>(&recorded(name)).unwrap();
    }
}
