//! What the fleet could still take, and what it lacks: figures that were worked out by hand.
//!
//! A GPU has 24 GiB, of which 23.5 can be had.

use filmgate::engine::outlook::{Footprint, Pending, Shortage};
use filmgate::engine::{Bytes, Policy, Reason, StalePolicy};

use crate::support::{Gate, Node, Pod, node, pod};

/// Places for pods of 8, 12, 16, 24 and 40 GiB.
fn slots(gate: &Gate) -> Vec<u64> {
    gate.outlook().slots.into_iter().map(|(_, pods)| pods).collect()
}

fn shortage(gate: &Gate) -> (u64, u64) {
    let Shortage { gpus, nodes, .. } = gate.outlook().shortage;
    (gpus, nodes)
}

fn add(gate: &mut Gate, pods: impl IntoIterator<Item = Pod>) {
    pods.into_iter().for_each(|pod| gate.add(&pod));
}

fn alike(count: u64, make: impl Fn(&str) -> Pod) -> Vec<Pod> {
    (0..count).map(|number| make(&format!("alike-{number}"))).collect()
}

#[test]
fn slots_are_what_each_gpu_holds() {
    let mut gate = Gate::with(&[node("n0").gpus(2).replicas(4), node("n1").gpus(1).total(80)]);
    assert_eq!(slots(&gate), [2 * 2 + 1, 2 + 1, 2 + 1, 1, 1], "n1 has one device");
    gate.bind(&pod("p").vram(12), "n0");
    assert_eq!(slots(&gate), [1 + 2 + 1, 1 + 1, 1 + 1, 1, 1], "11.5 and 23.5 GiB on n0");
}

#[test]
fn a_node_takes_no_more_pods_than_it_has_devices() {
    let mut gate = Gate::with(&[node("n0").gpus(2)]);
    assert_eq!(slots(&gate), [2, 2, 2, 0, 0]);
    gate.bind(&pod("bound").vram(2), "n0");
    assert_eq!(slots(&gate), [1, 1, 1, 0, 0]);
    let held = pod("held").vram(2);
    gate.add(&held);
    gate.hold(&held, "n0");
    assert_eq!(slots(&gate), [0, 0, 0, 0, 0]);
    gate.ledger.delete_pod(held.uid(), None, gate.now);
    assert_eq!(slots(&gate), [1, 1, 1, 0, 0]);
}

#[test]
fn where_memory_is_nobodys_each_idle_gpu_takes_one() {
    let gate = Gate::with(&[node("n0").gpus(2).replicas(4).foreign(0, 1).degraded()]);
    assert_eq!(slots(&gate), [1, 1, 1, 0, 0]);
}

#[test]
fn the_mps_daemon_grants_each_client_its_share() {
    let gate = Gate::with(&[node("n0").gpus(1).total(80).replicas(4).mps()]);
    assert_eq!(slots(&gate), [4, 4, 4, 0, 0], "79.5 GiB, no more than 20 for one");
}

#[test]
fn a_stale_reading_offers_what_the_policy_says() {
    let nodes = [node("n0").gpus(1)];
    let mut declared = Gate::with(&nodes);
    let policy = Policy { stale_policy: StalePolicy::Reject, ..Policy::default() };
    let mut reject = Gate::under(policy, &nodes);
    declared.wait(11);
    reject.wait(11);
    assert_eq!((slots(&declared)[0], slots(&reject)[0]), (1, 0));
}

