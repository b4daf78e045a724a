//! An extender that answers every filter call with the same refusal of all nodes, and does nothing
//! else: what a storm of tries costs without a decision. A process of its own, as filmgate is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use filmgate::engine::Reason;
use serde_json::json;

use super::stage::{DEADLINE, Stage, node_name};
use super::support::eventually::eventually;
use super::support::port::ReservedPort;
use super::support::process::Process;
use super::support::scheduler::Extender;

/// First argument of the process that is one, before its address and the number of nodes.
pub const COMMAND: &str = "constant-extender";

/// A running one.
pub struct Constant {
    pub process: Process,
    port: ReservedPort,
}

impl Constant {
    /// Returns when it listens.
    pub async fn start(stage: &Stage, nodes: usize) -> Self {
        let port = ReservedPort::reserve();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([COMMAND, &port.address().to_string(), &nodes.to_string()]);
        let process = Process::spawn(COMMAND, command, stage.cluster.folder());
        let constant = Self { process, port };
        eventually(DEADLINE, "the constant extender", async || {
            reqwest::get(format!("{}/calls", constant.url())).await
        })
        .await;
        constant
    }

    /// As kube-scheduler is told of it.
    pub fn extender(&self) -> Extender {
        let mut extender = Extender::at(self.url());
        extender.verbs.retain(|(_, verb)| *verb == "filter");
        extender
    }

    /// Filter calls that it has answered.
    pub async fn filter_calls(&self) -> f64 {
        let calls = reqwest::get(format!("{}/calls", self.url())).await.unwrap();
        calls.text().await.unwrap().parse().unwrap()
    }

    fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }
}

/// What that process does; it ends with its parent.
pub fn serve(mut arguments: impl Iterator<Item = String>) {
    let address: SocketAddr = arguments.next().unwrap().parse().unwrap();
    let state = (refusal(arguments.next().unwrap().parse().unwrap()), Arc::default());
    let router = Router::new()
        .route("/filter", post(filter))
        .route("/calls", get(calls))
        .layer(DefaultBodyLimit::disable())
        .with_state(state);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // The port is reserved for it.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        axum::serve(socket.listen(128).unwrap(), router).await.unwrap();
    });
}

type Shared = (Bytes, Arc<AtomicU64>);

fn refusal(nodes: usize) -> Bytes {
    let reason = Reason::NotEnoughVram.text();
    let refused: BTreeMap<String, &str> =
        (0..nodes).map(|number| (node_name(number), reason)).collect();
    let answer = json!({
        "Nodes": null, "NodeNames": [], "FailedNodes": {},
        "FailedAndUnresolvableNodes": refused, "Error": "",
    });
    answer.to_string().into()
}

async fn filter(State((answer, count)): State<Shared>, _call: Bytes) -> impl IntoResponse {
    count.fetch_add(1, Ordering::Relaxed);
    ([(CONTENT_TYPE, "application/json")], answer)
}

async fn calls(State((_, count)): State<Shared>) -> String {
    count.load(Ordering::Relaxed).to_string()
}
