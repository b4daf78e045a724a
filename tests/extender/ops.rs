//! Metrics and health.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use crate::site::{Site, asking};
use crate::support::node;

#[tokio::test]
async fn ready_means_that_calls_are_answered() {
    let site = Site::with(&[]);
    assert_eq!(site.ops("/readyz").await.status, StatusCode::OK);
    site.gate.set_ready(false);
    let reply = site.ops("/readyz").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text.contains("not ready yet"));
    assert_eq!(site.ops("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_verbs_are_not_served_where_metrics_are() {
    let site = Site::with(&[]);
    for path in ["/filter", "/bind", "/explain?pod=a/b"] {
        assert_eq!(site.ops(path).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn each_gpu_has_its_bytes_and_none_when_it_is_gone() {
    let site = Site::with(&[node("n0").gpus(1).foreign(0, 4), node("n1").gpus(1)]);
    site.add(&asking("p", "12Gi"));
    site.bind("p", "n0").await;
    site.passing(&asking("q", "2Gi"), &["n0"]).await;
    let series =
        |name| format!("{name}{{node=\"n0\",gpu=\"0\",UUID=\"GPU-n0-0\",modelName=\"NVIDIA L4\"}}");
    let gib = |gib: u64| (gib << 30).to_string();
    assert_eq!(site.metric(&series("filmgate_gpu_charged_bytes")).await, gib(12));
    assert_eq!(site.metric(&series("filmgate_gpu_held_bytes")).await, gib(2));
    assert_eq!(site.metric(&series("filmgate_gpu_free_bytes")).await, (11_u64 << 29).to_string());
    assert_eq!(site.metric(&series("filmgate_overdrawn_bytes")).await, "0");
    assert_eq!(site.metric("filmgate_reading_age_seconds{node=\"n0\"}").await, "0.000");
    site.gate.delete_node(&"n0".into());
    assert!(!site.ops("/metrics").await.text.contains("GPU-n0-0"));
}

#[tokio::test]
async fn what_the_fleet_lacks_is_told_by_namespace_size_and_workload() {
    let n0 = node("n0").gpus(1).replicas(4);
    let site = Site::with(&[n0.clone(), node("n1").gpus(1)]);
    site.add(&asking("p", "12Gi"));
    site.bind("p", "n0").await;
    site.read(&n0.uses("p", 0, 9));
    let mut theirs = asking("theirs", "12Gi");
    theirs["spec"]["schedulerName"] = json!("default-scheduler");
    let mut gated = asking("gated", "12Gi");
    gated["spec"]["schedulingGates"] = json!([{"name": "quota"}]);
    for pod in [asking("q", "20Gi"), asking("r", "20Gi"), asking("s", "40Gi"), theirs, gated] {
        site.add(&pod);
    }
    site.clock.advance(Duration::from_secs(5));
    for (series, value) in [
        ("filmgate_pending_pods{namespace=\"default\"}", 3),
        ("filmgate_pending_vram_bytes{namespace=\"default\"}", 80 << 30),
        ("filmgate_unplaceable_pods{reason=\"not_enough_vram\"}", 1),
        ("filmgate_gpu_equivalents_needed", 1),
        ("filmgate_node_equivalents_needed", 1),
        ("filmgate_slots{size=\"8Gi\"}", 2),
        ("filmgate_slots{size=\"24Gi\"}", 0),
        ("filmgate_workload_slots{namespace=\"default\",workload=\"p\"}", 1),
        (
            "filmgate_workload_footprint_bytes{namespace=\"default\",workload=\"p\",quantile=\"0.95\"}",
            9 << 30,
        ),
    ] {
        assert_eq!(site.metric(series).await, u64::to_string(&value), "{series}");
    }
    assert_eq!(site.metric("filmgate_node_idle_seconds{node=\"n0\"}").await, "0.000");
    assert_eq!(site.metric("filmgate_node_idle_seconds{node=\"n1\"}").await, "5.000");
}

#[tokio::test]
async fn a_name_that_would_break_the_format_is_escaped() {
    let odd = node("n0").gpus(1).gpu(0, |gpu| gpu.model = "a\"b\\c\nd".into());
    let site = Site::with(&[odd]);
    let text = site.ops("/metrics").await.text;
    assert!(text.contains(r#"modelName="a\"b\\c\nd""#), "{text}");
}

#[tokio::test]
async fn calls_are_counted_by_verb_and_outcome() {
    let site = Site::with(&[node("n0").gpus(1)]);
    site.filter(&asking("p", "12Gi"), &["n0"]).await;
    site.filter(&asking("p", "40Gi"), &["n0"]).await;
    site.filter(&asking("p", "40GiB"), &["n0"]).await;
    site.post("/filter", "{").await;
    site.scores(&asking("p", "12Gi"), &["n0"]).await;
    site.add(&asking("p", "12Gi"));
    site.bind("p", "n0").await;
    for (verb, outcome) in [
        ("filter", "ok"),
        ("filter", "no_node"),
        ("filter", "bad_request"),
        ("filter", "invalid"),
        ("prioritize", "ok"),
        ("bind", "ok"),
    ] {
        let labels = format!("{{outcome=\"{outcome}\",verb=\"{verb}\"}}");
        let series = format!("filmgate_request_duration_seconds_count{labels}");
        assert_eq!(site.metric(&series).await, "1", "{verb} {outcome}");
    }
    assert!(site.ops("/metrics").await.text.contains("le=\"0.0001\""));
}
