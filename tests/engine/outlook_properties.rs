//! What the outlook says of any fleet comes true: pods that it says fit are admitted one after the
//! other, the next is not, and GPUs that it says are needed suffice.

use std::collections::BTreeMap;

use filmgate::engine::{AdmitError, Bytes, Outlook};
use proptest::prelude::*;

use crate::support::{Gate, Node, Pod, node, pod};

/// A fleet, and kube-scheduler's count of devices.
struct Fleet {
    gate: Gate,
    devices: BTreeMap<String, u32>,
}

impl Fleet {
    fn with(nodes: &[Node]) -> Self {
        let devices = nodes.iter().map(|node| (node.name().to_owned(), devices(node)));
        Self { gate: Gate::with(nodes), devices: devices.collect() }
    }

    fn add_node(&mut self, node: &Node) {
        self.gate.ledger.apply_node(node.facts.clone(), self.gate.now);
        self.gate.read(node);
        self.devices.insert(node.name().to_owned(), devices(node));
    }

    /// Admits the pod on the first node that takes it.
    fn place(&mut self, pod: &Pod) -> Option<String> {
        let wanted = pod.ask().devices();
        let names: Vec<_> = self.devices.keys().cloned().collect();
        names.into_iter().find(|name| {
            let left = self.devices.get_mut(name).expect("a node of the fleet");
            let is_taken = *left >= wanted && is_admitted(self.gate.admit(pod, name));
            *left -= if is_taken { wanted } else { 0 };
            is_taken
        })
    }
}

