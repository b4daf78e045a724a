//! The short cut for the usual ask never decides otherwise than the long way.

use std::time::Duration;

use filmgate::engine::{
    Attribution, Candidate, GpuAsk, Health, Ledger, NodeName, Policy, Reason, StalePolicy, Victim,
    Vram,
};
use filmgate::engine::{Bytes, score::Weights};
use proptest::prelude::*;

use crate::support::{Gate, Node, Pod, node, pod};

/// What a GPU may look like.
#[derive(Debug, Clone)]
struct Look {
    total: u64,
    foreign: u64,
    pods: u64,
    utilization: Option<f64>,
    is_healthy: bool,
    is_other_resource: bool,
}

fn look() -> impl Strategy<Value = Look> {
    let bytes = (prop_oneof![Just(24_u64), Just(16), Just(80)], 0..12_u64, 0..16_u64);
    let flags =
        (proptest::option::of(0.0..1.0), prop::bool::weighted(0.9), prop::bool::weighted(0.05));
    (bytes, flags).prop_map(
        |((total, foreign, pods), (utilization, is_healthy, is_other_resource))| Look {
            total,
            foreign: foreign.min(total),
            pods: pods.min(total - foreign.min(total)),
            utilization,
            is_healthy,
            is_other_resource,
        },
    )
}

fn built(name: &str, looks: &[Look], is_mps: bool, is_degraded: bool, replicas: u32) -> Node {
    let mut made = node(name).gpus(looks.len() as u32).replicas(replicas);
    for (at, look) in looks.iter().enumerate() {
        made = made.gpu(at, |gpu| {
            gpu.total = Bytes::gib(look.total);
            gpu.utilization_ratio = look.utilization;
            if !look.is_healthy {
                gpu.health = Health::Unhealthy { why: "XID 79".into() };
            }
            if look.is_other_resource {
                gpu.resource = "nvidia.com/gpu.shared".into();
            }
        });
        made = made.foreign(at, look.foreign);
        if look.pods > 0 {
            made = made.uses("measured", at, look.pods);
        }
    }
    if is_mps {
        made = made.mps();
    }
    if is_degraded {
        made.reading.attribution = Attribution::Degraded { why: "no /proc".into() };
    }
    made
}

fn one_node() -> impl Strategy<Value = (Vec<Look>, bool, bool, u32)> {
    (
        prop::collection::vec(look(), 0..5),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        1..4_u32,
    )
}

