//! Sizes that matter: nothing here measures time, but a quadratic step would hang it.

use serde_json::json;

use crate::site::{Site, asking};
use crate::support::node;

#[tokio::test]
async fn ten_thousand_names_are_answered() {
    let names: Vec<String> = (0..10_000).map(|at| format!("node-{at:05}")).collect();
    let nodes: Vec<_> = names.iter().map(|name| node(name).gpus(1)).collect();
    let site = Site::with(&nodes);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(site.passing(&asking("p", "12Gi"), &names).await.len(), 10_000);
    assert_eq!(site.scores(&asking("p", "12Gi"), &names).await.len(), 10_000);
    let refused = site.filter(&asking("q", "40Gi"), &names).await;
    assert_eq!(refused["FailedAndUnresolvableNodes"].as_object().unwrap().len(), 10_000);
}

#[tokio::test]
async fn a_thousand_full_nodes_are_answered() {
    let names: Vec<String> = (0..1000).map(|at| format!("node-{at:04}")).collect();
    let site = Site::with(&names.iter().map(|name| node(name).gpus(1)).collect::<Vec<_>>());
    let filler = "x".repeat(10_000);
    let full = |name| json!({"metadata": {"name": name}, "status": {"images": [filler]}});
    let items: Vec<_> = names.iter().map(full).collect();
    let body = json!({"Pod": asking("p", "12Gi"), "Nodes": {"items": items}});
    let answer = site.verb("/filter", &body).await;
    assert_eq!(answer["Nodes"]["items"].as_array().unwrap().len(), 1000);
}
