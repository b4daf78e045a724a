//! kube-scheduler's four calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::value::RawValue;

use super::{App, body, json, problem, written};
use crate::engine::request::BadRequest;
use crate::engine::{NodeName, PodRef, PodUid, Reason};
use crate::extender::gate::{BindOrder, Filtered, GateError, Incoming, Preempted};
use crate::extender::wire::{
    BindingArgs, BindingResult, ExtenderArgs, FilterResult, Offer, PreemptionArgs,
    PreemptionResult, host_priorities,
};

/// A bind's body is short; who takes longer to send it is gone.
const BIND_BODY_DEADLINE: Duration = Duration::from_secs(2);
const MOST_BIND_BODY: usize = 64 << 10;
/// A body above this is parsed on a thread that may block.
const LARGE_BODY: usize = 1 << 20;

/// What a call could not be read as.
type NotACall = String;

pub(super) async fn filter(State(app): State<App>, request: Request) -> Response {
    decide(app, request, "filter", answer_filter).await
}

pub(super) async fn prioritize(State(app): State<App>, request: Request) -> Response {
    decide(app, request, "prioritize", answer_prioritize).await
}

pub(super) async fn preempt(State(app): State<App>, request: Request) -> Response {
    decide(app, request, "preempt", answer_preempt).await
}

/// An answer and the word by which it is counted.
type Answer = (Response, &'static str);

async fn decide(
    app: App,
    request: Request,
    verb: &'static str,
    answer: fn(&App, &[u8]) -> Result<Answer, NotACall>,
) -> Response {
    let settings = app.gate.settings();
    let deadline = settings.filter_timeout;
    let body = match body::read(request, settings.max_body_bytes, deadline).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let started = Instant::now();
    let Ok(_permit) = app.decisions.acquire().await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "shutting down");
    };
    let answered = answer_apart(&app, body, answer).await;
    let (response, outcome) = answered.unwrap_or_else(|error| {
        (
            problem(StatusCode::BAD_REQUEST, format!("the body is no {verb} call: {error}")),
            "invalid",
        )
    });
    app.gate.metrics().request(verb, outcome, started.elapsed());
    response
}

async fn answer_apart(
    app: &App,
    body: Bytes,
    answer: fn(&App, &[u8]) -> Result<Answer, NotACall>,
) -> Result<Answer, NotACall> {
    if body.len() < LARGE_BODY {
        return answer(app, &body);
    }
    let app = app.clone();
    let work = tokio::task::spawn_blocking(move || answer(&app, &body));
    work.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// The pod of the last call. Filter and prioritize come with the same text one after the other,
/// and in a small cluster reading the pod is most of the work.
#[derive(Default)]
pub(super) struct LastPod(Mutex<Option<(String, Arc<Pod>)>>);

impl LastPod {
    fn read(&self, text: &str) -> serde_json::Result<Arc<Pod>> {
        if let Some((_, pod)) = self.0.lock().as_ref().filter(|(last, _)| last == text) {
            return Ok(Arc::clone(pod));
        }
        let pod: Arc<Pod> = Arc::new(serde_json::from_str(text)?);
        *self.0.lock() = Some((text.to_owned(), Arc::clone(&pod)));
        Ok(pod)
    }
}

struct Call<'a> {
    pod: Incoming,
    offer: Offer<'a>,
}

fn read_call<'a>(app: &App, body: &'a [u8]) -> Result<Call<'a>, NotACall> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let args: ExtenderArgs<'a> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let pod = read_pod(app, args.pod)?;
    let offer =
        ExtenderArgs::offer(args.nodes, args.node_names).map_err(|error| error.to_string())?;
    Ok(Call { pod, offer })
}

fn read_pod(app: &App, pod: Option<&RawValue>) -> Result<Incoming, NotACall> {
    let pod = pod.map(RawValue::get).filter(|pod| *pod != "null").ok_or("it has no Pod")?;
    let pod = app.pods.read(pod).map_err(|error| format!("Pod: {error}"))?;
    Ok(app.gate.incoming(&pod))
}

fn answer_filter(app: &App, body: &[u8]) -> Result<Answer, NotACall> {
    let call = read_call(app, body)?;
    let names = call.offer.texts();
    Ok(match app.gate.filter(&call.pod, &names) {
        Ok(filtered) => {
            let outcome = outcome_word(&filtered, names.len());
            let text = Refusal::of(&filtered);
            (written(StatusCode::OK, filter_result(&call, &filtered, &text).to_json()), outcome)
        }
        Err(error) => {
            let result = FilterResult { error: error.to_string(), ..FilterResult::default() };
            (written(StatusCode::OK, result.to_json()), error.reason())
        }
    })
}

fn outcome_word(filtered: &Filtered, nodes: usize) -> &'static str {
    match filtered {
        Filtered::All => "ok",
        Filtered::Each(refusals) if nodes == 0 || refusals.reasons.iter().any(Option::is_none) => {
            "ok"
        }
        Filtered::Each(_) => "no_node",
        Filtered::BadRequest(_) => Reason::BadRequest.label(),
    }
}

