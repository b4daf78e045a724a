//! Whoever waits too long has a place kept for it, and nobody is evicted.

use std::time::Duration;

use filmgate::engine::claim::ClaimState;
use filmgate::engine::{Policy, Reason};

use crate::support::{Gate, Node, Pod, gpu, less, node, pod};

const AFTER: u64 = 120;

impl Gate {
    /// That much time passes, and the ledger looks who waits too long.
    fn starve(&mut self, seconds: u64) {
        self.wait(seconds);
        self.ledger.reserve(self.now);
    }

    /// Where a place is reserved for the pod.
    fn reserved(&self, pod: &Pod) -> Option<String> {
        let (node, claim) = self.ledger.claim(pod.uid())?;
        let gpus = claim.planned.iter().map(|(gpu, _)| gpu.to_string()).collect::<Vec<_>>();
        assert!(matches!(claim.state, ClaimState::Reserved { .. }), "{claim:?}");
        Some(format!("{node}: {}", gpus.join(", ")))
    }
}

fn on(node: &str, index: u32) -> Option<String> {
    Some(format!("{node}: {}", gpu(node, index)))
}

fn shared(name: &str) -> Node {
    node(name).gpus(1).replicas(8)
}

/// A GPU that two pods have, ten each, and one that asks for twenty.
fn starving() -> (Gate, Pod, Pod) {
    let mut gate = Gate::with(&[shared("n0")]);
    let first = gate.bind(&pod("first").vram(10), "n0");
    gate.bind(&pod("second").vram(10), "n0");
    let big = pod("big").vram(20);
    gate.refuse(&big, &["n0"]);
    (gate, first, big)
}

#[test]
fn what_becomes_free_is_kept_for_a_pod_that_has_waited_too_long() {
    let (mut gate, first, big) = starving();
    gate.starve(AFTER - 1);
    assert_eq!(gate.reserved(&big), None);
    let small = pod("small").vram(3);
    gate.add(&small);
    assert_eq!(gate.refusal(&small, "n0"), None);

    gate.starve(1);
    assert_eq!(gate.reserved(&big), on("n0", 0));
    assert_eq!(gate.refusal(&small, "n0"), Some(Reason::NotEnoughVram));
    gate.leave(&first, &shared("n0"));
    assert_eq!(gate.refusal(&small, "n0"), Some(Reason::NotEnoughVram), "ten are free now");
    let second = pod("second").on("n0");
    gate.leave(&second, &shared("n0"));
    assert_eq!(gate.wakes(), [("big".to_owned(), "n0".to_owned())]);
    assert!(gate.bind(&big, "n0").facts.node.is_some());
    assert_eq!(gate.free("n0", 0), less(20));
    assert_eq!(gate.refusal(&small, "n0"), None);
}

#[test]
fn a_higher_priority_passes_around_and_an_equal_one_does_not() {
    let (mut gate, ..) = starving();
    gate.starve(AFTER);
    for (priority, refusal) in [(0, Some(Reason::NotEnoughVram)), (1, None)] {
        let newcomer = pod(&format!("newcomer-{priority}")).priority(priority).vram(3);
        gate.add(&newcomer);
        assert_eq!(gate.refusal(&newcomer, "n0"), refusal);
    }
}

#[test]
fn the_gpu_nearest_to_fitting_is_chosen_among_nodes_that_were_offered_and_could_ever_fit() {
    let mut gate = Gate::with(&[
        shared("n0"),
        shared("n1"),
        shared("n2"),
        shared("n3").total(16),
        shared("n4").foreign(0, 8),
    ]);
    for (node, gib) in [("n0", 12), ("n1", 9), ("n2", 6), ("n3", 1)] {
        gate.bind(&pod(&format!("on-{node}")).vram(gib), node);
    }
    let big = pod("big").vram(20);
    gate.refuse(&big, &["n0", "n1", "n3", "n4"]);
    gate.starve(AFTER);
    assert_eq!(gate.reserved(&big), on("n1", 0), "n2 is nearer, and was not offered");
}

#[test]
fn on_a_node_of_several_gpus_the_nearest_is_kept_and_the_others_are_not() {
    let n0 = node("n0").gpus(3).replicas(8).foreign(2, 20);
    let mut gate = Gate::with(&[n0]);
    for (name, gib) in [("a", 13), ("b", 11)] {
        gate.bind(&pod(name).vram(gib), "n0");
    }
    let big = pod("big").vram(20);
    gate.refuse(&big, &["n0"]);
    gate.starve(AFTER);
    let nearest = gate.reserved(&big).expect("a place");
    let other = if on("n0", 0).as_ref() == Some(&nearest) { 1 } else { 0 };
    let b = gate.ledger.claim(&"b".into()).map(|(_, claim)| claim.planned[0].0.clone());
    assert_eq!(Some(nearest), b.map(|gpu| format!("n0: {gpu}")));
    assert!(gate.free("n0", other) > 0 && gate.free("n0", 2) > 0);
    assert_eq!(gate.free("n0", 1 - other), 0);
}

#[test]
fn a_pod_of_two_gpus_has_both_kept() {
    let n0 = node("n0").gpus(3).replicas(8);
    let mut gate = Gate::with(&[n0]);
    for (name, gib) in [("a", 10), ("b", 16), ("c", 14)] {
        gate.bind(&pod(name).vram(gib), "n0");
    }
    let big = pod("big").gpus(2).vram(20);
    gate.refuse(&big, &["n0"]);
    gate.starve(AFTER);
    let kept = gate.reserved(&big).expect("a place");
    let of = |name: &str| gate.ledger.claim(&name.into()).unwrap().1.planned[0].0.to_string();
    assert!(kept.contains(&of("a")) && kept.contains(&of("c")), "{kept}");
}

