//! The external metrics as the API server and other callers meet them, over their routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use filmgate::autoscaling::callers::Callers;
use filmgate::autoscaling::catalogue::METRICS;
use filmgate::autoscaling::reviews::{Attributes, Caller, Reviewer};
use filmgate::autoscaling::{Figures, api};
use filmgate::tls::PeerCertificates;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::site::{Site, asking, bound};
use crate::support::node;

const ROOT: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// Every token is its bearer's name, but for nobody's; all may list in `default`, and nobody but
/// the admin elsewhere.
#[derive(Clone, Default)]
struct Names(Arc<AtomicUsize>);

impl Reviewer for Names {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Caller>, String>> {
        let answer = match token {
            "nobody" => Ok(None),
            "silence" => Err("the API server: no answer in 3 s".to_owned()),
            user => Ok(Some(Caller { user: user.to_owned(), ..Caller::default() })),
        };
        async { answer }.boxed()
    }

    fn authorize<'a>(
        &'a self,
        caller: &'a Caller,
        asked: &'a Attributes,
    ) -> BoxFuture<'a, Result<bool, String>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let is_near = match asked {
            Attributes::Metric { namespace, .. } => namespace == "default",
            Attributes::Path(_) => true,
        };
        async move { Ok(is_near || caller.user == "admin") }.boxed()
    }
}

struct Api {
    site: Site,
    names: Names,
    router: axum::Router,
}

impl Api {
    fn of(site: Site) -> Self {
        let names = Names::default();
        let callers = Callers::new(watch::channel(None).1, names.clone(), site.clock.clock());
        let figures = Figures::of(site.gate.clone(), site.clock.clock());
        let router = api::router(figures, callers);
        Self { site, names, router }
    }

    /// Three pods with a label, one of which is bound, and one without.
    fn usual() -> Self {
        let n0 = node("n0").gpus(1).replicas(8);
        let site = Site::with(std::slice::from_ref(&n0));
        for name in ["film-0", "film-1", "other"] {
            site.add(&labelled(name));
        }
        site.add(&bound(labelled("film-2"), "n0"));
        site.read(&n0.each(|gpu| gpu.utilization_ratio = Some(0.5)).uses("film-2", 0, 3));
        Self::of(site)
    }

    async fn ask(&self, token: Option<&str>, path: &str) -> (StatusCode, Value) {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let info = ConnectInfo(PeerCertificates::default());
        let request = request.extension(info).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body);
        (status, body.unwrap_or(Value::Null))
    }

    async fn list(&self, question: &str) -> (StatusCode, Value) {
        self.ask(Some("someone"), &format!("{ROOT}/namespaces/default/{question}")).await
    }

    /// The one value, after the time for which figures are shared.
    async fn value(&self, question: &str) -> String {
        self.site.clock.advance(Duration::from_secs(1));
        let (status, list) = self.list(question).await;
        assert_eq!(status, StatusCode::OK, "{list}");
        list["items"][0]["value"].as_str().unwrap_or_else(|| panic!("{list}")).to_owned()
    }

    /// What is said to somebody who gets nothing.
    async fn refusal(&self, token: Option<&str>, path: &str) -> (u16, String, String) {
        let (code, body) = self.ask(token, path).await;
        assert_eq!(body["kind"], "Status", "{body}");
        assert_eq!((&body["status"], &body["code"]), (&json!("Failure"), &json!(code.as_u16())));
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        (code.as_u16(), text("reason"), text("message"))
    }
}

fn labelled(name: &str) -> Value {
    let mut pod = asking(name, "12Gi");
    if name.starts_with("film") {
        pod["metadata"]["labels"] = json!({"app": "film"});
    }
    pod
}

#[tokio::test]
async fn a_selector_picks_the_pods_by_their_labels() {
    let api = Api::usual();
    let film = "?labelSelector=app%3Dfilm";
    assert_eq!(api.value("filmgate-pending-pods").await, "3");
    assert_eq!(api.value(&format!("filmgate-pending-pods{film}")).await, "2");
    let gib = |gib: u64| (gib << 30).to_string();
    assert_eq!(api.value(&format!("filmgate-pending-vram-bytes{film}")).await, gib(24));
    assert_eq!(api.value(&format!("filmgate-workload-vram-bytes-max{film}")).await, gib(3));
    assert_eq!(api.value(&format!("filmgate-gpu-utilization-ratio{film}")).await, "500m");
    let (_, none) = api.list("filmgate-gpu-utilization-ratio?labelSelector=!app").await;
    assert_eq!(none["items"], json!([]), "no process of such a pod is seen");
}

