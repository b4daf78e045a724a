//! How a bridge is, for probes, Prometheus and `filmgate top`: on a listener of its own, since what
//! the outside reaches says nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::Bridge;
use super::seen::Seen;

/// `/healthz`: the process lives. `/readyz`: the ConfigMap and the Secret could be read at the last
/// look. `/metrics`. `/state`: [`Seen`] as JSON.
pub fn router(bridge: Arc<Bridge>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(
            "/metrics",
            get(|State(bridge): State<Arc<Bridge>>| async move { bridge.seen().metrics() }),
        )
        .route("/state", get(state))
        .with_state(bridge)
}

async fn state(State(bridge): State<Arc<Bridge>>) -> Json<Seen> {
    Json(bridge.seen())
}

async fn ready(State(bridge): State<Arc<Bridge>>) -> Response {
    match bridge.last_look() {
        Some(Ok(())) => "ok\n".into_response(),
        Some(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the first look is not over\n").into_response(),
    }
}
