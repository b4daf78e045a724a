//! A gate with its routes, a clock that the test turns, and calls in kube-scheduler's words.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use filmgate::clock::ManualClock;
use filmgate::cluster::pod::facts;
use filmgate::engine::comfyui::{Poll, Queue, TorchDevice, Trouble};
use filmgate::engine::{Bytes, Policy, Time};
use filmgate::extender::{Gate, GateSettings, Mode, http};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::script::Script;
use crate::support::Node;

pub(crate) struct Site {
    pub(crate) gate: Arc<Gate>,
    pub(crate) script: Arc<Script>,
    pub(crate) clock: ManualClock,
    samplings: AtomicU64,
    verbs: Router,
    pub(crate) ops: Router,
}

/// A status and a body.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// `error` of an answer that is none of kube-scheduler's.
    pub(crate) fn problem(&self) -> String {
        self.json()["error"].as_str().expect("an error").to_owned()
    }
}

impl Site {
    /// A site that is ready and has read these nodes.
    pub(crate) fn with(nodes: &[Node]) -> Self {
        Self::under(GateSettings::default(), nodes)
    }

    pub(crate) fn observing(nodes: &[Node]) -> Self {
        Self::under(GateSettings { mode: Mode::Observe, ..GateSettings::default() }, nodes)
    }

    pub(crate) fn governed_by(policy: Policy, nodes: &[Node]) -> Self {
        Self::under(GateSettings { policy, ..GateSettings::default() }, nodes)
    }

    pub(crate) fn under(settings: GateSettings, nodes: &[Node]) -> Self {
        let (clock, script) = (ManualClock::new(), Arc::new(Script::default()));
        clock.advance(Duration::from_secs(1000));
        let gate = Gate::new(settings, script.clone(), clock.clock());
        let (verbs, ops) = (http::verbs_router(gate.clone()), http::ops_router(gate.clone()));
        let site = Self { gate, script, clock, samplings: AtomicU64::default(), verbs, ops };
        for node in nodes {
            site.gate.apply_node(node.facts.clone());
            site.read(node);
        }
        site.gate.set_ready(true);
        site
    }

    /// The node's agent says this now.
    pub(crate) fn read(&self, node: &Node) {
        self.receive(node, None);
    }

    /// It was asked a moment ago, and says this.
    pub(crate) fn read_now(&self, node: &Node) {
        self.receive(node, Some(self.clock.now()));
    }

    fn receive(&self, node: &Node, began_after: Option<Time>) {
        let sampling = self.samplings.fetch_add(1, Ordering::Relaxed);
        let reading = node.clone().sampling(sampling + 1).reading;
        self.gate.apply_reading(Arc::new(reading), self.clock.now(), began_after);
    }

    /// The watch shows the pod.
    pub(crate) fn add(&self, pod: &Value) {
        let facts = facts(&serde_json::from_value(pod.clone()).unwrap(), None);
        self.gate.apply_pod(facts.expect("a pod with a GPU"));
    }

    /// The pod's ComfyUI says that so many prompts run and wait, and that PyTorch has 6 GiB.
    pub(crate) fn told_by_comfyui(&self, pod: &str, running: u64, pending: u64) {
        let device = TorchDevice {
            name: "cuda:0 NVIDIA L4".into(),
            index: 0,
            torch_total_bytes: Bytes::gib(6),
            torch_free_bytes: Bytes::gib(1),
        };
        self.comfyui_says(pod, Ok(Queue { running, pending }), Ok(vec![device]));
    }

    /// It was asked now, and what it says counts for 15 s.
    pub(crate) fn comfyui_says(
        &self,
        pod: &str,
        queue: Result<Queue, Trouble>,
        devices: Result<Vec<TorchDevice>, Trouble>,
    ) {
        let asked_at = self.clock.now();
        let until = asked_at + Duration::from_secs(15);
        self.gate.note_comfyui(&pod.into(), Poll { asked_at, until, queue, devices });
    }

    /// All that the gate knows; equal texts mean an unchanged ledger.
    pub(crate) fn state(&self) -> String {
        self.gate.with_ledger(|ledger| format!("{ledger:?}"))
    }

