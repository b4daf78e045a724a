//! How the certificates are, for probes and Prometheus.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::Keeper;
use crate::metrics::catalogue::certificates::EXPIRY;
use crate::metrics::exposition::Exposition;

/// `/healthz`: the process lives. `/readyz`: the last round found everything as it should be, or
/// made it so. `/metrics`.
pub fn router(keeper: Arc<Keeper>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(keeper)
}

async fn ready(State(keeper): State<Arc<Keeper>>) -> Response {
    match keeper.last() {
        Some(Ok(_)) => "ok\n".into_response(),
        Some(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the first round is not over\n").into_response(),
    }
}

async fn scrape(State(keeper): State<Arc<Keeper>>) -> String {
    let mut page = Exposition::default();
    let mut family = page.family(&EXPIRY);
    for (secret, ends) in keeper.expiries() {
        family.sample([&*secret], ends.as_second());
    }
    page.finish()
}