#[test]
fn pending_are_pods_of_ours_that_are_to_run_and_are_not_being_bound() {
    let mut gate = Gate::with(&[node("n0").gpus(4).replicas(4)]);
    gate.bind(&pod("bound").vram(2).of("art", "w"), "n0");
    gate.admit(&pod("being-bound").vram(2).of("art", "w"), "n0").unwrap();
    add(
        &mut gate,
        [
            pod("gone").vram(2).of("art", "w").ended(),
            pod("two").vram(2).gpus(2).of("art", "w"),
            pod("one").vram(3).of("art", "w"),
            pod("unknown").of("lab", "w"),
        ],
    );
    let held = pod("held").vram(5).of("lab", "w");
    gate.add(&held);
    gate.hold(&held, "n0");
    let mut gated = pod("gated").vram(2).of("art", "w");
    gated.facts.is_gated = true;
    let mut theirs = pod("theirs").vram(2).of("theirs", "w");
    theirs.facts.scheduler = "default-scheduler".into();
    add(&mut gate, [gated, theirs]);
    let pending = gate.outlook().pending.into_iter();
    let pending: Vec<_> =
        pending.map(|(namespace, pending)| (namespace.to_string(), pending)).collect();
    let of = |pods, gib| Pending { pods, vram: Bytes::gib(gib) };
    assert_eq!(
        pending,
        [
            ("art".to_owned(), of(2, 2 * 2 + 3)),
            ("lab".to_owned(), of(2, 5)),
            ("theirs".to_owned(), of(0, 0)),
        ]
    );
}

#[test]
fn a_pod_that_no_empty_node_takes_is_unplaceable_for_the_nearest_reason() {
    let full = node("full").gpus(2).replicas(2).foreign(0, 20).foreign(1, 20);
    let mps = node("mps").gpus(1).replicas(4).mps();
    let mut gate =
        Gate::with(&[full, mps.each(|gpu| gpu.resource = "nvidia.com/gpu.shared".into())]);
    let elsewhere = |name: &str, resource: &str| {
        let mut pod = pod(name).vram(8);
        if let Ok(ask) = &mut pod.facts.ask {
            ask.shares[0].resource = resource.into();
        }
        pod
    };
    add(
        &mut gate,
        [
            pod("fits-when-empty").vram(23),
            pod("too-much").vram(24),
            pod("far-too-much").vram(100).gpus(2),
            pod("too-many").vram(1).gpus(3),
            pod("two-unsteered").vram(1).gpus(2).unsteered(),
            pod("unreadable").unreadable(),
            elsewhere("mig", "nvidia.com/mig-1g.10gb"),
            elsewhere("capped", "nvidia.com/gpu.shared"),
        ],
    );
    let unplaceable = gate.outlook().unplaceable;
    assert_eq!(
        unplaceable,
        [
            (Reason::BadRequest, 1),
            (Reason::NoSuchGpu, 1),
            (Reason::NotEnoughGpus, 1),
            (Reason::NeedsSteering, 1),
            (Reason::AboveMpsShare, 1),
            (Reason::NotEnoughVram, 2),
        ]
    );
    assert_eq!(shortage(&gate), (1, 1), "only the first is worth a node");
}

#[test]
fn what_fits_now_needs_no_node() {
    let mut gate = Gate::with(&[node("n0").gpus(2).replicas(4)]);
    add(&mut gate, alike(4, |name| pod(name).vram(10)));
    assert_eq!(shortage(&gate), (0, 0));
    gate.add(&pod("fifth").vram(10));
    assert_eq!(shortage(&gate), (1, 1));
}

#[test]
fn new_gpus_are_filled_like_any() {
    let full = || node("n0").gpus(4).replicas(3).each(|gpu| gpu.used = Bytes::gib(23));
    for (count, gib, expected) in
        [(1, 16, (1, 1)), (3, 16, (3, 1)), (5, 16, (5, 2)), (4, 11, (2, 1)), (7, 2, (3, 1))]
    {
        let mut gate = Gate::with(&[full()]);
        add(&mut gate, alike(count, |name| pod(name).vram(gib)));
        assert_eq!(shortage(&gate), expected, "{count} pods of {gib} GiB");
    }
    let mut gate = Gate::with(&[full()]);
    add(&mut gate, alike(2, |name| pod(name).vram(2).gpus(3)));
    gate.add(&pod("exclusive"));
    assert_eq!(
        shortage(&gate),
        (4, 1),
        "two pods of 3 GPUs on the same 3, one alone on the fourth"
    );
}

