//! `/explain`.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::golden::check;
use crate::site::{Site, asking, plain};
use crate::support::node;

fn site() -> Site {
    let busy = node("gpu-1").gpus(1).replicas(4).foreign(0, 4).uses("other", 0, 9);
    let site = Site::with(&[busy, node("gpu-2").gpus(2).foreign(0, 14)]);
    site.gate.apply_node(node("gpu-3").facts);
    site.clock.advance(Duration::from_millis(400));
    site
}

async fn what_if(site: &Site, pod: &Value) -> Value {
    site.verb("/explain", pod).await
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[tokio::test]
async fn a_what_if_shows_every_figure_and_changes_nothing() {
    let site = site();
    let before = site.state();
    let answer = what_if(&site, &asking("p", "12Gi")).await;
    check("explain-what-if.json", &pretty(&answer));
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn a_waiting_pod_is_told_its_place_and_the_nearest_miss() {
    let site = site();
    let pod = asking("p", "30Gi");
    site.add(&pod);
    site.filter(&pod, &["gpu-1", "gpu-2", "gpu-3"]).await;
    site.clock.advance(Duration::from_secs(2));
    let answer = site.get("/explain?pod=default/p").await.json();
    check("explain-waiting.json", &pretty(&answer));
}

#[tokio::test]
async fn a_bound_pod_is_told_its_gpu() {
    let site = site();
    site.add(&asking("p", "6Gi"));
    site.bind("p", "gpu-2").await;
    let answer = site.get("/explain?pod=default/p").await.json();
    assert_eq!(answer["state"], "placed");
    assert_eq!(answer["claim"], "bound");
    assert_eq!(answer["node"], "gpu-2");
    assert_eq!(answer["charged"], json!([{"gpu": "GPU-gpu-2-0", "bytes": 6_442_450_944_u64}]));
}

#[tokio::test]
async fn a_bad_annotation_is_the_problem() {
    let site = site();
    let answer = what_if(&site, &asking("p", "12GiB")).await;
    let problem = answer["problem"].as_str().unwrap();
    assert!(problem.contains("\"12GiB\" is not a quantity of memory"), "{problem}");
    assert_eq!((&answer["nodes"], &answer["asks"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn a_pod_without_a_gpu_passes_everywhere() {
    assert_eq!(what_if(&site(), &plain("p")).await["state"], "noGpu");
}

#[tokio::test]
async fn a_pod_that_nobody_knows_is_not_found() {
    let site = site();
    let reply = site.get("/explain?pod=default/x").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.problem(), "filmgate knows no pod default/x that asks for a GPU");
    for path in ["/explain", "/explain?pod=x", "/explain?pode=a/b"] {
        assert_eq!(site.get(path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn explain_works_before_calls_are_answered_and_says_so() {
    let site = site();
    site.gate.set_ready(false);
    assert_eq!(what_if(&site, &asking("p", "12Gi")).await["isAnswering"], false);
}
