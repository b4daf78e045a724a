//! The HTTP API: discovery, and a metric's values.

use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Extension, Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, http};
use serde::Deserialize;

use super::callers::Callers;
use super::catalogue::ExternalMetric;
use super::refusal::Refusal;
use super::reviews::{Attributes, Caller};
use super::{Figures, selector, wire};
use crate::tls::PeerCertificates;

#[derive(Clone)]
struct App {
    figures: Figures,
    callers: Callers,
}

/// The API that gives those figures to callers who may. Whoever serves it provides
/// [`PeerCertificates`] as the connection's info.
pub fn router(figures: Figures, callers: Callers) -> Router {
    let app = App { figures, callers };
    Router::new()
        .route("/apis", get(groups))
        .route("/apis/external.metrics.k8s.io", get(group))
        .route("/apis/external.metrics.k8s.io/v1beta1", get(resources))
        .route("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}", get(values))
        .fallback(unknown_path)
        .layer(middleware::from_fn_with_state(app.clone(), at_the_door))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(app)
}

/// Lets nobody in who is not known; what they may have is each handler's to check.
async fn at_the_door(
    State(app): State<App>,
    ConnectInfo(shown): ConnectInfo<PeerCertificates>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let caller = app.callers.identify(&shown, request.headers()).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

async fn groups(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: http::Uri,
) -> Result<Response, Refusal> {
    app.may_get(&caller, &uri).await?;
    Ok(Json(wire::groups()).into_response())
}

async fn group(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: http::Uri,
) -> Result<Response, Refusal> {
    app.may_get(&caller, &uri).await?;
    Ok(Json(wire::group()).into_response())
}

async fn resources(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: http::Uri,
) -> Result<Response, Refusal> {
    app.may_get(&caller, &uri).await?;
    Ok(Json(wire::resources()).into_response())
}

#[derive(Deserialize)]
struct Question {
    #[serde(default, rename = "labelSelector")]
    label_selector: String,
}

async fn values(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Response, Refusal> {
    let asked = Attributes::Metric { namespace: namespace.clone(), name: name.clone() };
    app.callers.authorize(&caller, asked).await?;
    let Some(metric) = ExternalMetric::named(&name) else {
        return Err(Refusal::UnknownMetric(name));
    };
    let Query(question) = question.map_err(|why| Refusal::BadSelector(why.body_text()))?;
    let selector = selector::parse(&question.label_selector).map_err(Refusal::BadSelector)?;
    if metric.is_of_fleet() && !selector.selects_all() {
        return Err(Refusal::NoSelector(metric.name));
    }
    let is_leading = app.figures.check_knowing().map_err(Refusal::NotReady)?;
    let Some(snapshot) = app.figures.now().await else {
        return Err(Refusal::Unanswered("the fleet's figures could not be computed".to_owned()));
    };
    let value = metric.value(&snapshot, |facts| selector::picks(&selector, &namespace, facts));
    Ok(Json(wire::Values::of(metric, value, is_leading)).into_response())
}

async fn readyz(State(app): State<App>) -> Result<&'static str, Refusal> {
    app.figures.check_knowing().map(|_| "ok\n").map_err(Refusal::NotReady)
}

async fn unknown_path(uri: http::Uri) -> Refusal {
    Refusal::UnknownPath(uri.path().to_owned())
}

impl App {
    async fn may_get(&self, caller: &Caller, uri: &http::Uri) -> Result<(), Refusal> {
        self.callers.authorize(caller, Attributes::Path(uri.path().to_owned())).await
    }
}
