//! A proxy between filmgate and the API server that can keep a Binding on the wire: delayed, or
//! held back until the test lets it go, even when its sender is dead by then. And it can hold back
//! what watches tell.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures::StreamExt;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// filmgate's requests are small; answers, watches among them, are forwarded as streams.
const MOST_REQUEST_BYTES: usize = 1 << 20;

/// A running proxy. Ends with the value.
pub struct FaultProxy {
    kubeconfig: PathBuf,
    faults: Arc<Faults>,
    server: JoinHandle<()>,
}

struct Faults {
    upstream: Client,
    state: Mutex<FaultState>,
    /// Watches that began before the last change of it are silent.
    epoch: watch::Sender<u64>,
}

#[derive(Default)]
struct FaultState {
    holds_bindings: bool,
    /// Bindings wait for a random part of this before they are forwarded.
    most_delay: Duration,
    held: HashMap<String, Held>,
}

/// A Binding on the wire: a way to let it go, and the status that the API server gave it then.
struct Held {
    release: oneshot::Sender<()>,
    outcome: oneshot::Receiver<StatusCode>,
}

impl FaultProxy {
    /// Starts in front of the API server, with the rights of that kubeconfig's user.
    pub async fn start(kubeconfig: &Path, folder: &Path) -> Self {
        // Retries nothing: a Binding goes to the API server once.
        let upstream = filmgate::cluster::connect(Some(kubeconfig)).await.expect("a client");
        let epoch = watch::Sender::new(0);
        let faults = Arc::new(Faults { upstream, state: Mutex::default(), epoch });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(forward).with_state(faults.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("a proxy");
        });
        let proxied = folder.join("proxied.kubeconfig");
        fs::write(&proxied, render(&url)).expect("a kubeconfig to write");
        Self { kubeconfig: proxied, faults, server }
    }

    /// A kubeconfig that leads through the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// From now on Bindings are held back, or forwarded as they come.
    pub fn hold_bindings(&self, holds: bool) {
        self.faults.lock().holds_bindings = holds;
    }

    /// From now on each Binding takes up to that much longer.
    pub fn delay_bindings(&self, most: Duration) {
        self.faults.lock().most_delay = most;
    }

    /// From now on the watches under way tell nothing more; those that begin later do.
    pub fn silence_watches(&self) {
        self.faults.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Names of the pods whose Bindings are held back.
    pub fn held(&self) -> Vec<String> {
        self.faults.lock().held.keys().cloned().collect()
    }

    /// Lets the pod's Binding go on to the API server; the status that it got there.
    pub async fn release(&self, pod: &str) -> StatusCode {
        let held = self.faults.lock().held.remove(pod).expect("a Binding held back");
        held.release.send(()).expect("a Binding that waits");
        held.outcome.await.expect("an answer of the API server")
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().expect("a state that no panic has left")
    }

    /// What is done to the pod's Binding.
    fn detain(&self, pod: &str) -> Detention {
        let mut state = self.lock();
        if !state.holds_bindings {
            return Detention::Delay(state.most_delay.mul_f64(rand::random()));
        }
        let (release, released) = oneshot::channel();
        let (tell, outcome) = oneshot::channel();
        state.held.insert(pod.to_owned(), Held { release, outcome });
        Detention::Until { released, tell }
    }
}

enum Detention {
    Delay(Duration),
    Until { released: oneshot::Receiver<()>, tell: oneshot::Sender<StatusCode> },
}

async fn forward(State(faults): State<Arc<Faults>>, request: Request) -> Response {
    let pod = bound_pod(&request);
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MOST_REQUEST_BYTES).await.expect("a whole request");
    let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body));
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    match pod {
        None if is_watch => {
            let response = send(&faults, request).await;
            audible(&faults, response)
        }
        None => send(&faults, request).await,
        // A task of its own: the Binding goes on when whoever sent it is gone.
        Some(pod) => {
            let way = tokio::spawn(forward_binding(faults, pod, request));
            way.await.expect("a Binding's way")
        }
    }
}

async fn forward_binding(
    faults: Arc<Faults>,
    pod: String,
    request: axum::http::Request<kube::client::Body>,
) -> Response {
    match faults.detain(&pod) {
        Detention::Delay(delay) => {
            tokio::time::sleep(delay).await;
            send(&faults, request).await
        }
        Detention::Until { released, tell } => {
            let _ = released.await;
            let response = send(&faults, request).await;
            let _ = tell.send(response.status());
            response
        }
    }
}

/// A watch's answer, until watches are silenced: then it goes on without a word.
fn audible(faults: &Faults, response: Response) -> Response {
    let mut epoch = faults.epoch.subscribe();
    let silence = async move {
        let _ = epoch.changed().await;
    };
    response.map(|body| {
        let told = body.into_data_stream().take_until(silence);
        Body::from_stream(told.chain(futures::stream::pending()))
    })
}

async fn send(faults: &Faults, mut request: axum::http::Request<kube::client::Body>) -> Response {
    // The upstream client puts in its own.
    request.headers_mut().remove("authorization");
    request.headers_mut().remove("host");
    match faults.upstream.send(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

/// The pod that the request binds, where it is a Binding.
fn bound_pod(request: &Request) -> Option<String> {
    let path = request.uri().path().strip_suffix("/binding")?;
    (request.method() == Method::POST).then(|| path.rsplit('/').next().map(str::to_owned))?
}

fn render(url: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
    })
    .to_string()
}
