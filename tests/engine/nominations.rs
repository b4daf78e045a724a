//! The place that victims leave is kept for the preemptor.

use filmgate::engine::{AdmitError, Bytes, GpuAsk, HoldOutcome, Reason, Vram};

use crate::preemption::{clear, high, low};
use crate::support::{Gate, Pod, gpu, less, node, pod};

#[test]
fn one_set_of_victims_is_enough() {
    let mut gate = Gate::with(&[node("n0").gpus(1), node("n1").gpus(1)]);
    let (a, b) = (gate.bind(&low("a").vram(20), "n0"), gate.bind(&low("b").vram(20), "n1"));
    let asker = high("asker").vram(16);
    let candidates = [clear("n0", &[&a]), clear("n1", &[&b])];
    assert_eq!(gate.preempt(&asker, &candidates), Some("n0".into()));
    assert_eq!(gate.chosen(&asker, &candidates), None);
    assert_eq!(gate.preempt(&asker, &candidates), None);
    // Whatever kube-scheduler does with the nomination.
    gate.add(&asker.clone().nominated("n1"));
    assert_eq!(gate.preempt(&asker, &candidates), None);
    assert_eq!(gate.preempt(&high("next").vram(16), &candidates), Some("n1".into()), "its own");
}

#[test]
fn a_newcomer_does_not_take_the_place_while_the_victims_memory_lingers_or_is_gone() {
    let n0 = node("n0").gpus(1).replicas(4);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    let small = pod("small").vram(6);
    let equal = high("equal").vram(6);
    for newcomer in [&small, &equal] {
        gate.add(newcomer);
        assert_eq!(gate.refusal(newcomer, "n0"), Some(Reason::NotEnoughVram));
    }
    gate.leave(&victim, &n0.clone().uses("victim", 0, 8));
    for newcomer in [&small, &equal] {
        assert_eq!(gate.refusal(newcomer, "n0"), Some(Reason::NotEnoughVram), "8 of it linger");
    }
    gate.read(&n0);
    for newcomer in [&small, &equal] {
        assert_eq!(gate.refusal(newcomer, "n0"), Some(Reason::NotEnoughVram), "all is gone");
        let refused = Err(AdmitError::Refused(Reason::NotEnoughVram));
        assert_eq!(gate.admit(newcomer, "n0").map(|_| ()), refused);
    }
    assert_eq!(gate.refusal(&pod("tiny").vram(3), "n0"), None, "what is beside it is free");
    assert!(gate.bind(&asker, "n0").facts.node.is_some());
}

/// When the victims are gone and nobody else could be evicted there, kube-scheduler takes its
/// nomination back, and with it the devices that it kept for the preemptor.
#[test]
fn a_newcomer_does_not_take_the_last_device_beside_the_place() {
    let n0 = node("n0").gpus(1).replicas(2);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(8), "n0");
    let asker = high("asker").vram(10);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    let (tiny, second) = (pod("tiny").vram(1), pod("second").vram(1));
    gate.add(&tiny);
    gate.add(&second);
    assert_eq!(gate.refusal(&tiny, "n0"), None, "one of two is left");
    gate.hold(&tiny, "n0");
    assert_eq!(gate.refusal(&second, "n0"), Some(Reason::DevicesKept));
    gate.leave(&victim, &n0);
    gate.bind(&tiny, "n0");
    assert_eq!(gate.refusal(&second, "n0"), Some(Reason::DevicesKept));
    let refused = Err(AdmitError::Refused(Reason::DevicesKept));
    assert_eq!(gate.admit(&second, "n0").map(|_| ()), refused);
    gate.refuse(&second, &["n0"]);
    gate.wakes();
    gate.ledger.delete_pod(asker.uid(), None, gate.now);
    assert_eq!(gate.wakes(), [("second".to_owned(), "n0".to_owned())], "nobody comes");
}

/// A third pod goes: its device is free at once, its memory when a sampling shows it.
#[test]
fn a_device_that_comes_free_beside_the_place_wakes_who_waited_for_it() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(2)]);
    let victim = gate.bind(&low("victim").vram(8), "n0");
    let other = gate.bind(&pod("other").vram(2), "n0");
    gate.preempt(&high("asker").vram(8), &[clear("n0", &[&victim])]);
    let tiny = pod("tiny").vram(1);
    gate.add(&tiny);
    assert_eq!(gate.refusal(&tiny, "n0"), Some(Reason::DevicesKept));
    gate.refuse(&tiny, &["n0"]);
    gate.wakes();
    let free = gate.free("n0", 0);
    gate.ledger.delete_pod(other.uid(), None, gate.now);
    assert_eq!(gate.free("n0", 0), free, "no sampling yet");
    assert_eq!(gate.wakes(), [("tiny".to_owned(), "n0".to_owned())]);
}