#[test]
fn an_unshared_gpu_takes_one_pod_however_small() {
    let mut gate = Gate::with(&[node("n0").gpus(2).foreign(0, 23).foreign(1, 23)]);
    add(&mut gate, alike(3, |name| pod(name).vram(2)));
    assert_eq!(shortage(&gate), (3, 2));
}

#[test]
fn nodes_are_of_the_most_common_kind_that_takes_the_pod() {
    let full = |name: &str, total| {
        node(name).gpus(2).replicas(4).total(total).each(|gpu| gpu.used = gpu.total)
    };
    let mut gate = Gate::with(&[full("a", 24), full("b", 24), full("c", 80)]);
    gate.add(&pod("small").vram(20));
    assert_eq!(shortage(&gate), (1, 1));
    gate.add(&pod("large").vram(60));
    assert_eq!(shortage(&gate), (2, 1), "the large one's node has a GPU for the small one");
    gate.add(&pod("another").vram(20));
    assert_eq!(shortage(&gate), (2, 1), "and that has room for another");
}

#[test]
fn who_has_a_place_needs_none() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(4)]);
    let (held, late) = (pod("held").vram(20), pod("late").vram(20));
    add(&mut gate, [held.clone(), late]);
    assert_eq!(shortage(&gate), (1, 1));
    gate.hold(&held, "n0");
    assert_eq!(shortage(&gate), (1, 1), "one has the place, the other needs one");
    gate.ledger.delete_pod(&"late".into(), None, gate.now);
    assert_eq!(shortage(&gate), (0, 0));
}

#[test]
fn free_memory_that_typical_pods_cannot_use_is_in_fragments() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(4), node("n1").gpus(1).replicas(4)]);
    assert_eq!(gate.outlook().fragmentation_ratio, None, "nothing is typical");
    gate.bind(&pod("bound").vram(12), "n0");
    // 11.5 and 23.5 GiB are free.
    let ratio = |gate: &Gate| gate.outlook().fragmentation_ratio.unwrap();
    assert!((ratio(&gate) - 11.5 / 35.0).abs() < 1e-9, "{}", ratio(&gate));
    gate.add(&pod("small").vram(4));
    assert!((ratio(&gate) - 0.5 * 11.5 / 35.0).abs() < 1e-9, "half of the pods can use it");
    add(&mut gate, [pod("two").vram(4).gpus(2), pod("unknown")]);
    let two_on_one_node = 35.0;
    assert!((ratio(&gate) - (11.5 + 0.0 + two_on_one_node + 11.5) / 4.0 / 35.0).abs() < 1e-9);
    let full = Gate::with(&[]);
    assert_eq!(full.outlook().fragmentation_ratio, None);
}

#[test]
fn nothing_free_is_not_fragmented() {
    let mut gate = Gate::with(&[node("n0").gpus(1).foreign(0, 24)]);
    gate.add(&pod("p").vram(4));
    assert_eq!(gate.outlook().fragmentation_ratio, Some(0.0));
}

