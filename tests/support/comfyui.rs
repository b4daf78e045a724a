//! A stand-in for ComfyUI: its routes and its JSON, a queue that the test sets, and what can go
//! wrong with it.

// Each test uses some of it.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use futures::StreamExt as _;
use futures::stream;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A page of something before it.
    Html,
    /// Takes the question and says nothing.
    Hang,
    /// A byte a second.
    Drip,
    /// A list of prompts without an end.
    Endless,
    /// A status.
    Status(u16),
    /// Somebody else is to be asked.
    Redirect(String),
    /// This text for JSON.
    Says(String),
}

struct Inner {
    queue: Mutex<(usize, usize)>,
    torch: Mutex<(u64, u64)>,
    /// By the path it is at; an empty one is everywhere.
    fault: Mutex<Option<(&'static str, Fault)>>,
    asked: Mutex<Vec<String>>,
    takes: Mutex<Duration>,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

/// A ComfyUI. It ends with the value.
pub struct ComfyUi {
    inner: Arc<Inner>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for ComfyUi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ComfyUi {
    /// An idle one at a free port of an address of this machine that nothing else has.
    pub async fn start() -> Self {
        Self::start_at(next_address(), 0).await
    }

    /// The same beside others at one port.
    pub async fn start_at(ip: IpAddr, port: u16) -> Self {
        let inner = Arc::new(Inner {
            queue: Mutex::default(),
            torch: Mutex::new((8 << 30, 2 << 30)),
            fault: Mutex::default(),
            asked: Mutex::default(),
            takes: Mutex::default(),
            open: AtomicUsize::default(),
            most_open: AtomicUsize::default(),
        });
        let listener = listen(SocketAddr::new(ip, port));
        let address = listener.local_addr().expect("an address");
        let routes = axum::Router::new()
            .route("/prompt", get(prompt))
            .route("/queue", get(queue))
            .route("/system_stats", get(system_stats))
            .layer(from_fn_with_state(inner.clone(), at_the_door))
            .with_state(inner.clone());
        let serving = axum::serve(listener, routes);
        let task = tokio::spawn(async move { serving.await.expect("a server") });
        Self { inner, address, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// So many prompts run and wait.
    pub fn set_queue(&self, running: usize, pending: usize) {
        *self.inner.queue.lock() = (running, pending);
    }

    /// PyTorch has so many bytes, and no tensor in so many of them.
    pub fn set_torch(&self, total: u64, free: u64) {
        *self.inner.torch.lock() = (total, free);
    }

    /// From now on it is wrong, at that path or everywhere.
    pub fn fails(&self, path: &'static str, fault: Fault) {
        *self.inner.fault.lock() = Some((path, fault));
    }

    /// It is well again.
    pub fn recovers(&self) {
        *self.inner.fault.lock() = None;
    }

    /// Each answer takes so long.
    pub fn takes(&self, time: Duration) {
        *self.inner.takes.lock() = time;
    }

    /// The paths that it was asked for, in their order.
    pub fn asked(&self) -> Vec<String> {
        self.inner.asked.lock().clone()
    }

    /// The most questions that were open at a time.
    pub fn most_open(&self) -> usize {
        self.inner.most_open.load(Ordering::SeqCst)
    }
}

/// One of this machine's own addresses, another for each call.
pub fn next_address() -> IpAddr {
    static LAST: AtomicU8 = AtomicU8::new(1);
    let last = LAST.fetch_add(1, Ordering::SeqCst);
    let process = std::process::id().to_be_bytes();
    // Other tests of this machine are other processes.
    IpAddr::V4(Ipv4Addr::new(127, process[2] | 1, process[3], last))
}

/// A port at which several may listen, each at an address of its own.
fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket.bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    socket.listen(1024).expect("a listener")
}

async fn at_the_door(State(inner): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    inner.asked.lock().push(path.clone());
    let open = inner.open.fetch_add(1, Ordering::SeqCst) + 1;
    inner.most_open.fetch_max(open, Ordering::SeqCst);
    let takes = *inner.takes.lock();
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
    let fault = inner.fault.lock().clone();
    let fault = fault.filter(|(at, _)| at.is_empty() || *at == path).map(|(_, fault)| fault);
    let answer = match fault {
        Some(fault) => fault.answer().await,
        None => next.run(request).await,
    };
    inner.open.fetch_sub(1, Ordering::SeqCst);
    answer
}

impl Fault {
    async fn answer(self) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
        match self {
            Self::Html => {
                let html = [(header::CONTENT_TYPE, "text/html")];
                (html, "<!DOCTYPE html><title>502</title>").into_response()
            }
            Self::Hang => std::future::pending().await,
            Self::Drip => {
                let drops = stream::repeat(Bytes::from_static(b" ")).then(|drop| async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok::<_, Infallible>(drop)
                });
                (json, Body::from_stream(drops)).into_response()
            }
            Self::Endless => {
                let begin = stream::iter([Bytes::from_static(br#"{"queue_running": [[0]"#)]);
                let prompt = format!(",[1,\"{}\"]", "x".repeat(60_000));
                let all = begin.chain(stream::repeat(Bytes::from(prompt)));
                (json, Body::from_stream(all.map(Ok::<_, Infallible>))).into_response()
            }
            Self::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
            Self::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
            Self::Says(text) => (json, text).into_response(),
        }
    }
}

async fn prompt(State(inner): State<Arc<Inner>>) -> Json<Value> {
    let (running, pending) = *inner.queue.lock();
    Json(json!({"exec_info": {"queue_remaining": running + pending}}))
}

async fn queue(State(inner): State<Arc<Inner>>) -> Json<Value> {
    let (running, pending) = *inner.queue.lock();
    let prompts = |first, count| (first..first + count).map(prompt_entry).collect::<Vec<_>>();
    Json(json!({
        "queue_running": prompts(0, running),
        "queue_pending": prompts(running, pending),
    }))
}

/// Number, id, workflow, extra data, nodes to execute.
fn prompt_entry(number: usize) -> Value {
    let workflow = json!({
        "3": {"class_type": "KSampler", "inputs": {"seed": number, "model": ["4", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "a ] \" b"}},
    });
    let id = format!("5b1d7f60-0000-4000-8000-{number:012}");
    json!([number, id, workflow, {"client_id": "c"}, ["9"]])
}

async fn system_stats(State(inner): State<Arc<Inner>>) -> Json<Value> {
    let (total, free) = *inner.torch.lock();
    Json(json!({
        "system": {
            "os": "posix", "ram_total": 1_u64 << 36, "ram_free": 1_u64 << 35,
            "comfyui_version": "0.38.1", "python_version": "3.12.3", "pytorch_version": "2.10.0",
            "embedded_python": false, "argv": ["main.py", "--listen"],
        },
        "devices": [{
            "name": "cuda:0 NVIDIA L4 : cudaMallocAsync", "type": "cuda", "index": 0,
            "vram_total": 24_u64 << 30, "vram_free": 10_u64 << 30,
            "torch_vram_total": total, "torch_vram_free": free,
        }],
    }))
}
