//! From a filter to a bound pod.

use crate::support::{Gate, less, node, pod};
use filmgate::engine::{AdmitError, HoldOutcome, Policy, Reason};

#[test]
fn a_hold_keeps_its_room_from_others_and_not_from_its_pod() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let (mine, other) = (pod("mine").vram(12), pod("other").vram(12));
    assert!(gate.hold(&mine, "n0"));
    assert_eq!(gate.refusal(&other, "n0"), Some(Reason::NotEnoughVram));
    assert_eq!(gate.refusal(&mine, "n0"), None);
    assert_eq!(gate.admit(&mine, "n0").unwrap().hold, HoldOutcome::Used);
}

#[test]
fn a_hold_ends_by_itself_even_before_the_ledger_is_told_of_the_time() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    assert!(gate.hold(&pod("mine").vram(12), "n0"));
    gate.pass(30);
    assert_eq!(gate.refusal(&pod("other").vram(12), "n0"), None);
    assert!(gate.admit(&pod("other").vram(12), "n0").is_ok());
    gate.wait(0);
    assert_eq!(gate.ledger.expired_holds(), 1);
}

#[test]
fn a_hold_is_no_promise_admission_looks_again() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let held = pod("held").vram(12);
    assert!(gate.hold(&held, "n0"));
    gate.read(&node("n0").gpus(1).foreign(0, 20));
    assert_eq!(gate.admit(&held, "n0"), Err(AdmitError::Refused(Reason::NotEnoughVram)));
}

#[test]
fn admission_counts_what_pods_measurably_hold() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    gate.bind(&pod("p0").vram(4), "n0");
    gate.read(&node("n0").gpus(1).uses("p0", 0, 20));
    assert_eq!(
        gate.admit(&pod("p1").vram(12), "n0"),
        Err(AdmitError::Refused(Reason::NotEnoughVram))
    );
}

#[test]
fn a_pod_holds_in_one_place_and_bind_elsewhere_moves_it() {
    let mut gate = Gate::with(&[node("a").gpus(1), node("b").gpus(1)]);
    let moved = pod("p0").vram(12);
    assert!(gate.hold(&moved, "a") && gate.hold(&moved, "b"));
    assert_eq!((gate.free("a", 0), gate.free("b", 0)), (less(0), less(12)));
    assert_eq!(gate.admit(&moved, "a").unwrap().hold, HoldOutcome::Moved);
    assert_eq!((gate.free("a", 0), gate.free("b", 0)), (less(12), less(0)));
}

#[test]
fn a_hold_that_cannot_move_stays() {
    let mut gate = Gate::with(&[node("a").gpus(1), node("b").gpus(1).foreign(0, 20)]);
    let held = pod("p0").vram(12);
    assert!(gate.hold(&held, "a"));
    assert!(!gate.hold(&held, "b"));
    assert_eq!(gate.free("a", 0), less(12));
}

#[test]
fn without_holds_bind_admits_by_itself() {
    let policy = Policy { holds: false, ..Policy::default() };
    let mut gate = Gate::under(policy, &[node("n0").gpus(1)]);
    assert!(!gate.hold(&pod("p0").vram(12), "n0"));
    assert_eq!(gate.admit(&pod("p0").vram(12), "n0").unwrap().hold, HoldOutcome::Missing);
}

#[test]
fn a_refused_binding_frees_at_once() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    gate.admit(&pod("p0").vram(12), "n0").unwrap();
    gate.ledger.not_bound(pod("p0").uid(), gate.now);
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn a_binding_in_doubt_keeps_its_charge_until_the_api_server_has_spoken() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let doubtful = pod("p0").vram(12);
    gate.admit(&doubtful, "n0").unwrap();
    gate.ledger.doubt(doubtful.uid());
    gate.wait(3600);
    gate.sample_now(&node("n0").gpus(1));
    assert_eq!(gate.free("n0", 0), less(12));
    assert_eq!(gate.ledger.in_doubt().count(), 1);
    assert!(gate.ledger.is_binding(doubtful.uid()));
    gate.ledger.not_bound(doubtful.uid(), gate.now);
    assert_eq!((gate.free("n0", 0), gate.ledger.in_doubt().count()), (less(0), 0));
}

#[test]
fn a_pod_is_admitted_once() {
    let mut gate = Gate::with(&[node("n0").gpus(2), node("n1").gpus(1)]);
    let twice = pod("p0").vram(1);
    gate.admit(&twice, "n0").unwrap();
    assert_eq!(gate.admit(&twice, "n1"), Err(AdmitError::InFlight));
    gate.ledger.bound(twice.uid(), gate.now);
    assert_eq!(gate.admit(&twice, "n1"), Err(AdmitError::AlreadyBound("n0".into())));
}

#[test]
fn a_pod_that_ended_is_not_bound_again_when_its_charge_is_over() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let ended = gate.bind(&pod("p0").vram(1), "n0").ended();
    gate.add(&ended);
    gate.sample_now(&node("n0").gpus(1));
    assert!(!gate.has_claim(&ended));
    let again = gate.ledger.admit(ended.uid(), "n0", gate.now);
    assert_eq!(again, Err(AdmitError::AlreadyBound("n0".into())));
}

#[test]
fn unknown_pods_nodes_and_bad_requests_are_refused_and_change_nothing() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let uid = "nobody".into();
    assert_eq!(gate.ledger.admit(&uid, "n0", gate.now), Err(AdmitError::UnknownPod));
    assert_eq!(
        gate.admit(&pod("p0").vram(1), "nowhere"),
        Err(AdmitError::Refused(Reason::UnknownNode))
    );
    assert!(matches!(gate.admit(&pod("bad").unreadable(), "n0"), Err(AdmitError::BadRequest(_))));
    assert_eq!((gate.free("n0", 0), gate.ledger.claims().count()), (less(0), 0));
}

#[test]
fn the_decision_is_in_the_annotations_and_the_fraction_leaves_the_context_out() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let admission = gate.admit(&pod("p0").vram(12), "n0").unwrap();
    let expected = [
        ("filmgate.dev/vram-charged", "GPU-n0-0=12884901888"),
        ("filmgate.dev/vram-fraction", "0.4791"),
        ("filmgate.dev/gpu", "GPU-n0-0"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(admission.annotations, expected);
}