#[test]
fn a_higher_priority_passes_around() {
    let n0 = node("n0").gpus(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    gate.leave(&victim, &n0);
    let higher = pod("higher").priority(1001).vram(20);
    gate.add(&higher);
    assert_eq!(gate.refusal(&higher, "n0"), None);
    assert!(gate.hold(&higher, "n0"));
    assert_eq!(gate.refusal(&asker, "n0"), Some(Reason::NotEnoughVram), "advice may be overtaken");
    assert!(gate.admit(&higher, "n0").is_ok());
    // A pod that the ledger does not know yet has no priority that it could trust.
    assert!(gate.refusal(&pod("unknown").priority(2000).vram(3), "n0").is_some());
}

#[test]
fn what_victims_hold_and_what_is_nominated_count_once() {
    let n0 = node("n0").gpus(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(8), "n0");
    gate.preempt(&high("asker").vram(6), &[clear("n0", &[&victim])]);
    assert_eq!((gate.free("n0", 0), gate.charged("n0", 0)), (less(8), 8), "the victim's are more");
    gate.leave(&victim, &n0.clone().uses("victim", 0, 8));
    assert_eq!((gate.free("n0", 0), gate.charged("n0", 0)), (less(8), 8), "measured by now");
    gate.read(&n0.uses("victim", 0, 1));
    assert_eq!((gate.free("n0", 0), gate.charged("n0", 0)), (less(6), 1), "the nominated are more");
}

#[test]
fn a_victim_of_two_is_one() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let victim = gate.bind(&low("victim").vram(12), "n0");
    gate.preempt(&high("asker").vram(10), &[clear("n0", &[&victim])]);
    let higher = pod("higher").priority(2000).vram(12);
    assert_eq!(gate.preempt(&higher, &[clear("n0", &[&victim])]), Some("n0".into()));
    assert_eq!(gate.free("n0", 0), less(22), "both places, the victim's memory in them");
}

#[test]
fn the_preemptor_is_not_in_its_own_way_and_is_woken_when_memory_is_measured_free() {
    let n0 = node("n0").gpus(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    assert_eq!(gate.refusal(&asker, "n0"), Some(Reason::NotEnoughVram), "the victim is there");
    gate.refuse(&asker, &["n0"]);
    gate.refuse(&pod("small").vram(6), &["n0"]);
    assert!(gate.is_nominated(&asker));
    gate.leave(&victim, &n0.clone().uses("victim", 0, 20));
    assert_eq!(gate.wakes(), []);
    gate.wait(2);
    gate.read(&n0);
    assert_eq!(gate.refusal(&asker, "n0"), None);
    assert_eq!(gate.wakes(), [("asker".into(), "n0".into())]);
    assert_eq!(gate.admit(&asker, "n0").map(|admission| admission.hold), Ok(HoldOutcome::Used));
}

#[test]
fn memory_given_back_bit_by_bit_wakes_the_preemptor() {
    let n0 = node("n0").gpus(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    gate.leave(&victim, &n0.clone().uses("victim", 0, 20));
    gate.refuse(&asker, &["n0"]);
    gate.wakes();
    gate.wait(2);
    gate.read(&n0.uses("victim", 0, 1));
    assert_eq!(gate.wakes(), [("asker".into(), "n0".into())]);
}

#[test]
fn admission_alone_decides() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    let refused = gate.admit(&asker, "n0");
    assert_eq!(refused, Err(AdmitError::Refused(Reason::NotEnoughVram)));
    assert!(gate.is_nominated(&asker), "and the place is still its own");
}

#[test]
fn the_place_is_kept_for_a_minute_after_the_last_victim_is_gone() {
    let n0 = node("n0").gpus(1).replicas(4);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let (a, b) = (gate.bind(&low("a").vram(10), "n0"), gate.bind(&low("b").vram(10), "n0"));
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&a, &b])]);
    gate.wait(10);
    gate.leave(&a, &n0);
    gate.wait(300);
    assert!(gate.is_nominated(&asker), "one is still there");
    gate.leave(&b, &n0);
    gate.wait(1);
    gate.wait(57);
    assert!(gate.is_nominated(&asker));
    assert_eq!(gate.free("n0", 0), less(20));
    gate.pass(3);
    assert_eq!(gate.refusal(&pod("small").vram(20), "n0"), None, "though nobody has noticed");
    gate.wait(0);
    assert!(!gate.has_claim(&asker));
    assert_eq!((gate.free("n0", 0), gate.ledger.expired_holds()), (less(0), 0));
}

#[test]
fn a_nomination_that_kube_scheduler_does_not_follow_ends() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    gate.wait(59);
    assert!(gate.is_nominated(&asker));
    gate.add(&victim.clone().deleting());
    gate.wait(500);
    assert!(gate.is_nominated(&asker), "its victim takes its time");
    gate.add(&victim);
    gate.wait(1);
    assert!(!gate.has_claim(&asker), "nobody has left, and nobody leaves");
    assert_eq!(gate.preempt(&asker, &[clear("n0", &[&victim])]), Some("n0".into()), "anew");
}

