//! `/fleet`: what `filmgate top` and the page show.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::golden::check;
use crate::site::{Site, asking};
use crate::support::node;

/// One pod bound, one that waits for more than any GPU has, one that nobody asked about yet.
async fn site() -> Site {
    let busy = node("gpu-1").gpus(1).replicas(4).foreign(0, 4).uses("other", 0, 9);
    let site = Site::with(&[busy, node("gpu-2").gpus(2).foreign(0, 14)]);
    site.add(&asking("small", "6Gi"));
    site.bind("small", "gpu-2").await;
    let big = asking("big", "30Gi");
    site.add(&big);
    site.filter(&big, &["gpu-1", "gpu-2"]).await;
    site.add(&asking("new", "2Gi"));
    site.clock.advance(Duration::from_millis(400));
    site
}

async fn fleet(site: &Site, query: &str) -> Value {
    site.get(&format!("/fleet{query}")).await.json()
}

fn names(fleet: &Value) -> Vec<&str> {
    fleet["nodes"].as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn shows_every_gpu_and_who_has_what_of_it_and_who_waits() {
    let site = site().await;
    let before = site.state();
    let answer = fleet(&site, "").await;
    check("fleet.json", &(serde_json::to_string_pretty(&answer).unwrap() + "\n"));
    assert_eq!(site.state(), before, "a look changes nothing");
}

#[tokio::test]
async fn sums_are_those_of_the_gpus() {
    let answer = fleet(&site().await, "").await;
    let gpus = answer["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|node| node["gpus"].as_array().unwrap());
    for (sum, figure) in
        [("totalBytes", "totalBytes"), ("freeBytes", "freeBytes"), ("chargedBytes", "chargedBytes")]
    {
        let of_gpus: u64 = gpus.clone().map(|gpu| gpu[figure].as_u64().unwrap()).sum();
        assert_eq!(answer["totals"][sum], of_gpus, "{sum}");
    }
    assert_eq!(answer["totals"]["pendingPods"], 2);
}

#[tokio::test]
async fn a_part_is_found_by_node_or_by_pod() {
    let site = site().await;
    assert_eq!(names(&fleet(&site, "?match=gpu-1").await), ["gpu-1"]);
    assert_eq!(names(&fleet(&site, "?match=default/small").await), ["gpu-2"]);
    assert_eq!(names(&fleet(&site, "?match=none").await), [""; 0]);
    let some = fleet(&site, "?limit=1").await;
    assert_eq!((names(&some), &some["matchedNodes"]), (vec!["gpu-1"], &json!(2)));
}

#[tokio::test]
async fn a_part_that_cannot_be_meant_is_said() {
    let site = site().await;
    for query in ["?limit=many", "?limit=-1", "?nodes=3"] {
        let reply = site.get(&format!("/fleet{query}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(reply.problem().starts_with("write /fleet?match=TEXT&limit=NODES"), "{query}");
        assert_eq!(
            site.get(&format!("/fleet/stream{query}")).await.status,
            StatusCode::BAD_REQUEST
        );
    }
}

fn stream_of(path: &str) -> Request<Body> {
    let request = Request::builder().uri(path).header(header::HOST, "127.0.0.1");
    request.body(Body::empty()).unwrap()
}

async fn next(body: &mut Body) -> Option<Value> {
    let frame = body.frame().await?.unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    let data = text.trim().strip_prefix("data: ").unwrap_or_else(|| panic!("{text}"));
    Some(serde_json::from_str(data).unwrap())
}

#[tokio::test]
async fn a_stream_shows_what_changes_and_ends_with_the_extender() {
    let site = site().await;
    let mut body = site.send(stream_of("/fleet/stream?match=gpu-2")).await.into_body();
    let first = next(&mut body).await.unwrap();
    assert_eq!((names(&first), &first["totals"]["pendingPods"]), (vec!["gpu-2"], &json!(2)));
    site.bind("new", "gpu-2").await;
    let second = next(&mut body).await.unwrap();
    assert_eq!(second["totals"]["pendingPods"], 1);
    site.gate.drain(Duration::ZERO).await;
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn so_many_streams_and_no_more_are_open() {
    let site = site().await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let answer = site.send(stream_of("/fleet/stream")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        open.push(answer.into_body());
    }
    let refused = site.send(stream_of("/fleet/stream")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    open.pop();
    assert_eq!(site.send(stream_of("/fleet/stream")).await.status(), StatusCode::OK);
}
