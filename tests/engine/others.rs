//! Pods that others bound, and decisions that others wrote.

use filmgate::engine::marks::Mark;
use filmgate::engine::notice::Notice;
use filmgate::engine::pod::CHARGED_ANNOTATION;
use filmgate::engine::request::GPU_ANNOTATION;
use filmgate::engine::{Bytes, PodFacts};

use crate::support::{Gate, Node, Pod, gpu, less, node, pod};

const OTHER_CONTAINER: &str = "filmgate.dev/gpu.other";

fn n0() -> Node {
    node("n0").gpus(2).replicas(4)
}

fn free(gate: &Gate) -> (u64, u64) {
    (gate.free("n0", 0), gate.free("n0", 1))
}

fn overdrawn(gate: &Gate, index: u32) -> u64 {
    let mut overdrawn = Bytes::ZERO;
    gate.ledger.for_each_gpu(|_, state| {
        if state.index == index {
            overdrawn = state.overdrawn(Bytes::mib(512));
        }
    });
    overdrawn.get() >> 20
}

fn unmanaged(gate: &Gate) -> usize {
    gate.ledger.unmanaged_pods().map(|(_, pods)| pods).sum()
}

fn marked<const N: usize>(pod: &Pod, marks: [Mark; N]) -> Pod {
    Pod { facts: PodFacts { marks: marks.into_iter().collect(), ..pod.facts.clone() } }
}

fn by_binding(value: &str) -> Mark {
    Mark::new(CHARGED_ANNOTATION, value, false)
}

fn by_hand(value: &str) -> Mark {
    Mark::new(CHARGED_ANNOTATION, value, true)
}

/// Keys that were told of as forged.
fn forged(gate: &mut Gate) -> Vec<String> {
    let notices = gate.ledger.take_notices(gate.now).into_iter();
    let keys = notices.filter_map(|notice| match notice {
        Notice::Forged { keys, .. } => Some(keys),
        _ => None,
    });
    keys.flatten().collect()
}

#[test]
fn pods_of_others_may_overdraw_a_gpu_and_nothing_wraps() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(8)]);
    gate.bind(&pod("ours").vram(10), "n0");
    for name in ["a", "b", "c"] {
        gate.add(&pod(name).vram(20).on("n0"));
    }
    assert_eq!((unmanaged(&gate), gate.free("n0", 0)), (3, 0));
    assert_eq!(overdrawn(&gate, 0), (70 - 24) * 1024 + 512);
    assert!(gate.admit(&pod("late").vram(1), "n0").is_err());
    gate.add(&pod("endless").vram(1 << 20).gpus(u32::from(u16::MAX)).on("n0"));
    assert_eq!(gate.free("n0", 0), 0);
}

#[test]
fn a_pod_of_others_that_is_gone_is_not_counted_any_more() {
    let mut gate = Gate::with(&[n0()]);
    let theirs = pod("theirs").vram(12).on("n0");
    gate.add(&theirs);
    gate.bind(&pod("ours").vram(4), "n0");
    assert_eq!(unmanaged(&gate), 1);
    gate.ledger.delete_pod(theirs.uid(), Some(theirs.clone().ended().facts), gate.now);
    gate.sample_now(&n0());
    assert_eq!(unmanaged(&gate), 0);
}

#[test]
fn a_decision_that_someone_wrote_by_hand_is_not_believed() {
    let mut gate = Gate::with(&[n0()]);
    let theirs = pod("theirs").vram(12).on("n0").decided("n0", 1, 1);
    gate.add(&marked(&theirs, [by_hand("x")]));
    assert_eq!((free(&gate), unmanaged(&gate)), ((less(12), less(12)), 1));
    assert_eq!(forged(&mut gate), [CHARGED_ANNOTATION]);
}