    async fn call(router: &Router, method: Method, path: &str, body: Body) -> Reply {
        let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        let response = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Reply { status, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// POSTs a body as it is.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Reply {
        Self::call(&self.verbs, Method::POST, path, body.into()).await
    }

    /// Where the verbs and the page are served from now on.
    pub(crate) async fn serve(&self) -> SocketAddr {
        serve(self.verbs.clone()).await
    }

    /// Sends a request with headers of the test's own; the answer's head and its open body.
    pub(crate) async fn send(&self, request: Request<Body>) -> axum::http::Response<Body> {
        self.verbs.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Self::call(&self.verbs, Method::GET, path, Body::empty()).await
    }

    pub(crate) async fn ops(&self, path: &str) -> Reply {
        Self::call(&self.ops, Method::GET, path, Body::empty()).await
    }

    /// The verb's answer; it must be 200.
    pub(crate) async fn verb(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body.to_string()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()
    }

    pub(crate) async fn filter(&self, pod: &Value, names: &[&str]) -> Value {
        self.verb("/filter", &json!({"Pod": pod, "Nodes": null, "NodeNames": names})).await
    }

    /// Names that pass.
    pub(crate) async fn passing(&self, pod: &Value, names: &[&str]) -> Vec<String> {
        let answer = self.filter(pod, names).await;
        assert_eq!(answer["Error"], "", "{answer}");
        serde_json::from_value(answer["NodeNames"].clone()).unwrap()
    }

    /// Scores by node.
    pub(crate) async fn scores(&self, pod: &Value, names: &[&str]) -> Vec<(String, i64)> {
        let body = json!({"Pod": pod, "Nodes": null, "NodeNames": names});
        let answer = self.verb("/prioritize", &body).await;
        let one = |entry: &Value| {
            (entry["Host"].as_str().unwrap().to_owned(), entry["Score"].as_i64().unwrap())
        };
        answer.as_array().unwrap().iter().map(one).collect()
    }

    /// `Error` of a bind.
    pub(crate) async fn bind(&self, name: &str, node: &str) -> String {
        self.bind_uid(name, name, node).await
    }

    pub(crate) async fn bind_uid(&self, name: &str, uid: &str, node: &str) -> String {
        let body = order(name, uid, node);
        self.verb("/bind", &body).await["Error"].as_str().unwrap().to_owned()
    }

    /// The node on which the pod has a claim, and how far it has come.
    pub(crate) fn claim(&self, pod: &str) -> Option<(String, String)> {
        self.gate.with_ledger(|ledger| {
            let (node, claim) = ledger.claim(&pod.into())?;
            let state = format!("{:?}", claim.state);
            let word = state.split([' ', '{']).next().unwrap_or_default().to_owned();
            Some((node.to_string(), word))
        })
    }

    pub(crate) fn is_held_on(&self, pod: &str, node: &str) -> bool {
        self.claim(pod) == Some((node.to_owned(), "Held".to_owned()))
    }

    pub(crate) fn is_waiting(&self, pod: &str) -> bool {
        self.gate.with_ledger(|ledger| ledger.is_waiting(&pod.into()))
    }

    /// Free bytes of a node's GPU 0.
    pub(crate) fn free(&self, node: &str) -> Bytes {
        let mut free = None;
        self.gate.with_ledger(|ledger| {
            ledger.for_each_gpu(|name, gpu| {
                if name.as_str() == node && gpu.index == 0 {
                    free = Some(gpu.open_bytes());
                }
            });
        });
        free.expect("the node was read")
    }

    /// The value of a series.
    pub(crate) async fn metric(&self, series: &str) -> String {
        let text = self.ops("/metrics").await.text;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(is_value));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}"))[series.len() + 1..].to_owned()
    }
}

/// Serves them on a port of loopback, as long as the test runs.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn is_value(rest: &str) -> bool {
    rest.starts_with(' ')
}

pub(crate) fn order(name: &str, uid: &str, node: &str) -> Value {
    json!({"PodName": name, "PodNamespace": "default", "PodUID": uid, "Node": node})
}

/// A steered pod of one GPU that declares this.
pub(crate) fn asking(name: &str, vram: &str) -> Value {
    let mut pod = exclusive(name);
    pod["metadata"]["annotations"] = json!({"filmgate.dev/vram": vram});
    pod
}

/// A steered pod of one GPU that declares nothing.
pub(crate) fn exclusive(name: &str) -> Value {
    let from_annotation =
        json!({"fieldRef": {"fieldPath": "metadata.annotations['filmgate.dev/gpu']"}});
    json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": name, "resourceVersion": "7",
            "creationTimestamp": "2026-11-24T00:00:00Z"
        },
        "spec": {
            "schedulerName": "filmgate",
            "containers": [{
                "name": "main",
                "image": "comfyui",
                "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}},
                "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": from_annotation}]
            }]
        },
        "status": {"phase": "Pending"}
    })
}

/// A pod that asks for no GPU.
pub(crate) fn plain(name: &str) -> Value {
    let mut pod = exclusive(name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    pod
}

/// The pod, bound.
pub(crate) fn bound(mut pod: Value, node: &str) -> Value {
    pod["spec"]["nodeName"] = json!(node);
    pod["metadata"]["resourceVersion"] = json!("8");
    pod
}