#[test]
fn workloads_tell_their_places_and_what_they_hold() {
    let n0 = node("n0").gpus(2).replicas(8);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    for name in ["a-1", "a-2", "a-3"] {
        gate.bind(&pod(name).vram(4).of("art", "a"), "n0");
    }
    gate.bind(&pod("b-1").vram(4).of("art", "b"), "n0");
    gate.add(&pod("b-2").vram(6).of("art", "b").created_at(9));
    gate.add(&pod("c").unreadable().of("art", "c"));
    let measured = n0.used_to_use("a-1", 0, 1, 4).uses("a-2", 0, 3).uses("stranger", 1, 1);
    gate.read(&measured.uses("a-1", 1, 2).used_to_use("b-1", 0, 0, 0));
    let outlook = gate.outlook();
    let free: Vec<_> = (0..2).map(|index| gate.free("n0", index) >> 10).collect();
    let told = outlook.workloads.iter();
    let told: Vec<_> = told.map(|one| (&*one.name, one.pods, one.slots, one.footprint)).collect();
    let footprint = Footprint { median: Bytes::gib(3), p95: Bytes::gib(4), most: Bytes::gib(4) };
    let places = |gib: u64| Some(free.iter().map(|free| free / gib).sum());
    assert_eq!(
        told,
        [("a", 3, places(4), Some(footprint)), ("b", 2, places(6), None), ("c", 1, None, None),]
    );
}

#[test]
fn places_of_a_workload_obey_its_whole_ask() {
    for (name, pod, expected) in [
        ("two-gpus", pod("p").vram(10).gpus(2), 2),
        ("exclusive", pod("p"), 3),
        ("init", pod("p").vram(2).init("early", 20), 3),
        ("side-by-side", pod("p").vram(10).beside("side", 12), 3),
        ("unsteered", pod("p").vram(8).unsteered(), 0),
    ] {
        let mut gate = Gate::with(&[node("n0").gpus(4).replicas(4).foreign(3, 20)]);
        gate.add(&pod.of("art", name));
        let outlook = gate.outlook();
        let one = outlook.workloads.iter().find(|one| &*one.name == name).unwrap();
        assert_eq!(one.slots, Some(expected), "{name}");
    }
}

#[test]
fn only_the_largest_workloads_are_told_of() {
    let mut gate = Gate::with(&[]);
    for number in 0..60 {
        let name = format!("w{number}");
        (0..=number % 2).for_each(|pod_of| {
            gate.add(&pod(&format!("{name}-{pod_of}")).vram(2).of("art", &name));
        });
    }
    let workloads = gate.outlook().workloads;
    assert_eq!(workloads.len(), 50);
    assert_eq!(workloads.iter().filter(|one| one.pods == 2).count(), 30);
}

#[test]
fn a_node_is_idle_while_nobody_has_anything_of_it() {
    let n0 = node("n0").gpus(2).replicas(4);
    let mut gate = Gate::with(&[n0.clone(), node("no-gpus")]);
    let idle = |gate: &Gate| {
        let idle = gate.outlook().idle;
        assert_eq!(idle.len(), 1, "{idle:?}");
        idle[0].1.as_secs()
    };
    let read_on = |gate: &mut Gate, node: &Node, seconds| {
        gate.wait(seconds);
        gate.read(node);
    };
    read_on(&mut gate, &n0, 5);
    assert_eq!(idle(&gate), 5);
    read_on(&mut gate, &n0.clone().gpu(0, |gpu| gpu.used = Bytes::mib(512)), 5);
    assert_eq!(idle(&gate), 10, "a driver's context is nobody's work");
    read_on(&mut gate, &n0.clone().foreign(1, 1), 5);
    assert_eq!(idle(&gate), 0, "somebody is there");
    read_on(&mut gate, &n0, 5);
    read_on(&mut gate, &n0, 5);
    assert_eq!(idle(&gate), 5);
    let coming = pod("p").vram(2);
    gate.add(&coming);
    gate.hold(&coming, "n0");
    assert_eq!(idle(&gate), 0, "somebody is on the way");
    let bound = gate.bind(&coming, "n0");
    gate.ledger.delete_pod(bound.uid(), Some(bound.clone().ended().facts), gate.now);
    gate.wait(5);
    gate.read(&n0);
    assert_eq!(idle(&gate), 0, "nothing shows that its memory is free");
    gate.sample_now(&n0);
    gate.wait(5);
    assert_eq!(idle(&gate), 5);
    gate.wait(10);
    assert_eq!(idle(&gate), 0, "nobody has looked for 15 s");
}
