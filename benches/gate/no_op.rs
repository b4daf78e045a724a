//! An extender that decides nothing: it parses what filmgate parses, on the same stack, and echoes
//! as serde writes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::response::Response;
use axum::routing::post;
use filmgate::extender::wire::{ExtenderArgs, Offer};
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FilterResult<'a> {
    nodes: Option<NodeList<'a>>,
    node_names: Option<Vec<&'a str>>,
    failed_nodes: BTreeMap<&'a str, &'a str>,
    failed_and_unresolvable_nodes: BTreeMap<&'a str, &'a str>,
    error: &'a str,
}

#[derive(Serialize)]
struct NodeList<'a> {
    metadata: BTreeMap<&'a str, &'a str>,
    items: Vec<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostPriority<'a> {
    host: &'a str,
    score: i64,
}

/// Serves on a loopback port, on a runtime of its own, for as long as the process lives.
pub fn serve() -> SocketAddr {
    super::decisions::serve(|| {
        Router::new()
            .route("/filter", post(filter))
            .route("/prioritize", post(prioritize))
            .layer(DefaultBodyLimit::disable())
    })
}

async fn filter(body: Bytes) -> Response {
    let (offer, _pod) = read(&body);
    let names = offer.texts();
    let result = match &offer {
        Offer::Names(_) => FilterResult { node_names: Some(names), ..FilterResult::default() },
        Offer::Full(_, nodes) => {
            let nodes = Some(NodeList { metadata: BTreeMap::new(), items: nodes.clone() });
            FilterResult { nodes, ..FilterResult::default() }
        }
    };
    answer(&result)
}

async fn prioritize(body: Bytes) -> Response {
    let (offer, _pod) = read(&body);
    let scores = offer.texts().into_iter().map(|host| HostPriority { host, score: 0 });
    answer(&scores.collect::<Vec<_>>())
}

fn read(body: &[u8]) -> (Offer<'_>, Pod) {
    let args: ExtenderArgs<'_> = serde_json::from_slice(body).unwrap();
    let pod = serde_json::from_str(args.pod.unwrap().get()).unwrap();
    (ExtenderArgs::offer(args.nodes, args.node_names).unwrap(), pod)
}

fn answer(result: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(result).unwrap();
    let response = Response::builder().header("content-type", "application/json");
    response.body(Body::from(body)).unwrap()
}
