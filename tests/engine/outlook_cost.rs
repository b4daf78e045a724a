//! What a scrape of a large fleet costs: run by hand, since nothing that shares a machine can hold
//! others to a time.

use std::time::Instant;

use filmgate::engine::outlook::Survey;
use filmgate::engine::{Bytes, Outlook};

use crate::support::{Gate, Node, node, pod};

const NODES: usize = 5_000;
const GPUS: u32 = 8;
const PODS_PER_GPU: usize = 3;
const PENDING: usize = 2_000;

/// Full: pods of 7 GiB, three to a GPU of 24.
fn fleet() -> Vec<Node> {
    (0..NODES).map(|at| node(&format!("node-{at:04}")).gpus(GPUS).replicas(4)).collect()
}

fn filled() -> Gate {
    let mut nodes = fleet();
    let mut pods = Vec::new();
    for node in &mut nodes {
        for gpu in 0..GPUS {
            for at in 0..PODS_PER_GPU {
                let name = format!("{}-{gpu}-{at}", node.name());
                let workload = format!("w{}", pods.len() % 300);
                let bound = pod(&name).vram(7).of("art", &workload).on(node.name());
                pods.push(bound.decided(node.name(), gpu, 7));
                *node = node.clone().uses(&name, gpu as usize, 6);
            }
        }
    }
    let mut gate = Gate::with(&nodes);
    pods.iter().for_each(|pod| gate.add(pod));
    for at in 0..PENDING {
        let workload = format!("w{}", at % 300);
        gate.add(&pod(&format!("p{at}")).vram(3 + (at % 20) as u64).of("art", &workload));
    }
    gate
}

fn millis<T>(what: &str, work: impl Fn() -> T) -> T {
    const ROUNDS: usize = 11;
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            drop(work());
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{what}: median {:.1} ms, worst {:.1} ms", times[ROUNDS / 2], times[ROUNDS - 1]);
    work()
}

#[test]
#[ignore = "measures: cargo test --release --test engine outlook_cost -- --ignored --nocapture"]
fn what_the_outlook_of_a_large_fleet_costs() {
    let gate = filled();
    let scheduler = "filmgate".into();
    let survey: Survey =
        millis("copied under the lock", || gate.ledger.survey(&scheduler, gate.now));
    let outlook = millis("computed outside", || Outlook::of(&survey));
    assert_eq!(outlook.pending["art"].pods, PENDING);
    assert_eq!(outlook.slots[0], (Bytes::gib(8), 0));
    assert!(outlook.shortage.gpus > 0);
    println!(
        "{NODES} nodes, {} GPUs, {} pods bound, {PENDING} pending: {:?}",
        NODES * GPUS as usize,
        NODES * GPUS as usize * PODS_PER_GPU,
        outlook.shortage
    );
}
