//! What the extender takes in fleets of different sizes: the memory that it has resident, and its part of a
//! core while the memory of every node moves once a second, which no fleet does for long.

use std::time::Duration;

use filmgate::engine::Bytes;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::agent::memory::Resident;
use super::processor;
use super::stage::{Stage, node_name};
use super::support::figures::Figures;
use super::support::objects::pod;
use super::support::simulated::SimulatedNode;

const NODES: [usize; 3] = [100, 1_000, 5_000];
const GPUS: usize = 8;
const PODS_PER_NODE: usize = 2;
/// What starting costs is over by then.
const WARM_UP: u32 = 10;
const SECONDS: u32 = 20;

/// Measures and notes `extender_rss_mib_*` and `extender_cpu_ratio_*`.
pub fn measure(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for nodes in NODES {
        let (memory, cpu) = runtime.block_on(of(nodes));
        let detail = json!({
            "gpus_per_node": GPUS, "pods": nodes * PODS_PER_NODE, "window_seconds": SECONDS,
            "peak_mib": memory.peak as f64 / 1024.0,
        });
        let rss = memory.all as f64 / 1024.0;
        figures.add(&format!("extender_rss_mib_{nodes}"), rss, "MiB", "", detail.clone());
        figures.add(&format!("extender_cpu_ratio_{nodes}"), cpu, "ratio", "", detail);
    }
}

async fn of(nodes: usize) -> (Resident, f64) {
    let names: Vec<String> = (0..nodes).map(node_name).collect();
    let node = |name: &String| SimulatedNode::new(name, &[80; GPUS]);
    let stage = Stage::start(names.iter().map(node).collect()).await;
    let pods = names.iter().flat_map(|node| {
        (0..PODS_PER_NODE).map(move |number| {
            pod(&format!("{node}-{number}")).gpus(1).vram("16Gi").steered().pinned_to(node)
        })
    });
    stage.create_pods(pods).await;
    let filmgate = stage.start_filmgate().await;
    let process = filmgate.process.pid();
    every_node_moves(&stage, &names, WARM_UP).await;
    let (began, before) = (Instant::now(), processor::time_of(process));
    every_node_moves(&stage, &names, SECONDS).await;
    let used = processor::time_of(process) - before;
    (Resident::of(process), used.as_secs_f64() / began.elapsed().as_secs_f64())
}

/// Once a second, for so many.
async fn every_node_moves(stage: &Stage, names: &[String], seconds: u32) {
    let mut next = Instant::now();
    for second in 0..seconds {
        let foreign = Bytes::gib(u64::from(second % 2));
        for name in names {
            let gpu = stage.fleet.gpus(name).unwrap().remove(0);
            stage.fleet.set_foreign(name, &gpu, foreign).unwrap();
        }
        next += Duration::from_secs(1);
        sleep_until(next).await;
    }
}