#[test]
fn a_decision_that_was_there_before_the_pod_was_bound_is_not_believed() {
    let mut gate = Gate::with(&[n0()]);
    let preset = pod("theirs").vram(12).decided("n0", 1, 1);
    gate.add(&marked(&preset, [by_binding("x")]));
    gate.add(&marked(&preset.on("n0"), [by_binding("x")]));
    assert_eq!((free(&gate), unmanaged(&gate)), ((less(12), less(12)), 1));
    assert_eq!(forged(&mut gate), [CHARGED_ANNOTATION], "and told once");
}

#[test]
fn a_decision_of_fewer_gpus_than_the_pod_has_is_not_believed() {
    let mut gate = Gate::with(&[n0()]);
    gate.add(&pod("p0").vram(12).gpus(2).on("n0").decided("n0", 1, 12).decided("n0", 1, 12));
    assert_eq!((free(&gate), unmanaged(&gate)), ((less(12), less(12)), 1));
}

#[test]
fn an_earlier_process_decision_is_believed_and_never_below_what_is_declared_or_held() {
    let mut gate = Gate::with(&[n0()]);
    gate.add(&marked(&pod("p0").vram(12).on("n0").decided("n0", 1, 3), [by_binding("x")]));
    assert_eq!((free(&gate), unmanaged(&gate)), ((less(0), less(12)), 0));
    gate.read(&n0().uses("p0", 1, 15));
    assert_eq!(free(&gate), (less(0), less(15)));
}

#[test]
fn what_our_own_binding_wrote_over_is_believed() {
    let mut gate = Gate::with(&[n0().foreign(1, 20)]);
    let preset = marked(&pod("p0").vram(12), [by_hand("GPU-x=1")]);
    gate.admit(&preset, "n0").unwrap();
    assert_eq!(forged(&mut gate), [CHARGED_ANNOTATION]);
    let bound = preset.on("n0").decided("n0", 0, 12);
    gate.add(&marked(&bound, [by_hand("GPU-n0-0=12")]));
    assert_eq!((gate.free("n0", 0), unmanaged(&gate)), (less(12), 0));
    assert_eq!(forged(&mut gate), [""; 0]);
}

#[test]
fn a_binding_writes_over_every_place_that_a_container_may_read_its_gpus_from() {
    let mut gate = Gate::with(&[n0()]);
    let preset = [
        Mark::new(GPU_ANNOTATION, "GPU-x", true),
        Mark::new(OTHER_CONTAINER.to_owned(), "GPU-x", true),
    ];
    let admission = gate.admit(&marked(&pod("p0").vram(12), preset), "n0").unwrap();
    let chosen = gpu("n0", 0).to_string();
    for key in [GPU_ANNOTATION, OTHER_CONTAINER] {
        assert!(admission.annotations.contains(&(key.to_owned(), chosen.clone())), "{key}");
    }
}

#[test]
fn an_edit_of_a_running_pod_is_told_and_changes_nothing() {
    let mut gate = Gate::with(&[n0()]);
    let bound = marked(&gate.bind(&pod("p0").vram(12), "n0"), [by_binding("GPU-n0-0=12")]);
    gate.add(&bound);
    gate.ledger.take_notices(gate.now);
    let mut edited = bound.clone();
    edited.facts.decision = None;
    gate.add(&marked(&edited.decided("n0", 1, 1), [by_hand("GPU-n0-1=1")]));
    assert_eq!(free(&gate), (less(12), less(0)));
    assert_eq!(forged(&mut gate), [CHARGED_ANNOTATION]);
    gate.add(&marked(&bound, []));
    assert_eq!((free(&gate), forged(&mut gate).len()), ((less(12), less(0)), 1));
}

#[test]
fn news_that_nobody_could_be_told_for_a_minute_is_none() {
    let mut gate = Gate::with(&[n0()]);
    gate.add(&marked(&pod("old"), [by_hand("x")]));
    gate.pass(59);
    gate.add(&marked(&pod("new"), [by_hand("x")]));
    assert!(gate.ledger.has_notices());
    gate.pass(1);
    let pods = gate.ledger.take_notices(gate.now);
    let pods: Vec<_> = pods.iter().filter_map(Notice::pod).map(|pod| &*pod.name).collect();
    assert_eq!(pods, ["new"]);
}