#[tokio::test]
async fn prompts_are_those_of_the_pods_that_answer() {
    let api = Api::usual();
    let (depth, mean) = ("filmgate-comfyui-queue-depth", "filmgate-comfyui-queue-depth-mean");
    for metric in [depth, mean] {
        let (status, none) = api.list(metric).await;
        assert_eq!((status, &none["items"]), (StatusCode::OK, &json!([])), "nobody was asked");
    }
    api.site.add(&bound(labelled("film-3"), "n0"));
    api.site.add(&bound(labelled("other-1"), "n0"));
    api.site.told_by_comfyui("film-2", 1, 4);
    api.site.told_by_comfyui("film-3", 0, 0);
    api.site.told_by_comfyui("other-1", 1, 1);
    let film = "?labelSelector=app%3Dfilm";
    assert_eq!(api.value(depth).await, "7");
    assert_eq!(api.value(&format!("{depth}{film}")).await, "5");
    assert_eq!(api.value(&format!("{mean}{film}")).await, "2500m");
    api.site.clock.advance(Duration::from_secs(10));
    api.site.told_by_comfyui("film-3", 0, 0);
    api.site.clock.advance(Duration::from_secs(5));
    assert_eq!(api.value(&format!("{depth}{film}")).await, "0", "what film-2 said is old");
    api.site.clock.advance(Duration::from_secs(15));
    assert_eq!(api.list(depth).await.1["items"], json!([]), "unknown, and not zero");
}

#[tokio::test]
async fn figures_of_the_fleet_are_of_every_namespace_and_take_no_selector() {
    let api = Api::usual();
    // The bound pod is charged 12 of 23.5 GiB, and a second does not fit beside it.
    let needed = "filmgate-gpu-equivalents-needed";
    let here = api.value(needed).await;
    assert_eq!(here, "3");
    let path = format!("{ROOT}/namespaces/far/{needed}");
    let (_, there) = api.ask(Some("admin"), &path).await;
    assert_eq!(there["items"][0]["value"], *here);
    let path = format!("{ROOT}/namespaces/default/{needed}?labelSelector=app%3Dfilm");
    let (code, _, message) = api.refusal(Some("someone"), &path).await;
    assert_eq!(code, 400);
    assert!(message.contains("labelSelector") && message.contains("leave it out"), "{message}");
}

#[tokio::test]
async fn an_answer_is_what_kubernetes_clients_read() {
    let api = Api::usual();
    let (_, list) = api.list("filmgate-pending-pods").await;
    assert_eq!(list["kind"], "ExternalMetricValueList");
    assert_eq!(list["apiVersion"], "external.metrics.k8s.io/v1beta1");
    let item = &list["items"][0];
    assert_eq!(item["metricName"], "filmgate-pending-pods");
    assert_eq!(item["metricLabels"], json!({"leading": "true"}));
    let timestamp = item["timestamp"].as_str().unwrap();
    let age = jiff::Timestamp::now().as_second()
        - timestamp.parse::<jiff::Timestamp>().unwrap().as_second();
    assert!((0..60).contains(&age), "{timestamp}");
}

#[tokio::test]
async fn discovery_lists_every_metric() {
    let api = Api::usual();
    let (_, resources) = api.ask(Some("someone"), ROOT).await;
    let resources = resources["resources"].as_array().unwrap().clone();
    assert_eq!(resources.len(), METRICS.len());
    for (resource, metric) in resources.iter().zip(METRICS) {
        let expected = json!({
            "name": metric.name, "namespaced": true, "kind": "ExternalMetricValueList",
            "singularName": "", "verbs": ["get", "list"],
        });
        assert_eq!(*resource, expected);
    }
    let (_, group) = api.ask(Some("someone"), "/apis/external.metrics.k8s.io").await;
    assert_eq!(group["preferredVersion"]["groupVersion"], "external.metrics.k8s.io/v1beta1");
    let (_, groups) = api.ask(Some("someone"), "/apis").await;
    assert_eq!(groups["groups"][0]["name"], "external.metrics.k8s.io");
}

