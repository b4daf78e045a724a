//! What must hold after every step, and at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use filmgate::engine::claim::ClaimState;
use filmgate::engine::{Bytes, Ledger, NodeFacts, NodeName, PodUid, Time};

use crate::cluster::{TOTAL, ask};
use crate::world::World;

pub(crate) fn check(world: &mut World) {
    world.compare_claims();
    check_figures(world);
    check_rebuilt(world);
    check_fast_paths(world);
    if world.cluster.config.is_honest {
        check_truth(world);
    }
}

/// The kept figures are those that the oracle computes from scratch, and what is free is what they
/// leave.
fn check_figures(world: &World) {
    world.ledger.for_each_gpu(|node, gpu| {
        let seen = world.oracle.nodes.get(node).and_then(|seen| seen.last.as_ref());
        let reading =
            seen.and_then(|last| last.reading.gpu(&gpu.uuid)).expect("a view is of a reading");
        let (foreign, charged) = world.oracle.figures(node, reading);
        assert_eq!((gpu.foreign, gpu.charged), (foreign, charged), "{node} {}", gpu.uuid);
        let limit = gpu.total - gpu.reserved - world.policy.headroom;
        assert_eq!(gpu.free, limit - foreign - charged - gpu.held - gpu.kept);
    });
}

/// What many nodes are asked at once is what each says when asked for all its figures.
fn check_fast_paths(world: &World) {
    let now = world.cluster.now;
    let names: Vec<_> =
        world.cluster.machines.iter().map(|machine| machine.node.name.clone()).collect();
    let names = || names.iter().map(NodeName::as_str);
    let held = world.ledger.claims().map(|(_, claim)| claim.pod.uid.clone()).next();
    let nobody = PodUid::from("nobody");
    for (gib, gpus) in [(6, 1), (20, 1), (3, 2)] {
        let ask = ask(gib, gpus, true);
        for uid in held.iter().chain([&nobody]) {
            let judged = world.ledger.judge(uid, &ask, names(), now);
            let refused = world.ledger.refusals(uid, &ask, names(), now).reasons;
            let explained = world.ledger.explain(Some(uid), &ask, names(), now);
            for ((judged, refused), explained) in judged.iter().zip(refused).zip(explained) {
                let reason = explained.reason.map(|refusal| refusal.code);
                assert_eq!((judged.err(), refused), (reason, reason), "{ask:?}");
                let difference =
                    judged.ok().zip(explained.score).map(|(fast, slow)| (fast - slow).abs());
                assert!(
                    difference.is_none_or(|difference| difference < 1e-9),
                    "{ask:?}: {judged:?}"
                );
            }
        }
    }
}

/// A ledger rebuilt from the API server's pods, as far as their events have come, and the last
/// readings has the same bound claims on the same bytes.
///
/// Not compared: holds (advice); *binding* claims, which a new process does not have, because the
/// fence has ended them; *leaving* claims, which a new process has again for pods that the API
/// server still shows as ended, until its own evidence; a pod of which only the reply to our
/// Binding has told so far; edits of the decision on a running pod, which an old process ignores and
/// a new one cannot know (the model makes none).
fn check_rebuilt(world: &World) {
    let mut rebuilt = Ledger::new(world.policy.clone());
    let now = world.cluster.now;
    for (name, seen) in &world.oracle.nodes {
        let Some(last) = &seen.last else { continue };
        rebuilt.apply_node(
            NodeFacts {
                name: name.clone(),
                uid: "any".into(),
                is_mps: false,
                is_marked_idle: false,
            },
            now,
        );
        rebuilt.apply_reading(Arc::new(last.reading.clone()), now, Some(now));
    }
    world.ledger.pods().for_each(|pod| rebuilt.apply_pod(pod.clone(), now));
    let bound = |ledger: &Ledger| -> BTreeMap<_, _> {
        let bound =
            ledger.claims().filter(|(_, claim)| matches!(claim.state, ClaimState::Bound { .. }));
        let told = bound.filter(|(_, claim)| {
            world.ledger.pod(&claim.pod.uid).is_some_and(|pod| pod.node.is_some())
        });
        told.map(|(node, claim)| {
            (claim.pod.uid.clone(), (node.clone(), claim.planned.clone(), claim.ask.clone()))
        })
        .collect()
    };
    assert_eq!(bound(&world.ledger), bound(&rebuilt), "the rebuilt ledger is another");
}

/// By right and by what ended pods still hold, no GPU is given away twice.
fn check_truth(world: &World) {
    let limit = (Bytes::gib(TOTAL) - world.policy.headroom).get() >> 30;
    for node in 0..world.cluster.config.nodes {
        for gpu in 0..world.cluster.config.gpus {
            let committed = world.cluster.committed(node, gpu);
            assert!(
                committed <= limit,
                "node {node} GPU {gpu}: {committed} GiB of {limit} are given away"
            );
        }
    }
}

/// All pods leave, all messages arrive, and the agents are asked once more.
pub(crate) fn check_end(mut world: World) {
    for pod in 0..world.cluster.pods.len() {
        world.cluster.delete(pod);
        world.cluster.end(pod);
        world.cluster.delete(pod);
        world.cluster.kill(pod);
    }
    for node in 0..world.cluster.config.nodes {
        world.cluster.settle(node);
        world.cluster.take_back(node, |_| true);
        let machine = &mut world.cluster.machines[node];
        machine.foreign.fill(0);
        machine.is_degraded = false;
    }
    while !world.cluster.pod_events.is_empty() {
        world.watch_pod();
    }
    while !world.cluster.node_events.is_empty() {
        world.watch_node();
    }
    world.give_up_bindings();
    // Twice: a place that is kept for a pod which no list ever had ends a minute after it was seen
    // that its victims are gone.
    for _ in 0..2 {
        world.pass(100);
        world.ledger.tick(world.cluster.now);
    }
    for node in 0..world.cluster.config.nodes {
        world.ask(node);
    }
    world.compare_claims();
    check_figures(&world);
    let ledger = &mut world.ledger;
    assert_eq!(ledger.claims().collect::<Vec<_>>(), [], "claims leaked");
    assert_eq!((ledger.pods().count(), ledger.waiting().count()), (0, 0));
    assert_eq!(ledger.take_wakes(world.cluster.now), []);
    assert!(ledger.samplings_wanted(world.cluster.now).next().is_none());
    let mut gpus = 0;
    ledger.for_each_gpu(|_, gpu| {
        gpus += 1;
        assert_eq!(gpu.open_bytes(), gpu.total - world.policy.headroom, "{} is not free", gpu.uuid);
    });
    assert_eq!(gpus, world.cluster.config.nodes * world.cluster.config.gpus, "a node is not read");
    assert!(world.cluster.now > Time::ZERO);
}
