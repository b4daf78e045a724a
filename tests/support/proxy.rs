//! A proxy between filmgate and the API server at which requests about a pod come to harm: they
//! are late, lost, or held back until the test lets them go, even when their sender is dead by
//! then; and what their sender hears need not be what became of them. It can also hold back what
//! watches tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{self, StatusCode};
use axum::response::Response;
use futures::{StreamExt, stream};
use kube::Client;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

mod fault;
mod wire;

pub use fault::{Answer, Commit, Fault, Verb};

use fault::{Call, Rules};
use wire::{Scissors, Wires};

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
    /// What watches tell waits meanwhile.
    is_stalled: watch::Sender<bool>,
}

#[derive(Default)]
struct FaultState {
    rules: Rules,
    held: Vec<Held>,
    bindings: Vec<(String, StatusCode)>,
}

/// A request on the wire: a way to let it go, and the status that the API server gave it then.
struct Held {
    pod: String,
    release: oneshot::Sender<()>,
    outcome: oneshot::Receiver<StatusCode>,
}

impl FaultProxy {
    /// Starts in front of the API server, with the rights of that kubeconfig's user.
    pub async fn start(kubeconfig: &Path, folder: &Path) -> Self {
        // Retries nothing: a Binding goes to the API server once.
        let upstream = filmgate::cluster::connect(Some(kubeconfig)).await.expect("a client");
        let (epoch, is_stalled) = (watch::Sender::new(0), watch::Sender::new(false));
        let faults = Arc::new(Faults { upstream, state: Mutex::default(), epoch, is_stalled });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(forward).with_state(faults.clone());
        let service = router.into_make_service_with_connect_info::<Scissors>();
        let server = tokio::spawn(async move {
            axum::serve(Wires(listener), service).await.expect("a proxy");
        });
        let proxied = folder.join("proxied.kubeconfig");
        fs::write(&proxied, render(&url)).expect("a kubeconfig to write");
        Self { kubeconfig: proxied, faults, server }
    }

    /// A kubeconfig that leads through the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// From now on this befalls every request of that kind.
    pub fn befall(&self, verb: Verb, fault: Fault) {
        self.befall_each(verb, move |_| fault);
    }

    /// From now on each request of that kind is befallen by what `rule` tells, which knows the
    /// pod's name.
    pub fn befall_each(&self, verb: Verb, rule: impl FnMut(&str) -> Fault + Send + 'static) {
        self.faults.lock().rules.set(verb, Box::new(rule));
    }

    /// This befalls the next request of that kind about that pod, and no other.
    pub fn befall_next(&self, verb: Verb, pod: &str, fault: Fault) {
        self.faults.lock().rules.add_next(Call { verb, pod: pod.to_owned() }, fault);
    }

    /// From now on Bindings are held back, or forwarded as they come.
    pub fn hold_bindings(&self, holds: bool) {
        self.befall(Verb::Bind, if holds { Fault::HELD } else { Fault::NONE });
    }

    /// From now on each Binding takes up to that much longer.
    pub fn delay_bindings(&self, most: Duration) {
        self.befall_each(Verb::Bind, move |_| Fault::delayed(most.mul_f64(rand::random())));
    }