#[test]
fn a_pod_that_grows_past_its_charge_is_told_of_and_again_at_twice_as_much() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&pod("p0").vram(4), "n0");
    let mut told_at = Vec::new();
    for gib in [3, 4, 5, 5, 6, 7, 8, 9, 3, 5] {
        gate.read(&n0().uses("p0", 0, gib));
        let notices = gate.ledger.take_notices(gate.now);
        if notices.iter().any(|notice| matches!(notice, Notice::Grown { .. })) {
            told_at.push(gib);
        }
        let over: u64 = gate.ledger.over_charges().map(|over| over.bytes.get() >> 30).sum();
        assert_eq!(over, gib.saturating_sub(4), "{gib}");
    }
    assert_eq!(told_at, [5, 6, 8, 5]);
}

#[test]
fn a_pod_that_has_a_whole_gpu_does_not_grow_past_it() {
    let mut gate = Gate::with(&[n0().foreign(0, 1)]);
    gate.bind(&pod("p0"), "n0");
    gate.read(&n0().uses("p0", 0, 24));
    assert_eq!(gate.ledger.over_charges().count(), 0);
}

/// What was told of where pods are.
fn landings(gate: &mut Gate) -> Vec<Notice> {
    let notices = gate.ledger.take_notices(gate.now).into_iter();
    notices.filter(|one| matches!(one, Notice::Landed | Notice::Strayed { .. })).collect()
}

#[test]
fn a_steered_pod_has_landed_when_its_process_is_seen_where_it_was_sent() {
    let mut gate = Gate::with(&[n0()]);
    gate.bind(&pod("p0").vram(4), "n0");
    gate.read(&n0().lists("p0", 1));
    assert_eq!(landings(&mut gate), []);
    for _ in 0..2 {
        gate.read(&n0().lists("p0", 1).uses("p0", 0, 1));
    }
    assert_eq!(landings(&mut gate), [Notice::Landed]);
}

#[test]
fn a_pod_that_is_found_on_another_gpu_is_told_of_once_also_if_it_moved_there_later() {
    let mut gate = Gate::with(&[n0()]);
    let sent = gate.bind(&pod("p0").vram(4), "n0");
    gate.read(&n0().uses("p0", 0, 1));
    for _ in 0..2 {
        gate.read(&n0().uses("p0", 1, 1));
    }
    let strayed = Notice::Strayed {
        pod: sent.facts.id,
        node: "n0".into(),
        sent_to: vec![0],
        found_on: vec![1],
        is_steered: true,
    };
    assert_eq!(landings(&mut gate), [Notice::Landed, strayed]);
}

#[test]
fn an_unsteered_pod_has_landed_where_the_kubelet_lists_it() {
    let mut gate = Gate::with(&[n0()]);
    gate.add(&pod("first").vram(1).on("n0"));
    let book = n0().lists("first", 0);
    gate.read(&book);
    gate.bind(&pod("hit").vram(4).unsteered(), "n0");
    let book = book.lists("hit", 1);
    gate.read(&book);
    assert_eq!(landings(&mut gate), [Notice::Landed]);

    gate.bind(&pod("either").vram(4).unsteered(), "n0");
    let book = book.lists("either", 0);
    gate.read(&book);
    assert_eq!(landings(&mut gate), [Notice::Landed], "in a tie it was charged on both");

    gate.bind(&pod("miss").vram(4).unsteered(), "n0");
    gate.read(&book.lists("miss", 0));
    assert!(matches!(&landings(&mut gate)[..], [Notice::Strayed { .. }]));
}

#[test]
fn a_pod_that_another_process_sent_is_nobodys_hit_or_miss() {
    let mut gate = Gate::with(&[n0()]);
    gate.add(&pod("p0").vram(4).on("n0").decided("n0", 0, 4));
    gate.read(&n0().uses("p0", 1, 1));
    assert_eq!(landings(&mut gate), []);
}
