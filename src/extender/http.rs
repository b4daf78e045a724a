//! The routers: the verbs and the page on loopback, metrics and health for everyone, and the verbs
//! alone for a kube-scheduler elsewhere ([`service`]).
//!
//! kube-scheduler drops the text of any status but 200, so what it should read goes into `Error`.
//! A body that is no such call is somebody's mistake at a prompt: 400, and what is wrong.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Router, middleware};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Gate;

mod body;
mod guard;
mod people;
pub mod service;
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

impl App {
    fn new(gate: Arc<Gate>) -> Self {
        Self {
            gate,
            pods: Arc::default(),
            decisions: Arc::new(Semaphore::new(MOST_DECISIONS)),
            binds: Arc::new(Semaphore::new(MOST_BINDS)),
        }
    }
}

/// `/filter`, `/prioritize`, `/preempt` and `/bind`, and what people look at: `/explain`, `/fleet`
/// and `/ui`. Whoever reaches them can bind pods: they belong on loopback.
pub fn verbs_router(gate: Arc<Gate>) -> Router {
    verbs_alone(gate.clone()).merge(people_router(gate)).fallback(unknown_path)
}

fn verbs_alone(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/filter", post(verbs::filter))
        .route("/prioritize", post(verbs::prioritize))
        .route("/preempt", post(verbs::preempt))
        .route("/bind", post(verbs::bind))
        .layer(middleware::from_fn(guard::no_browser))
        .with_state(App::new(gate))
}

fn people_router(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/explain", get(people::explain_pod).post(people::explain_what_if))
        .route("/fleet", get(people::fleet_now))
        .route("/fleet/stream", get(people::fleet_stream))
        .route("/ui", get(people::page))
        .route("/ui/page.css", get(people::page_style))
        .route("/ui/page.js", get(people::page_script))
        .layer(middleware::from_fn(guard::own_page))
        .with_state(people::People::new(gate))
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

/// Serves until `stop`.
pub fn serve(
    listener: TcpListener,
    router: Router,
    stop: &CancellationToken,
) -> JoinHandle<std::io::Result<()>> {
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    let stop = stop.clone().cancelled_owned();
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
    tokio::spawn(async move { serving.await })
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
    // A large fleet's page takes a while to write, and calls are not to wait for it.
    match tokio::task::spawn_blocking(move || gate.render_metrics()).await {
        Ok(page) => ([(header::CONTENT_TYPE, TEXT)], page).into_response(),
        Err(error) => {
            tracing::error!(%error, "the page of metrics was not written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn readyz(State(gate): State<Arc<Gate>>) -> Response {
    match gate.check_ready() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
