//! What people look at: `/explain`, `/fleet`, and the page that shows them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, stream};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{body, json, problem};
use crate::extender::fleet::{Part, fleet};
use crate::extender::{Gate, explain};

/// How often a stream shows the fleet anew: readings come once a second.
const PACE: Duration = Duration::from_secs(1);
/// Streams at a time; each looks at the fleet by itself.
const MOST_STREAMS: usize = 16;
/// A manifest in a request comes at once.
const BODY_DEADLINE: Duration = Duration::from_secs(5);

/// Scripts, styles and requests from here alone, and nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

#[derive(Clone)]
pub(super) struct People {
    gate: Arc<Gate>,
    streams: Arc<Semaphore>,
}

impl People {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, streams: Arc::new(Semaphore::new(MOST_STREAMS)) }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WhichPod {
    pod: String,
}

pub(super) async fn explain_pod(
    State(people): State<People>,
    query: Result<Query<WhichPod>, QueryRejection>,
) -> Response {
    let Ok(Query(WhichPod { pod })) = query else {
        return problem(StatusCode::BAD_REQUEST, "write /explain?pod=NAMESPACE/NAME");
    };
    let Some((namespace, name)) = pod.split_once('/') else {
        return problem(StatusCode::BAD_REQUEST, format!("{pod:?} is not NAMESPACE/NAME"));
    };
    match explain::existing(&people.gate, namespace, name) {
        Some(explanation) => json(StatusCode::OK, &explanation),
        None => problem(
            StatusCode::NOT_FOUND,
            format!("filmgate knows no pod {pod} that asks for a GPU"),
        ),
    }
}

/// A Pod, as JSON or as YAML: what if?
pub(super) async fn explain_what_if(State(people): State<People>, request: Request) -> Response {
    let is_yaml = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().ends_with(b"/yaml"));
    let limit = people.gate.settings().max_body_bytes;
    let body = match body::read(request, limit, BODY_DEADLINE).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let pod = if is_yaml {
        serde_saphyr::from_slice::<Pod>(&body).map_err(|error| error.to_string())
    } else {
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    };
    match pod {
        Ok(pod) => json(StatusCode::OK, &explain::what_if(&people.gate, &pod)),
        Err(error) => problem(StatusCode::BAD_REQUEST, format!("the body is no Pod: {error}")),
    }
}

pub(super) async fn fleet_now(
    State(people): State<People>,
    part: Result<Query<Part>, QueryRejection>,
) -> Response {
    match part {
        Ok(Query(part)) => json(StatusCode::OK, &fleet(&people.gate, &part)),
        Err(error) => bad_part(&error),
    }
}

/// The fleet once a second, as server-sent events, until the caller or the extender goes.
pub(super) async fn fleet_stream(
    State(people): State<People>,
    part: Result<Query<Part>, QueryRejection>,
) -> Response {
    let part = match part {
        Ok(Query(part)) => part,
        Err(error) => return bad_part(&error),
    };
    let Ok(permit) = people.streams.try_acquire_owned() else {
        let text = format!("{MOST_STREAMS} streams are open already: close one");
        return problem(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let looks = looks(Looker { gate: people.gate, part, pace: pace(), _permit: permit });
    Sse::new(looks).keep_alive(KeepAlive::default()).into_response()
}

fn bad_part(error: &QueryRejection) -> Response {
    let text = format!("write /fleet?match=TEXT&limit=NODES, or neither: {}", error.body_text());
    problem(StatusCode::BAD_REQUEST, text)
}

struct Looker {
    gate: Arc<Gate>,
    part: Part,
    pace: Interval,
    _permit: OwnedSemaphorePermit,
}

fn pace() -> Interval {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

fn looks(looker: Looker) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(looker, |mut looker| async move {
        looker.pace.tick().await;
        if looker.gate.is_draining() {
            return None;
        }
        let event = Event::default().json_data(fleet(&looker.gate, &looker.part));
        let event = event.inspect_err(|error| tracing::error!(%error, "a fleet is no JSON"));
        Some((Ok(event.ok()?), looker))
    })
}

pub(super) async fn page() -> Response {
    asset("text/html; charset=utf-8", include_str!("page/index.html"))
}

pub(super) async fn page_style() -> Response {
    asset("text/css; charset=utf-8", include_str!("page/page.css"))
}

pub(super) async fn page_script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("page/page.js"))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    const REFERRERS: HeaderName = header::REFERRER_POLICY;
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
        (REFERRERS, "no-referrer"),
    ];
    (headers, text).into_response()
}