fn ask() -> impl Strategy<Value = GpuAsk> {
    let vram = prop_oneof![
        4 => (0..30_000_u64).prop_map(|mib| Vram::Declared(Bytes::mib(mib))),
        // What is free is so many GiB less the headroom: asks around it.
        4 => (0..24_u64, 511..514_u64).prop_map(|(gib, mib)| Vram::Declared(Bytes::gib(gib) + Bytes::mib(mib))),
        1 => (1..30_u64).prop_map(|gib| Vram::Default(Bytes::gib(gib))),
        1 => Just(Vram::Exclusive),
    ];
    (vram, prop::bool::weighted(0.9), prop_oneof![9 => Just(1_u32), 1 => Just(2)]).prop_map(
        |(vram, is_steered, gpus)| {
            if is_steered { GpuAsk::steered(gpus, vram) } else { GpuAsk::unsteered(gpus, vram) }
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let weight = || prop_oneof![Just(0.0), 0.1..5.0];
    (weight(), weight(), weight(), weight(), any::<bool>()).prop_map(
        |(tightness, free_after, idleness, freshness, rejects)| Policy {
            weights: Weights { tightness, free_after, idleness, freshness },
            stale_policy: if rejects { StalePolicy::Reject } else { StalePolicy::Declared },
            ..Policy::default()
        },
    )
}

/// Holds, Bindings, bound pods, nominations: whatever changes a node's view.
fn stir(gate: &mut Gate, names: &[String], deeds: &[(u8, usize, u64)]) {
    for (at, (deed, node, gib)) in deeds.iter().enumerate() {
        let (name, claimant) =
            (&names[node % names.len()], pod(&format!("claimant-{at}")).vram(*gib));
        let claimant = if deed & 4 == 0 { claimant } else { claimant.unsteered() };
        gate.add(&claimant);
        match deed % 5 {
            0 | 1 => drop(gate.hold(&claimant, name)),
            2 => drop(gate.admit(&claimant, name)),
            3 => gate.add(&claimant.on(name)),
            _ => nominate(gate, &claimant.priority(i32::from(deed >> 5)), name),
        }
    }
}

/// Someone who measurably is there, or was bound before, is asked to leave.
fn nominate(gate: &mut Gate, claimant: &Pod, node: &str) {
    let victims = ["measured", "claimant-0", "claimant-1"].map(|uid| Victim {
        uid: uid.into(),
        priority: Some(-1),
        started_at: None,
    });
    let is_there = |victim: &Victim| {
        let known = gate.ledger.pod(&victim.uid).map(|facts| facts.node.clone());
        known.is_none_or(|on| on == Some(node.into()))
    };
    let victims = victims.into_iter().filter(is_there).collect();
    let candidate = Candidate { node: node.into(), victims, pdb_violations: 0 };
    gate.ledger.nominate(&claimant.facts, claimant.ask(), &candidate, gate.now);
}

/// The long way: `explain` places the pod.
fn by_placement(
    ledger: &Ledger,
    gate: &Gate,
    pod: &Pod,
    names: &[&str],
) -> Vec<Result<f64, filmgate::engine::Reason>> {
    let verdicts = ledger.explain(Some(pod.uid()), pod.ask(), names.iter().copied(), gate.now);
    let one = |verdict: filmgate::engine::verdict::NodeVerdict| match verdict.reason {
        Some(refusal) => Err(refusal.code),
        None => Ok(verdict.score.expect("it fits, so it has a score")),
    };
    verdicts.into_iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn judges_as_placement_does(
        looks in prop::collection::vec(one_node(), 1..6),
        policy in policy(),
        ask in ask(),
        deeds in prop::collection::vec((any::<u8>(), any::<usize>(), 1..20_u64), 0..8),
        pass in 0..40_u64,
        is_told in any::<bool>(),
        priority in 0..8_i32,
        own_hold in proptest::option::of(any::<usize>()),
    ) {
        let names: Vec<String> = (0..looks.len()).map(|at| format!("n{at}")).collect();
        let nodes: Vec<Node> = names.iter().zip(&looks)
            .map(|(name, (gpus, is_mps, is_degraded, replicas))| built(name, gpus, *is_mps, *is_degraded, *replicas))
            .collect();
        let mut gate = Gate::under(policy, &nodes);
        stir(&mut gate, &names, &deeds);
        let asker = pod("asker").asks(ask).priority(priority);
        gate.add(&asker);
        if let Some(at) = own_hold {
            gate.hold(&asker, &names[at % names.len()]);
        }
        if is_told { gate.wait(pass) } else { gate.pass(pass) }

        let offered: Vec<&str> = names.iter().map(String::as_str).chain(["nowhere"]).collect();
        let long = by_placement(&gate.ledger, &gate, &asker, &offered);
        let judged = gate.ledger.judge(asker.uid(), asker.ask(), offered.iter().copied(), gate.now);
        prop_assert_eq!(&judged, &long);
        let refused = gate.ledger.refusals(asker.uid(), asker.ask(), offered.iter().copied(), gate.now);
        let reasons: Vec<_> = long.into_iter().map(Result::err).collect();
        prop_assert_eq!(refused.reasons, reasons);
        prop_assert!(!refused.may_repeat);
    }
}

fn cases() -> u32 {
    if std::env::var("FILMGATE_LONG").is_ok_and(|long| long == "1") { 20_000 } else { 2_000 }
}

#[test]
fn a_repeated_name_is_noticed() {
    let gate = Gate::with(&[node("n0").gpus(1), node("n1").gpus(1)]);
    let asker = pod("p").vram(4);
    let may_repeat = |names: &[&str]| {
        gate.ledger.refusals(asker.uid(), asker.ask(), names.iter().copied(), gate.now).may_repeat
    };
    assert!(!may_repeat(&["n0", "n1", "nowhere"]));
    assert!(may_repeat(&["n0", "n1", "n0"]));
    assert!(may_repeat(&["nowhere", "nowhere"]));
}

#[test]
fn a_hold_that_ended_unnoticed_is_not_in_the_way() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    gate.hold(&pod("holder").vram(20), "n0");
    let asker = pod("p").vram(12);
    assert!(gate.refusal(&asker, "n0").is_some());
    gate.now = gate.now + Duration::from_secs(31);
    assert_eq!(gate.refusal(&asker, "n0"), None);
}

#[test]
fn the_short_cut_follows_whatever_becomes_of_a_node() {
    let policy = Policy { stale_policy: StalePolicy::Reject, ..Policy::default() };
    let n0 = || node("n0").gpus(1);
    let mut gate = Gate::under(policy, &[n0()]);
    let (asker, name) = (pod("asker").vram(4), NodeName::from("n0"));
    gate.add(&asker);
    let check = |gate: &Gate, what: &str| {
        let judged = gate.ledger.judge(asker.uid(), asker.ask(), ["n0"], gate.now);
        assert_eq!(judged, by_placement(&gate.ledger, gate, &asker, &["n0"]), "{what}");
        judged[0]
    };
    let fresh = check(&gate, "read").unwrap();
    gate.pass(5);
    let older = check(&gate, "an older reading").unwrap();
    assert!(older < fresh);
    gate.ledger.apply_heartbeat(&name, &"run-1".into(), 50, gate.now);
    assert_eq!(check(&gate, "a heartbeat"), Ok(fresh));
    gate.pass(11);
    assert_eq!(check(&gate, "no heartbeat"), Err(Reason::StaleReading));
    gate.receive(&n0().sampling(51).total(0), None);
    assert_eq!(check(&gate, "an impossible reading"), Err(Reason::ImpossibleReading));
    gate.receive(&n0().sampling(52), None);
    assert!(check(&gate, "a better one").is_ok());
    gate.ledger.delete_node(&name);
    assert_eq!(check(&gate, "deleted"), Err(Reason::UnknownNode));
    gate.ledger.apply_node(n0().facts, gate.now);
    assert_eq!(check(&gate, "back"), Err(Reason::NeverRead));
}