#[test]
fn a_pod_that_needs_a_whole_gpu_has_the_emptiest_kept_from_everyone() {
    let mut gate = Gate::with(&[shared("n0"), shared("n1")]);
    gate.bind(&pod("a").vram(8), "n0");
    let b = gate.bind(&pod("b").vram(4), "n1");
    let whole = pod("whole");
    gate.refuse(&whole, &["n0", "n1"]);
    gate.starve(AFTER);
    assert_eq!(gate.reserved(&whole), on("n1", 0));
    let tiny = pod("tiny").vram(1);
    gate.add(&tiny);
    assert_eq!(gate.refusal(&tiny, "n1"), Some(Reason::NotEnoughVram));
    assert_eq!(gate.refusal(&tiny, "n0"), None);
    gate.leave(&b, &shared("n1"));
    assert_eq!(gate.wakes(), [("whole".to_owned(), "n1".to_owned())]);
}

#[test]
fn one_place_at_a_time_and_the_first_in_line_has_it() {
    let (mut gate, first, big) = starving();
    let (vip, late) = (pod("vip").priority(5).vram(20), pod("late").vram(20));
    gate.wait(30);
    gate.refuse(&vip, &["n0"]);
    gate.refuse(&late, &["n0"]);
    gate.starve(AFTER - 30);
    assert!(gate.reserved(&big).is_some(), "the first of those that starve");
    gate.starve(60);
    assert_eq!((gate.reserved(&vip), gate.ledger.reservations()), (None, 1));
    gate.starve(60);
    assert!(gate.reserved(&vip).is_some(), "decided anew after another starvationAfter");
    assert_eq!(gate.ledger.reservations(), 1);
    gate.ledger.delete_pod(vip.uid(), None, gate.now);
    gate.starve(1);
    assert!(gate.reserved(&big).is_some());
    gate.leave(&first, &shared("n0"));
    assert_eq!(gate.ledger.reservations(), 1);
}

#[test]
fn a_place_that_cannot_come_free_any_more_is_given_up() {
    let nodes = [shared("n0"), shared("n1")];
    let ended_by: [fn(&mut Gate, &Pod); 4] = [
        |gate, big| gate.refuse(big, &["n1"]),
        |gate, _| gate.ledger.delete_node(&"n0".into()),
        |gate, big| gate.ledger.stop_waiting(big.uid()),
        |gate, _| {
            gate.read(&shared("n0").each(|gpu| gpu.used = gpu.total + gpu.total));
        },
    ];
    for (case, end) in ended_by.into_iter().enumerate() {
        let mut gate = Gate::with(&nodes);
        gate.bind(&pod("a").vram(8), "n0");
        gate.bind(&pod("b").vram(12), "n1");
        let big = pod("big").vram(20);
        gate.refuse(&big, &["n0", "n1"]);
        gate.starve(AFTER);
        assert_eq!(gate.reserved(&big), on("n0", 0));
        end(&mut gate, &big);
        gate.starve(1);
        let expected = if case == 2 { None } else { on("n1", 0) };
        assert_eq!(gate.reserved(&big), expected, "{case}");
    }
}

#[test]
fn nothing_is_kept_for_a_pod_that_could_never_fit_or_fits_already() {
    let mut gate = Gate::with(&[shared("n0"), shared("n1").total(48)]);
    gate.bind(&pod("a").vram(8), "n0");
    let b = gate.bind(&pod("b").vram(30), "n1");
    let (huge, big) = (pod("huge").vram(30), pod("big").vram(20));
    gate.refuse(&huge, &["n0"]);
    gate.refuse(&big, &["n0"]);
    gate.starve(AFTER);
    gate.starve(1);
    assert_eq!((gate.reserved(&huge), gate.reserved(&big)), (None, on("n0", 0)));
    gate.leave(&b, &shared("n1").total(48));
    let fits = pod("fits").vram(30).created_at(-1);
    gate.refuse(&fits, &["n1"]);
    gate.starve(AFTER);
    gate.starve(1);
    assert_eq!(gate.reserved(&fits), None);
}

#[test]
fn devices_are_kept_too() {
    let n0 = node("n0").gpus(2).replicas(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    gate.read(&n0.clone().foreign(1, 18));
    let a = gate.bind(&pod("a").vram(10), "n0");
    let big = pod("big").vram(20);
    gate.refuse(&big, &["n0"]);
    gate.starve(AFTER);
    assert!(gate.reserved(&big).is_some());
    let small = pod("small").vram(3);
    gate.add(&small);
    assert_eq!(gate.refusal(&small, "n0"), Some(Reason::DevicesKept), "GPU 1 has room for it");
    gate.leave(&a, &n0.foreign(1, 18));
    assert_eq!(gate.refusal(&small, "n0"), None, "one device is kept, and there are two");
}

#[test]
fn how_long_is_too_long_is_configured() {
    let policy = Policy { starvation_after: Duration::from_secs(7), ..Policy::default() };
    let mut gate = Gate::under(policy, &[shared("n0")]);
    gate.bind(&pod("a").vram(10), "n0");
    let big = pod("big").vram(20);
    gate.refuse(&big, &["n0"]);
    gate.starve(6);
    assert_eq!(gate.reserved(&big), None);
    gate.starve(1);
    assert_eq!(gate.reserved(&big), on("n0", 0));
}