/// The text of a refusal that is the pod's own fault.
struct Refusal(Option<String>);

impl Refusal {
    fn of(filtered: &Filtered) -> Self {
        match filtered {
            Filtered::BadRequest(bad) => Self(Some(BadRequest::to_string(bad))),
            Filtered::All | Filtered::Each(_) => Self(None),
        }
    }
}

fn filter_result<'a>(
    call: &'a Call<'_>,
    filtered: &Filtered,
    fault: &'a Refusal,
) -> FilterResult<'a> {
    let refusal = |at: usize| -> Option<&'a str> {
        match filtered {
            Filtered::All => None,
            Filtered::Each(refusals) => refusals.reasons[at].map(Reason::text),
            Filtered::BadRequest(_) => fault.0.as_deref(),
        }
    };
    let nominated = call.pod.nominated.as_deref();
    let names = call.offer.names();
    let mut result = FilterResult::default();
    let mut passed = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        match refusal(at) {
            None => passed.push(at),
            Some(text) if nominated == Some(name.as_str()) => {
                result.failed_nodes.push(name.as_str(), text);
            }
            Some(text) => result.failed_and_unresolvable_nodes.push(name.as_str(), text),
        }
    }
    let may_repeat = match filtered {
        Filtered::All => false,
        Filtered::Each(refusals) => refusals.may_repeat,
        Filtered::BadRequest(_) => true,
    };
    if may_repeat {
        result.failed_nodes.name_each_once();
        result.failed_and_unresolvable_nodes.name_each_once();
    }
    match &call.offer {
        Offer::Names(_) => {
            result.node_names = Some(passed.into_iter().map(|at| &names[at]).collect());
        }
        Offer::Full(_, nodes) => {
            result.nodes = Some(passed.into_iter().map(|at| nodes[at]).collect());
        }
    }
    result
}

fn answer_prioritize(app: &App, body: &[u8]) -> Result<Answer, NotACall> {
    let call = read_call(app, body)?;
    let names = call.offer.texts();
    // There is no field for an error, and kube-scheduler would ignore it: no opinion.
    let (scores, outcome) = match app.gate.prioritize(&call.pod, &names) {
        Ok(scores) => (scores, "ok"),
        Err(error) => (vec![0; names.len()], GateError::reason(&error)),
    };
    Ok((written(StatusCode::OK, host_priorities(call.offer.names(), &scores)), outcome))
}

fn answer_preempt(app: &App, body: &[u8]) -> Result<Answer, NotACall> {
    let args: PreemptionArgs = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let pod = read_pod(app, args.pod)?;
    let candidates = args.candidates().map_err(|error| error.to_string())?;
    let (result, outcome) = match app.gate.preempt(&pod, &candidates) {
        Ok(Preempted::AsAsked) => (PreemptionResult::of(&candidates), "ok"),
        Ok(Preempted::One(chosen)) => (PreemptionResult::of([&chosen]), "ok"),
        Ok(Preempted::Nobody) => (PreemptionResult::default(), "no_node"),
        // There is no field for an error. An empty map would mean that preemption is no help.
        Err(error) => {
            return Ok((problem(StatusCode::SERVICE_UNAVAILABLE, &error), error.reason()));
        }
    };
    Ok((json(StatusCode::OK, &result), outcome))
}

pub(super) async fn bind(State(app): State<App>, request: Request) -> Response {
    let body = match body::read(request, MOST_BIND_BODY, BIND_BODY_DEADLINE).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let order = match read_bind(&body) {
        Ok(order) => order,
        Err(error) => {
            let error = format!("the body is no bind call: {error}");
            return problem(StatusCode::BAD_REQUEST, error);
        }
    };
    let started = Instant::now();
    let Ok(_permit) = app.binds.acquire().await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "shutting down");
    };
    let result = app.gate.bind(order).await;
    let outcome = result.as_ref().map_or_else(|error| error.reason(), |()| "ok");
    app.gate.metrics().request("bind", outcome, started.elapsed());
    let error = result.err().map(|error| error.to_string()).unwrap_or_default();
    json(StatusCode::OK, &BindingResult { error })
}

fn read_bind(body: &[u8]) -> Result<BindOrder, NotACall> {
    let args: BindingArgs = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let fields = [
        ("PodName", &args.pod_name),
        ("PodNamespace", &args.pod_namespace),
        ("PodUID", &args.pod_uid),
        ("Node", &args.node),
    ];
    if let Some((field, _)) = fields.into_iter().find(|(_, value)| value.is_empty()) {
        return Err(format!("{field} is empty"));
    }
    let pod = PodRef {
        namespace: args.pod_namespace.into(),
        name: args.pod_name.into(),
        uid: PodUid::from(args.pod_uid),
    };
    Ok(BindOrder { pod, node: NodeName::from(args.node) })
}