#[test]
fn a_nomination_ends_with_the_preemptor_and_with_the_node() {
    for end in [
        |gate: &mut Gate, asker: &Pod| {
            let last = Some(asker.facts.clone());
            gate.ledger.delete_pod(asker.uid(), last, gate.now);
        },
        |gate: &mut Gate, asker: &Pod| gate.add(&asker.clone().ended()),
        |gate: &mut Gate, _: &Pod| gate.ledger.delete_node(&"n0".into()),
        |gate: &mut Gate, _: &Pod| gate.ledger.replace_pods(Vec::new(), gate.now),
    ] {
        let mut gate = Gate::with(&[node("n0").gpus(1)]);
        let victim = gate.bind(&low("victim").vram(20), "n0");
        let asker = high("asker").vram(20);
        gate.preempt(&asker, &[clear("n0", &[&victim])]);
        end(&mut gate, &asker);
        assert!(!gate.has_claim(&asker));
    }
}

#[test]
fn a_binding_that_fails_does_not_cost_the_place() {
    let n0 = node("n0").gpus(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    gate.leave(&victim, &n0);
    gate.admit(&asker, "n0").unwrap();
    gate.ledger.not_bound(asker.uid(), gate.now);
    assert!(gate.is_nominated(&asker));
    assert!(gate.refusal(&pod("small").vram(6), "n0").is_some());
    gate.bind(&asker, "n0");
    gate.ledger.not_bound(asker.uid(), gate.now);
    let (_, claim) = gate.ledger.claim(asker.uid()).unwrap();
    assert_eq!((claim.was_bound(), &claim.nomination), (true, &None));
}

#[test]
fn a_binding_that_fails_because_the_pod_has_ended_leaves_nothing() {
    let n0 = node("n0").gpus(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    gate.leave(&victim, &n0);
    gate.admit(&asker, "n0").unwrap();
    gate.add(&asker.clone().ended());
    gate.ledger.not_bound(asker.uid(), gate.now);
    assert!(!gate.has_claim(&asker));
}

#[test]
fn a_nominated_pod_may_go_elsewhere() {
    let mut gate = Gate::with(&[node("n0").gpus(1), node("n1").gpus(1)]);
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.preempt(&asker, &[clear("n0", &[&victim])]);
    assert!(!gate.hold(&asker, "n1"), "its one claim is the nominated one");
    assert!(gate.is_nominated(&asker));
    gate.ledger.release_hold(asker.uid(), gate.now);
    assert!(gate.is_nominated(&asker), "a refusal does not end it");
    let moved = gate.admit(&asker, "n1").map(|admission| admission.hold);
    assert_eq!(moved, Ok(HoldOutcome::Moved));
    gate.ledger.not_bound(asker.uid(), gate.now);
    assert!(!gate.has_claim(&asker));
}

#[test]
fn a_pod_that_is_bound_or_being_bound_gets_no_place() {
    let mut gate = Gate::with(&[node("n0").gpus(1), node("n1").gpus(1)]);
    let victim = gate.bind(&low("victim").vram(20), "n0");
    let asker = high("asker").vram(20);
    gate.admit(&asker, "n1").unwrap();
    let candidate = clear("n0", &[&victim]);
    let nominate =
        |gate: &mut Gate| gate.ledger.nominate(&asker.facts, asker.ask(), &candidate, gate.now);
    assert!(!nominate(&mut gate), "binding");
    gate.bind(&high("other").vram(1), "n0");
    gate.ledger.not_bound(asker.uid(), gate.now);
    gate.ledger.delete_pod(asker.uid(), None, gate.now);
    assert!(!nominate(&mut gate), "deleted");
}

#[test]
fn a_whole_gpu_is_kept_for_a_pod_of_unknown_need() {
    let n0 = node("n0").gpus(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let victim = gate.bind(&low("victim").vram(4), "n0");
    let asker = pod("asker").priority(1000).asks(GpuAsk::steered(1, Vram::Exclusive));
    assert_eq!(gate.preempt(&asker, &[clear("n0", &[&victim])]), Some("n0".into()));
    gate.leave(&victim, &n0);
    assert_eq!(gate.refusal(&pod("small").vram(1), "n0"), Some(Reason::NotEnoughVram));
    assert_eq!(gate.refusal(&asker, "n0"), None);
    let (_, claim) = gate.ledger.claim(asker.uid()).unwrap();
    assert_eq!(claim.planned, [(gpu("n0", 0), Bytes::mib(less(0)))]);
}

#[test]
fn a_hold_lives_on_while_the_pod_is_nominated_to_its_node() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let slow = pod("slow").vram(20);
    gate.add(&slow.clone().nominated("n0"));
    gate.hold(&slow, "n0");
    for _ in 0..10 {
        gate.wait(20);
    }
    assert!(gate.has_claim(&slow));
    assert!(gate.refusal(&pod("p").vram(6), "n0").is_some());
    gate.add(&slow.clone().nominated("n1"));
    gate.wait(31);
    assert!(!gate.has_claim(&slow));
}
