//! What a browser may have, and what it may not do.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::site::{Site, asking};
use crate::support::node;

fn site() -> Site {
    Site::with(&[node("n0").gpus(1)])
}

fn request(method: Method, path: &str, host: &str, origin: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
    if let Some(origin) = origin {
        request = request.header(header::ORIGIN, origin);
    }
    request.body(Body::from(asking("p", "6Gi").to_string())).unwrap()
}

#[tokio::test]
async fn the_page_brings_its_own_scripts_and_styles_and_allows_no_others() {
    let site = site();
    let page = site.send(request(Method::GET, "/ui", "127.0.0.1:9110", None)).await;
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let body = page.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    for outside in ["http://", "https://", " style=", "<style", " onclick"] {
        assert!(!text.contains(outside), "{outside} in the page");
    }
    for (path, kind) in [("/ui/page.js", "text/javascript"), ("/ui/page.css", "text/css")] {
        assert!(text.contains(path), "{path} is not asked for");
        let asset = site.send(request(Method::GET, path, "127.0.0.1:9110", None)).await;
        let found = asset.headers()[header::CONTENT_TYPE].to_str().unwrap();
        assert!(asset.status() == StatusCode::OK && found.starts_with(kind), "{path}: {found}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_learns_nothing() {
    let site = site();
    for path in ["/fleet", "/fleet/stream", "/explain?pod=default/p", "/ui"] {
        let theirs = Some("http://films.example");
        let answer = site.send(request(Method::GET, path, "127.0.0.1:9110", theirs)).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path} from a foreign page");
        let rebound = request(Method::GET, path, "films.example:9110", None);
        assert_eq!(site.send(rebound).await.status(), StatusCode::FORBIDDEN, "{path} by a name");
    }
    let own = request(Method::POST, "/explain", "127.0.0.1:9110", Some("http://127.0.0.1:9110"));
    assert_eq!(site.send(own).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_page_binds_and_places_nothing() {
    let site = site();
    let before = site.state();
    for verb in ["/filter", "/prioritize", "/preempt", "/bind"] {
        let own = request(Method::POST, verb, "127.0.0.1:9110", Some("http://127.0.0.1:9110"));
        assert_eq!(site.send(own).await.status(), StatusCode::FORBIDDEN, "{verb}");
    }
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn a_manifest_may_be_pasted_as_yaml() {
    let site = site();
    let pasted = |text: &'static str| {
        let request = Request::post("/explain")
            .header(header::HOST, "localhost:9110")
            .header(header::CONTENT_TYPE, "application/yaml");
        site.send(request.body(Body::from(text)).unwrap())
    };
    let pod = "metadata: {name: p, annotations: {filmgate.dev/vram: 6Gi}}\n\
               spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 1}}}]}\n";
    let answer = pasted(pod).await.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((&answer["state"], &answer["nodes"][0]["node"]), (&"whatIf".into(), &"n0".into()));
    assert_eq!(pasted("spec: [").await.status(), StatusCode::BAD_REQUEST);
}
