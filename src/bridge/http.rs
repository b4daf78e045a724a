//! `POST /comfyui-url`: the one thing that the outside may say.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use super::probe::ProbeError;
use super::rate::Bucket;
use super::token::TokenFile;
use super::work::{Bridge, Done, Mode, Refusal};
use crate::clock::Clock;
use crate::tls::Seldom;

pub use super::door::serve;

/// A URL has up to 300 characters.
const LONGEST: usize = 1024;
/// For the body, which comes with the lines before it where nobody means ill.
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// Told at once, and then one each interval. A tunnel is told anew every few minutes.
const AT_ONCE: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(2);

/// What is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    url: String,
}

struct Door {
    bridge: Arc<Bridge>,
    token: TokenFile,
    bucket: Mutex<Bucket>,
    clock: Clock,
    strangers: Seldom,
}

/// The listener's one path.
pub fn router(bridge: Arc<Bridge>, token: TokenFile, clock: Clock) -> Router {
    let bucket = Mutex::new(Bucket::new(AT_ONCE, INTERVAL));
    let door = Door { bridge, token, bucket, clock, strangers: Seldom::default() };
    Router::new().route("/comfyui-url", post(tell)).with_state(Arc::new(door))
}

async fn tell(State(door): State<Arc<Door>>, request: Request) -> Result<Json<Done>, Problem> {
    // Strangers cost nothing but this look, and take none of the turns of who has the token.
    door.check(request.headers())?;
    if !door.bucket.lock().take(door.clock.now()) {
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate",
            "too often: wait a little",
        ));
    }
    let body = read(request).await?;
    let Told { url } = serde_json::from_slice(&body).map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "not_json", r#"write {"url": "https://..."}"#)
    })?;
    // Whoever hangs up does not stop what is half done.
    let bridge = Arc::clone(&door.bridge);
    let offered = tokio::spawn(async move { bridge.offer(&url, Mode::Do).await });
    let broken = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "broken", "see the log");
    let done = offered.await.map_err(broken)?.inspect_err(|refusal| {
        tracing::warn!(reason = refusal.reason(), %refusal, "a URL is not taken");
    })?;
    let Done { url, is_changed, restarted, .. } = &done;
    tracing::info!(url, is_changed, ?restarted, "told");
    Ok(Json(done))
}

impl Door {
    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let token = self.token.read().map_err(|error| {
            tracing::error!(%error, "nobody can be let in");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_token", "the bridge has no token")
        })?;
        let shown = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let shown = shown.and_then(|value| value.strip_prefix(b"Bearer "));
        if shown.is_some_and(|shown| token.is(shown)) {
            return Ok(());
        }
        if let Some(untold) = self.strangers.due() {
            tracing::warn!(untold, "somebody without the token");
        }
        let text = "the bearer token is missing or wrong";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "token", text))
    }
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), LONGEST).collect();
    let body = tokio::time::timeout(BODY_DEADLINE, body).await;
    let slow = "the body did not come in time";
    let body = body.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", slow))?;
    body.map(|body| body.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let text = format!("the body is longer than {LONGEST} bytes");
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", text);
        }
        Problem::new(StatusCode::BAD_REQUEST, "broken", "the body broke off")
    })
}

/// What is said instead of an answer.
struct Problem {
    status: StatusCode,
    reason: &'static str,
    text: String,
}

impl Problem {
    fn new(status: StatusCode, reason: &'static str, text: impl Into<String>) -> Self {
        Self { status, reason, text: text.into() }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Url(_) | Refusal::Probe(ProbeError::Address { .. }) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Refusal::Probe(_) => StatusCode::BAD_GATEWAY,
            Refusal::Target(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.reason(), refusal.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, reason, text } = self;
        (status, Json(json!({"reason": reason, "error": text}))).into_response()
    }
}