#[tokio::test]
async fn who_is_not_known_gets_401_and_who_may_not_403() {
    let api = Api::usual();
    let path = format!("{ROOT}/namespaces/default/filmgate-pending-pods");
    let (code, reason, message) = api.refusal(None, &path).await;
    assert_eq!((code, &*reason), (401, "Unauthorized"));
    assert!(message.contains("through the API server"), "{message}");
    assert_eq!(api.refusal(Some("nobody"), &path).await.0, 401);
    assert_eq!(api.refusal(None, "/nowhere").await.0, 401);
    let far = path.replace("default", "far");
    let (code, reason, message) = api.refusal(Some("someone"), &far).await;
    assert_eq!((code, &*reason), (403, "Forbidden"));
    assert_eq!(
        message,
        "someone may not list filmgate-pending-pods in group external.metrics.k8s.io in \
         namespace far"
    );
    assert_eq!(api.ask(Some("admin"), &far).await.0, StatusCode::OK);
    let (code, reason, message) = api.refusal(Some("silence"), &path).await;
    assert_eq!((code, &*reason), (503, "ServiceUnavailable"));
    assert!(message.contains("no answer in 3 s"), "{message}");
}

#[tokio::test]
async fn the_api_servers_word_counts_for_seconds() {
    let api = Api::usual();
    let asked = || api.names.0.load(Ordering::Relaxed);
    for _ in 0..3 {
        api.list("filmgate-pending-pods").await;
    }
    assert_eq!(asked(), 1);
    api.list("filmgate-pending-vram-bytes").await;
    assert_eq!(asked(), 2, "another metric is another right");
    api.site.clock.advance(Duration::from_secs(10));
    api.list("filmgate-pending-pods").await;
    assert_eq!(asked(), 3);
}

#[tokio::test]
async fn what_cannot_be_meant_is_named() {
    let api = Api::usual();
    let path = |question: &str| format!("{ROOT}/namespaces/default/{question}");
    let someone = Some("someone");
    let (code, reason, message) = api.refusal(someone, &path("filmgate-queue")).await;
    assert_eq!((code, &*reason), (404, "NotFound"));
    assert!(message.contains(r#"no metric "filmgate-queue""#), "{message}");
    for metric in METRICS {
        assert!(message.contains(metric.name), "{message}");
    }
    let bad = "filmgate-pending-pods?labelSelector=app%20on%20(a)";
    let (code, reason, message) = api.refusal(someone, &path(bad)).await;
    assert_eq!((code, &*reason), (400, "BadRequest"));
    assert!(message.contains(r#"labelSelector: "app on (a)""#), "{message}");
    let twice = "filmgate-pending-pods?labelSelector=a&labelSelector=b";
    assert_eq!(api.refusal(someone, &path(twice)).await.0, 400);
    assert_eq!(api.refusal(someone, "/openapi/v2").await.0, 404);
}

#[tokio::test]
async fn a_standby_answers_and_says_that_it_does_not_lead() {
    let api = Api::usual();
    api.site.gate.stand_by();
    let (status, list) = api.list("filmgate-pending-pods").await;
    assert_eq!((status, &list["items"][0]["value"]), (StatusCode::OK, &json!("3")));
    assert_eq!(list["items"][0]["metricLabels"], json!({"leading": "false"}));
}

#[tokio::test]
async fn a_replica_that_does_not_know_the_cluster_yet_answers_503() {
    let api = Api::usual();
    api.site.gate.set_ready(false);
    let path = format!("{ROOT}/namespaces/default/filmgate-pending-pods");
    assert_eq!(api.refusal(Some("someone"), &path).await.0, 503);
    assert_eq!(api.refusal(None, "/readyz").await.0, 503, "probes need no token");
    assert_eq!(api.ask(None, "/healthz").await.0, StatusCode::OK);
}
