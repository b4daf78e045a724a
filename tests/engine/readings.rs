//! Which readings are taken, and what old ones are worth.

use crate::support::{Gate, Node, less, node, pod};
use filmgate::engine::{Arrival, Bytes, Policy, Reason, StalePolicy};

fn n0() -> Node {
    node("n0").gpus(1)
}

fn heartbeat(gate: &mut Gate, run: &str, sampling: u64) {
    let (name, run) = ("n0".into(), run.into());
    gate.ledger.apply_heartbeat(&name, &run, sampling, gate.now);
}

fn rejecting() -> Gate {
    let policy = Policy { stale_policy: StalePolicy::Reject, ..Policy::default() };
    Gate::under(policy, &[n0()])
}

#[test]
fn a_node_that_was_never_read_is_refused() {
    let mut gate = Gate::with(&[]);
    gate.ledger.apply_node(n0().facts, gate.now);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::NeverRead));
    assert!(gate.admit(&pod("p0").vram(1), "n0").is_err());
}

#[test]
fn a_reading_of_a_node_that_does_not_exist_opens_nothing() {
    let mut gate = Gate::with(&[]);
    gate.read(&n0());
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::UnknownNode));
}

#[test]
fn a_late_reading_changes_nothing() {
    let mut gate = Gate::with(&[n0()]);
    gate.receive(&n0().foreign(0, 10).sampling(7), None);
    assert_eq!(gate.receive(&n0().sampling(6), None), Arrival::Outdated);
    assert_eq!(gate.receive(&n0().sampling(7), None), Arrival::Outdated);
    assert_eq!(gate.free("n0", 0), less(10));
}

#[test]
fn a_heartbeat_makes_earlier_samplings_late() {
    let mut gate = Gate::with(&[n0().foreign(0, 10)]);
    heartbeat(&mut gate, "run-1", 9);
    assert_eq!(gate.receive(&n0().sampling(9), None), Arrival::Outdated);
    assert_eq!(gate.receive(&n0().sampling(10), None), Arrival::Taken);
}

#[test]
fn another_run_of_the_agent_is_believed_when_it_answers_a_question() {
    let mut gate = Gate::with(&[n0().foreign(0, 10)]);
    gate.pass(1);
    let restarted = n0().run("run-2").sampling(1);
    assert_eq!(gate.receive(&restarted, None), Arrival::Outdated);
    assert!(gate.wants_sampling("n0"));
    assert_eq!(gate.receive(&restarted, Some(gate.now)), Arrival::Taken);
    assert!(!gate.wants_sampling("n0"));
    assert_eq!(gate.free("n0", 0), less(0));
}

#[test]
fn a_late_word_of_an_earlier_run_changes_nothing_even_if_that_run_was_never_heard() {
    let mut gate = Gate::with(&[n0().run("run-2").foreign(0, 10)]);
    gate.pass(1);
    assert_eq!(gate.receive(&n0().run("run-1").sampling(900), None), Arrival::Outdated);
    assert_eq!(gate.receive(&n0().run("run-2").foreign(0, 9).sampling(2), None), Arrival::Taken);
    assert_eq!(gate.free("n0", 0), less(9));
}

#[test]
fn an_impossible_reading_closes_the_node_until_a_newer_one_comes() {
    let mut gate = Gate::with(&[n0()]);
    let impossible = n0().gpu(0, |gpu| gpu.used = Bytes::gib(25)).sampling(7);
    assert!(matches!(gate.receive(&impossible, None), Arrival::Impossible(_)));
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::ImpossibleReading));
    assert!(gate.admit(&pod("p0").vram(1), "n0").is_err());
    assert_eq!(gate.receive(&n0().sampling(6), None), Arrival::Outdated);
    heartbeat(&mut gate, "run-1", 8);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::ImpossibleReading));
    assert_eq!(gate.receive(&n0().sampling(9), None), Arrival::Taken);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), None);
}

#[test]
fn an_impossible_reading_is_no_evidence() {
    let mut gate = Gate::with(&[n0()]);
    let bound = gate.bind(&pod("p0").vram(12), "n0").ended();
    gate.add(&bound);
    gate.sample_now(&n0().gpu(0, |gpu| gpu.used = Bytes::gib(25)));
    assert!(gate.has_claim(&bound));
}

#[test]
fn figures_that_cannot_be_are_impossible() {
    let reject = |node: Node| {
        let arrival = Gate::with(&[n0()]).receive(&node.sampling(50), None);
        assert!(matches!(arrival, Arrival::Impossible(_)), "{arrival:?}");
    };
    reject(n0().total(0));
    reject(n0().gpu(0, |gpu| gpu.reserved = Bytes::gib(25)));
    reject(n0().used_to_use("p0", 0, 1, 25));
    reject(n0().uses("p0", 0, 1).uses("p0", 0, 1));
    reject(n0().gpus(1).gpu(1, |gpu| gpu.uuid = crate::support::gpu("n0", 0)));
}

#[test]
fn declared_lets_an_old_reading_count() {
    let mut gate = Gate::with(&[n0().foreign(0, 10)]);
    gate.bind(&pod("p0").vram(4), "n0");
    gate.wait(3600);
    assert_eq!(gate.free("n0", 0), less(14));
    assert!(gate.admit(&pod("p1").vram(9), "n0").is_ok());
}

#[test]
fn reject_refuses_a_node_with_an_old_reading() {
    let mut gate = rejecting();
    gate.pass(10);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), None);
    gate.pass(1);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::StaleReading));
    assert!(gate.admit(&pod("p0").vram(1), "n0").is_err());
    heartbeat(&mut gate, "run-1", 50);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), None);
}

#[test]
fn a_heartbeat_of_another_run_freshens_nothing() {
    let mut gate = rejecting();
    gate.pass(11);
    heartbeat(&mut gate, "run-2", 50);
    assert_eq!(gate.refusal(&pod("p0").vram(1), "n0"), Some(Reason::StaleReading));
}