    /// From now on the watches under way tell nothing more; those that begin later do.
    pub fn silence_watches(&self) {
        self.faults.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// From now on what watches tell waits, or goes on with all that has waited.
    pub fn stall_watches(&self, stalls: bool) {
        self.faults.is_stalled.send_replace(stalls);
    }

    /// Names of the pods about which a request is held back.
    pub fn held(&self) -> Vec<String> {
        self.faults.lock().held.iter().map(|held| held.pod.clone()).collect()
    }

    /// Lets the first request held back about the pod go on to the API server; the status that it
    /// got there.
    pub async fn release(&self, pod: &str) -> StatusCode {
        let held = {
            let mut state = self.faults.lock();
            let at = state.held.iter().position(|held| held.pod == pod);
            state.held.remove(at.expect("a request held back"))
        };
        held.release.send(()).expect("a request that waits");
        held.outcome.await.expect("an answer of the API server")
    }

    /// Lets the first request that is held back go on, whatever becomes of it.
    pub fn release_one(&self) {
        let mut state = self.faults.lock();
        if !state.held.is_empty() {
            let _ = state.held.remove(0).release.send(());
        }
    }

    /// Lets everything held back go on, whatever becomes of it.
    pub fn release_all(&self) {
        for held in std::mem::take(&mut self.faults.lock().held) {
            let _ = held.release.send(());
        }
    }

    /// What the API server said to each of the pod's Bindings that reached it, in turn.
    pub fn bindings(&self, pod: &str) -> Vec<StatusCode> {
        let state = self.faults.lock();
        let of_pod = state.bindings.iter().filter(|(of, _)| of == pod);
        of_pod.map(|(_, status)| *status).collect()
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

    /// Holds a request about the pod back: when it may go on, and whom to tell what became of it.
    fn hold(&self, pod: &str) -> (oneshot::Receiver<()>, oneshot::Sender<StatusCode>) {
        let (release, released) = oneshot::channel();
        let (tell, outcome) = oneshot::channel();
        self.lock().held.push(Held { pod: pod.to_owned(), release, outcome });
        (released, tell)
    }
}

async fn forward(
    State(faults): State<Arc<Faults>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MOST_REQUEST_BYTES).await.expect("a whole request");
    let request = http::Request::from_parts(parts, body.to_vec());
    if let Some(call) = Call::of(&request) {
        let fault = faults.lock().rules.befalls(&call);
        return suffer(faults, call, request, fault, &scissors).await;
    }
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let response = send(&faults, request).await;
    if is_watch { audible(&faults, response) } else { response }
}

/// The way of a request that comes to harm; what its sender is answered.
async fn suffer(
    faults: Arc<Faults>,
    call: Call,
    request: http::Request<Vec<u8>>,
    fault: Fault,
    scissors: &Scissors,
) -> Response {
    // A task of its own: the request goes on when whoever sent it is gone.
    let way = tokio::spawn(go_on(faults, call, request, fault.commit));
    let own = async move {
        let answer = way.await.expect("a request's way");
        // Where the API server does not speak, nobody does.
        if let Some(answer) = answer { answer } else { std::future::pending().await }
    };
    match fault.answer {
        Answer::Own => own.await,
        Answer::Late(by) => {
            let answer = own.await;
            tokio::time::sleep(by).await;
            answer
        }
        Answer::Reset | Answer::Faked(_) => {
            if let Commit::Before(_) = fault.commit {
                own.await;
            }
            if let Answer::Faked(code) = fault.answer { faked(code) } else { scissors.cut().await }
        }
    }
}

/// What the API server says, if the request ever gets there.
async fn go_on(
    faults: Arc<Faults>,
    call: Call,
    request: http::Request<Vec<u8>>,
    commit: Commit,
) -> Option<Response> {
    let mut told = None;
    match commit {
        Commit::Before(delay) | Commit::After(delay) => tokio::time::sleep(delay).await,
        Commit::Held => {
            let (released, tell) = faults.hold(&call.pod);
            let _ = released.await;
            told = Some(tell);
        }
        Commit::Never => return None,
    }
    let response = send(&faults, request).await;
    if call.verb == Verb::Bind {
        faults.lock().bindings.push((call.pod, response.status()));
    }
    if let Some(tell) = told {
        let _ = tell.send(response.status());
    }
    Some(response)
}

/// A watch's answer, late while watches are stalled, until they are silenced: then it goes on
/// without a word.
fn audible(faults: &Faults, response: Response) -> Response {
    let (epoch, is_stalled) = (faults.epoch.subscribe(), faults.is_stalled.subscribe());
    let mut silenced = epoch.clone();
    let silence = async move {
        let _ = silenced.changed().await;
    };
    let in_time = move |told| {
        let mut is_stalled = is_stalled.clone();
        async move {
            let _ = is_stalled.wait_for(|stalled| !stalled).await;
            told
        }
    };
    let end = async move {
        if epoch.has_changed().unwrap_or(true) {
            std::future::pending::<()>().await;
        }
        None
    };
    response.map(|body| {
        let told = body.into_data_stream().then(in_time).take_until(silence);
        Body::from_stream(told.chain(stream::once(end).filter_map(std::future::ready)))
    })
}

async fn send(faults: &Faults, request: http::Request<Vec<u8>>) -> Response {
    let mut request = request.map(kube::client::Body::from);
    // The upstream client puts in its own.
    request.headers_mut().remove("authorization");
    request.headers_mut().remove("host");
    match faults.upstream.send(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => failure(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

/// As the API server, or a gateway before it, words a failure.
fn faked(code: u16) -> Response {
    let status = StatusCode::from_u16(code).expect("a status");
    let text = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "message": "somebody on the way said so", "reason": "", "code": code,
    });
    failure(status, &text.to_string())
}

fn failure(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    response
}

fn render(url: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
    })
    .to_string()
}
