//! The verbs for a kube-scheduler that is not in the same pod.

use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode};
use filmgate::extender::http::service::serve;
use filmgate::tls::{Identity, MutualTls, Served};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::authority::Authority;
use crate::eventually::eventually;
use crate::port::ReservedPort;
use crate::site::{Site, asking};
use crate::support::node;

const DEADLINE: Duration = Duration::from_secs(30);
const NAME: &str = "filmgate-extender.filmgate.svc";

struct World {
    site: Site,
    authority: Authority,
    identity: Identity,
    files: TempDir,
    port: ReservedPort,
    _stop: DropGuard,
}

impl World {
    /// A node with one GPU, and a pod that asks for a part of it.
    async fn start() -> Self {
        let files = TempDir::new().unwrap();
        let authority = Authority::create(files.path(), "ours");
        let identity = authority.issued(NAME);
        let tls = MutualTls { identity: identity.clone(), client_roots: authority.roots() };
        let (site, port, stop) = (site(), ReservedPort::reserve(), CancellationToken::new());
        let served = Served { listen: port.address(), tls: Some(tls) };
        serve(&served, site.gate.clone(), &stop).await.unwrap();
        Self { site, authority, identity, files, port, _stop: stop.drop_guard() }
    }

    fn client(&self, shown: Option<&Identity>) -> Client {
        self.client_under(&self.authority.roots(), shown)
    }

    /// Of a client that trusts those roots.
    fn client_under(&self, roots: &Path, shown: Option<&Identity>) -> Client {
        let mut config = Config::new(format!("https://{}", self.port.address()).parse().unwrap());
        let roots = CertificateDer::pem_file_iter(roots).unwrap();
        config.root_cert = Some(roots.map(|root| root.unwrap().to_vec()).collect());
        config.tls_server_name = Some(NAME.to_owned());
        let path = |path: &Path| path.display().to_string();
        config.auth_info = AuthInfo {
            client_certificate: shown.map(|one| path(&one.certificate)),
            client_key: shown.map(|one| path(&one.key)),
            ..AuthInfo::default()
        };
        Client::try_from(config).unwrap()
    }
}

fn site() -> Site {
    let n0 = node("n0").gpus(1).replicas(8);
    let site = Site::with(std::slice::from_ref(&n0));
    site.add(&asking("film-0", "8Gi"));
    site
}

fn filter() -> Value {
    json!({"Pod": asking("film-0", "8Gi"), "NodeNames": ["n0"]})
}

async fn answer(client: &Client, method: Method, path: &str, body: &Value) -> (StatusCode, String) {
    let body = if *body == Value::Null { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
    let answer = client.send(request).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn filtered(client: &Client) -> (StatusCode, String) {
    answer(client, Method::POST, "/filter", &filter()).await
}

#[tokio::test]
async fn the_verbs_are_answered_and_nothing_else_is_there() {
    let world = World::start().await;
    let client = world.client(Some(&world.authority.issued("kube-scheduler")));
    let (status, text) = filtered(&client).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["NodeNames"], json!(["n0"]));
    for verb in ["/prioritize", "/preempt", "/bind"] {
        let (status, text) = answer(&client, Method::POST, verb, &Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{verb} is there: {text}");
    }
    for path in [
        "/",
        "/explain?pod=default/film-0",
        "/fleet",
        "/fleet/stream",
        "/ui",
        "/ui/page.js",
        "/metrics",
        "/healthz",
        "/readyz",
    ] {
        let (status, text) = answer(&client, Method::GET, path, &Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {text}");
    }
}

#[tokio::test]
async fn nobody_without_a_certificate_under_the_configured_roots_is_answered() {
    let world = World::start().await;
    let strangers = Authority::create(world.files.path(), "strangers");
    let stranger = strangers.issued("kube-scheduler");
    for (shown, says) in
        [(None, "no certificate was shown"), (Some(&stranger), "invalid peer certificate")]
    {
        let client = world.client(shown);
        for verb in ["/filter", "/prioritize", "/preempt", "/bind", "/explain"] {
            let (status, text) = answer(&client, Method::POST, verb, &filter()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{verb}: {text}");
            assert!(text.contains(says) && text.contains("service.clientCaFile"), "{text}");
        }
    }
}

#[tokio::test]
async fn new_certificates_are_taken_on_both_sides_and_old_ones_not_any_more() {
    let world = World::start().await;
    let before = world.client(Some(&world.authority.issued("kube-scheduler")));
    assert_eq!(filtered(&before).await.0, StatusCode::OK);
    let next = Authority::create(world.files.path(), "next");
    let theirs = next.issued("kube-scheduler");
    fs::write(world.authority.roots(), fs::read(next.roots()).unwrap()).unwrap();
    next.issue(&world.identity, NAME);
    eventually(DEADLINE, "the next authority's certificates", async || {
        let client = world.client_under(&next.roots(), Some(&theirs));
        let request = Request::get("/").body(Body::empty()).unwrap();
        let status = client.send(request).await.map_err(|error| format!("{error:?}"))?.status();
        // Whoever is let in is told that there is no such path.
        if status == StatusCode::NOT_FOUND { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    // On the connection that it has.
    assert_eq!(filtered(&before).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn plain_text_is_answered_where_no_certificates_are_configured() {
    let (site, port, stop) = (site(), ReservedPort::reserve(), CancellationToken::new());
    let served = Served { listen: port.address(), tls: None };
    serve(&served, site.gate.clone(), &stop).await.unwrap();
    let url = |path: &str| format!("http://{}{path}", port.address());
    let http = reqwest::Client::new();
    let answer = http.post(url("/filter")).json(&filter()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(http.get(url("/fleet")).send().await.unwrap().status().as_u16(), 404);
    stop.cancel();
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_by_their_keys() {
    let world = World::start().await;
    let problem = async |change: &dyn Fn(&mut MutualTls)| {
        let mut tls =
            MutualTls { identity: world.identity.clone(), client_roots: world.authority.roots() };
        change(&mut tls);
        let served = Served { listen: ReservedPort::reserve().address(), tls: Some(tls) };
        let failed = serve(&served, world.site.gate.clone(), &CancellationToken::new()).await;
        failed.unwrap_err().to_string()
    };
    let text = problem(&|tls| tls.client_roots = "/nowhere/ca.crt".into()).await;
    assert!(text.starts_with("config key service.clientCaFile: /nowhere/ca.crt: "), "{text}");
    let text = problem(&|tls| tls.identity.certificate = "/nowhere/tls.crt".into()).await;
    let says = "config keys service.certificateFile and service.keyFile: /nowhere/tls.crt: ";
    assert!(text.starts_with(says), "{text}");
}
