//! Filter and prioritize together over loopback HTTP, in turn with the no-op extender.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use filmgate::agent::simulated::{GpuSpec, SimulatedFleet};
use filmgate::clock::Clock;
use filmgate::engine::{NodeFacts, NodeName};
use filmgate::extender::gate::{Gate, GateSettings};
use filmgate::extender::http;
use serde_json::{Value, json};

use super::http::Connection;
use super::no_op;
use super::quantile::quantile;
use super::support::figures::Figures;
use super::support::objects::{node, pod};
use super::support::scripted::NoCluster;

const GPUS: usize = 8;
const WARM_UP: usize = 30;
/// Paired rounds per size; each is a pod's filter and prioritize on both.
const ROUNDS: [(usize, usize); 4] = [(100, 1500), (1_000, 800), (5_000, 400), (10_000, 300)];
const FULL_NODES: usize = 1_000;
const FULL_ROUNDS: usize = 120;
const FULL_NODE_BYTES: usize = 10_000;

/// Measures and notes `decision_*` and `full_node_ratio_1000`.
pub fn measure(figures: &mut Figures) {
    for (nodes, rounds) in ROUNDS {
        let names: Vec<String> = (0..nodes).map(node_name).collect();
        let offer = json!({"Nodes": null, "NodeNames": names});
        let times = compare(&names, &offer, rounds);
        let (no_op, ours) = (&times.no_op, &times.ours);
        let detail = json!({
            "filmgate_p50_ms": ms(quantile(ours, 0.5)), "no_op_p50_ms": ms(quantile(no_op, 0.5)),
            "no_op_p99_ms": ms(quantile(no_op, 0.99)), "gpus_per_node": GPUS, "rounds": rounds,
        });
        let ratio = quantile(ours, 0.5).as_secs_f64() / quantile(no_op, 0.5).as_secs_f64();
        figures.add(&format!("decision_ratio_{nodes}"), ratio, "ratio", "<= 1.5", detail.clone());
        let p99 = ms(quantile(ours, 0.99));
        let goal = if nodes == 5_000 { "<= 1" } else { "" };
        figures.add(&format!("decision_p99_ms_{nodes}"), p99, "ms", goal, detail);
    }
    full_nodes(figures);
}

fn full_nodes(figures: &mut Figures) {
    let names: Vec<String> = (0..FULL_NODES).map(node_name).collect();
    let items: Vec<Value> = names.iter().map(|name| full_node(name)).collect();
    let offer = json!({"Nodes": {"metadata": {}, "items": items}, "NodeNames": null});
    let times = compare(&names, &offer, FULL_ROUNDS);
    let (no_op, ours) = (quantile(&times.no_op, 0.5), quantile(&times.ours, 0.5));
    let detail = json!({"filmgate_p50_ms": ms(ours), "no_op_p50_ms": ms(no_op), "node_bytes": FULL_NODE_BYTES});
    let ratio = ours.as_secs_f64() / no_op.as_secs_f64();
    figures.add("full_node_ratio_1000", ratio, "ratio", "<= 1.5", detail);
}

struct Times {
    ours: Vec<Duration>,
    no_op: Vec<Duration>,
}

/// Both extenders in turn, each pod new to both.
fn compare(names: &[String], offer: &Value, rounds: usize) -> Times {
    let mut ours = Connection::open(serve_filmgate(names));
    let mut no_op = Connection::open(no_op::serve());
    let mut times = Times { ours: Vec::new(), no_op: Vec::new() };
    for round in 0..WARM_UP + rounds {
        let body = body(offer, round);
        let first = decide(&mut no_op, &body);
        let second = decide(&mut ours, &body);
        if round >= WARM_UP {
            times.no_op.push(first);
            times.ours.push(second);
        }
    }
    times
}

fn decide(extender: &mut Connection, body: &[u8]) -> Duration {
    let start = Instant::now();
    let answer = extender.post("/filter", body);
    assert!(answer.len() > 1000, "{}", String::from_utf8_lossy(answer));
    let answer = extender.post("/prioritize", body);
    let took = start.elapsed();
    assert!(answer.len() > 1000, "{}", String::from_utf8_lossy(answer));
    took
}

fn body(offer: &Value, round: usize) -> Vec<u8> {
    let mut body = offer.clone();
    let mut pod = pod(&format!("p{round}")).gpus(1).vram("4Gi").steered().build();
    pod.metadata.uid = Some(format!("uid-{round}"));
    pod.metadata.namespace = Some("default".to_owned());
    body["Pod"] = serde_json::to_value(pod).unwrap();
    serde_json::to_vec(&body).unwrap()
}

fn node_name(number: usize) -> String {
    format!("gke-film-gpu-pool-{number:05}")
}

/// A Node object of about 10 kB: a real one's images and labels make it that large.
fn full_node(name: &str) -> Value {
    let mut object = serde_json::to_value(node(name).gpus(8).build()).unwrap();
    let padding = FULL_NODE_BYTES.saturating_sub(object.to_string().len());
    object["metadata"]["annotations"] = json!({"example.com/padding": "x".repeat(padding)});
    object
}

/// The real router over a gate that has read every node.
fn serve_filmgate(names: &[String]) -> SocketAddr {
    let clock = Clock::monotonic();
    let fleet = SimulatedFleet::new(clock.clone());
    let gate = Gate::new(GateSettings::default(), Arc::new(NoCluster), clock);
    for name in names {
        fleet.add_node(name, GpuSpec::gib(80).replicas(16).times(GPUS));
        let uid = format!("uid-{name}").into();
        gate.apply_node(NodeFacts {
            name: NodeName::from(name),
            uid,
            is_mps: false,
            is_marked_idle: false,
        });
        let reading = Arc::new(fleet.sample_at_once(name).unwrap());
        gate.apply_reading(reading, gate.now(), Some(gate.now()));
    }
    gate.set_ready(true);
    serve(move || http::verbs_router(gate))
}

/// Serves on a loopback port, on a runtime of its own, for as long as the process lives.
pub fn serve(router: impl FnOnce() -> Router + Send + 'static) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, router()).await.unwrap();
        });
    });
    told.recv().unwrap()
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
