//! The two routers: the verbs on loopback, and metrics and health for everyone.
//!
//! kube-scheduler drops the text of any status but 200, so what it should read goes into `Error`.
//! A body that is no such call is somebody's mistake at a prompt: 400, and what is wrong.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Gate, explain};

mod body;
mod verbs;

/// Calls worked on at a time. kube-scheduler filters one pod at a time and binds many at once, so
/// the two do not share a limit.
const MOST_DECISIONS: usize = 64;
const MOST_BINDS: usize = 1024;

#[derive(Clone)]
struct App {
    gate: Arc<Gate>,
    pods: Arc<verbs::LastPod>,
    decisions: Arc<Semaphore>,
    binds: Arc<Semaphore>,
}

/// `/filter`, `/prioritize`, `/preempt`, `/bind` and `/explain`. Whoever reaches them can bind pods: they
/// belong on loopback.
pub fn verbs_router(gate: Arc<Gate>) -> Router {
    let app = App {
        gate,
        pods: Arc::default(),
        decisions: Arc::new(Semaphore::new(MOST_DECISIONS)),
        binds: Arc::new(Semaphore::new(MOST_BINDS)),
    };
    Router::new()
        .route("/filter", post(verbs::filter))
        .route("/prioritize", post(verbs::prioritize))
        .route("/preempt", post(verbs::preempt))
        .route("/bind", post(verbs::bind))
        .route("/explain", get(explain_pod).post(explain_what_if))
        .fallback(unknown_path)
        .with_state(app)
}

/// `/metrics`, `/healthz` and `/readyz`.
pub fn ops_router(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .fallback(unknown_path)
        .with_state(gate)
}

/// An error as JSON.
#[derive(Debug, Serialize)]
struct Problem {
    error: String,
}

fn problem(status: StatusCode, error: impl ToString) -> Response {
    json(status, &Problem { error: error.to_string() })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    written(status, serde_json::to_vec(body))
}

fn written(status: StatusCode, json: serde_json::Result<Vec<u8>>) -> Response {
    match json {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn unknown_path(request: Request) -> Response {
    problem(StatusCode::NOT_FOUND, format!("there is no {}", request.uri().path()))
}

async fn metrics(State(gate): State<Arc<Gate>>) -> Response {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT)], gate.render_metrics()).into_response()
}

async fn readyz(State(gate): State<Arc<Gate>>) -> Response {
    match gate.check_ready() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

#[derive(Debug, Deserialize)]
struct WhichPod {
    pod: String,
}

async fn explain_pod(
    State(app): State<App>,
    query: Result<Query<WhichPod>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(WhichPod { pod })) = query else {
        return problem(StatusCode::BAD_REQUEST, "write /explain?pod=NAMESPACE/NAME");
    };
    let Some((namespace, name)) = pod.split_once('/') else {
        return problem(StatusCode::BAD_REQUEST, format!("{pod:?} is not NAMESPACE/NAME"));
    };
    match explain::existing(&app.gate, namespace, name) {
        Some(explanation) => json(StatusCode::OK, &explanation),
        None => problem(
            StatusCode::NOT_FOUND,
            format!("filmgate knows no pod {pod} that asks for a GPU"),
        ),
    }
}

async fn explain_what_if(State(app): State<App>, request: Request) -> Response {
    const DEADLINE: Duration = Duration::from_secs(5);
    let limit = app.gate.settings().max_body_bytes;
    let body = match body::read(request, limit, DEADLINE).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    match serde_json::from_slice(&body) {
        Ok(pod) => json(StatusCode::OK, &explain::what_if(&app.gate, &pod)),
        Err(error) => problem(StatusCode::BAD_REQUEST, format!("the body is no Pod: {error}")),
    }
}