fn is_admitted<T>(admission: Result<T, AdmitError>) -> bool {
    match admission {
        Ok(_) => true,
        Err(AdmitError::Refused(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

fn devices(node: &Node) -> u32 {
    node.reading.gpus.iter().map(|gpu| gpu.replicas).sum()
}

/// Size and memory in use of each GPU in GiB, replicas, whether MPS shares it, whether memory cannot
/// be told apart by pod.
type Shape = (Vec<(u64, u64)>, u32, bool, bool);

/// Up to four nodes of up to three GPUs that differ in size, sharing and what is in use.
fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let gpus = prop::collection::vec((prop::sample::select(vec![16_u64, 24, 80]), 0..30_u64), 1..4);
    let shape = (gpus, 1..5_u32, prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    prop::collection::vec(shape, 1..5)
        .prop_map(|shapes| shapes.into_iter().enumerate().map(build).collect())
}

fn build((at, (gpus, replicas, is_mps, is_degraded)): (usize, Shape)) -> Node {
    let mut built = node(&format!("n{at}")).gpus(gpus.len() as u32).replicas(replicas);
    for (index, (total, used)) in gpus.into_iter().enumerate() {
        built = built.gpu(index, |gpu| gpu.total = Bytes::gib(total));
        // Half of them idle.
        built = built.foreign(index, if used % 2 == 0 { 0 } else { used.min(total) });
    }
    let built = if is_mps { built.mps() } else { built };
    if is_degraded { built.degraded() } else { built }
}

/// Nodes of so many GPUs of 24 GiB.
fn alike(names: &str, count: u64, gpus: u32, replicas: u32) -> Vec<Node> {
    let one = |at| node(&format!("{names}{at:03}")).gpus(gpus).replicas(replicas);
    (0..count).map(one).collect()
}

fn sizes(count: usize) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(1..28_u64, 0..count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_many_pods_are_admitted_as_there_are_places(
        nodes in nodes(),
        bound in sizes(8),
        size in 0..Outlook::SIZES.len(),
    ) {
        let mut fleet = Fleet::with(&nodes);
        for (at, gib) in bound.into_iter().enumerate() {
            fleet.place(&pod(&format!("bound-{at}")).vram(gib));
        }
        let (size, expected) = fleet.gate.outlook().slots[size];
        let placed = (0..).map_while(|at| {
            fleet.place(&pod(&format!("more-{at}")).vram(size.get() >> 30))
        });
        prop_assert_eq!(placed.count() as u64, expected);
    }

    #[test]
    fn a_workload_has_a_place_where_its_pod_is_admitted(
        nodes in nodes(),
        bound in sizes(5),
        (gib, gpus) in (0..24_u64, 1..3_u32),
        (is_steered, side, early) in (any::<bool>(), 0..12_u64, 0..24_u64),
    ) {
        let mut fleet = Fleet::with(&nodes);
        let bound = bound.into_iter().enumerate();
        let bound: Vec<_> = bound.filter_map(|(at, gib)| {
            let pod = pod(&format!("bound-{at}")).vram(gib);
            let node = fleet.place(&pod)?;
            Some((pod, node))
        }).collect();
        // The kubelet has given each a device of the GPU that it is charged on.
        for node in &nodes {
            let mut read = node.clone();
            for (pod, _) in bound.iter().filter(|(_, on)| on == node.name()) {
                let (_, claim) = fleet.gate.ledger.claim(pod.uid()).expect("a claim");
                let gpu = read.reading.gpu(&claim.planned[0].0).expect("its GPU").index;
                fleet.gate.ledger.bound(pod.uid(), fleet.gate.now);
                read = read.lists(pod.uid().as_str(), gpu);
            }
            fleet.gate.sample_now(&read);
        }
        let asked = pod("asked").gpus(gpus);
        let asked = if gib > 0 { asked.vram(gib) } else { asked };
        let asked = if side > 0 && gib > 0 { asked.beside("side", side) } else { asked };
        let asked = if early > 0 && gib > 0 { asked.init("early", early) } else { asked };
        let asked = if is_steered { asked } else { asked.unsteered() };
        fleet.gate.add(&asked.clone().of("art", "asked"));
        let outlook = fleet.gate.outlook();
        let workload = outlook.workloads.iter().find(|one| &*one.name == "asked").expect("it is there");
        let is_placed = fleet.place(&asked).is_some();
        prop_assert_eq!(workload.slots.expect("a good ask") > 0, is_placed, "{:?}", workload);
    }

    #[test]
    fn the_gpus_needed_suffice_and_one_less_does_not(
        replicas in 1..5_u32,
        used in prop::collection::vec(0..24_u64, 1..5),
        pending in sizes(14),
    ) {
        let present = |at: usize, used: &u64| node(&format!("a{at}")).gpus(1).replicas(replicas).foreign(0, *used);
        let present: Vec<_> = used.iter().enumerate().map(|(at, used)| present(at, used)).collect();
        let added = |gpus| alike("b", gpus, 1, replicas);
        let shortage = waiting(&present, &pending).outlook().shortage;
        prop_assert_eq!(shortage.gpus, shortage.nodes);
        prop_assert!(all_run(&present, &added(shortage.gpus), &pending));
        prop_assert!(shortage.gpus == 0 || !all_run(&present, &added(shortage.gpus - 1), &pending));
    }

    #[test]
    fn the_nodes_needed_suffice_and_one_less_does_not(
        gpus in 1..4_u32,
        used in prop::collection::vec(0..24_u64, 1..4),
        pending in sizes(20),
    ) {
        let present = |at: usize, used: &u64| {
            let plain = node(&format!("a{at}")).gpus(gpus).replicas(24);
            (0..gpus as usize).fold(plain, |node, index| node.foreign(index, *used))
        };
        let present: Vec<_> = used.iter().enumerate().map(|(at, used)| present(at, used)).collect();
        let added = |nodes| alike("b", nodes, gpus, 24);
        let shortage = waiting(&present, &pending).outlook().shortage;
        prop_assert!(all_run(&present, &added(shortage.nodes), &pending));
        prop_assert!(shortage.nodes == 0 || !all_run(&present, &added(shortage.nodes - 1), &pending));
    }
}

fn waiting(nodes: &[Node], pending: &[u64]) -> Gate {
    let mut gate = Gate::with(nodes);
    for (at, gib) in pending.iter().enumerate() {
        gate.add(&pod(&format!("p{at}")).vram(*gib));
    }
    gate
}

/// Whether all pending pods that some GPU could take run, the largest placed first.
fn all_run(present: &[Node], added: &[Node], pending: &[u64]) -> bool {
    let mut fleet = Fleet::with(present);
    added.iter().for_each(|node| fleet.add_node(node));
    let mut placeable: Vec<_> = pending.iter().filter(|gib| **gib <= 23).collect();
    placeable.sort_unstable_by(|left, right| right.cmp(left));
    let pods = placeable.into_iter().enumerate();
    pods.map(|(at, gib)| pod(&format!("p{at}")).vram(*gib)).all(|pod| fleet.place(&pod).is_some())
}
