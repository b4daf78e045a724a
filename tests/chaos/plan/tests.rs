use super::pods::MOST_PODS;
use super::*;

const LENGTH: Duration = Duration::from_secs(24);

#[test]
fn a_plan_is_its_seeds_alone() {
    for seed in [0, 1, 99, u64::MAX] {
        assert_eq!(Plan::draw(seed, LENGTH), Plan::draw(seed, LENGTH));
    }
    assert_ne!(Plan::draw(1, LENGTH).pods, Plan::draw(2, LENGTH).pods);
    assert_ne!(Plan::draw(1, LENGTH).faults, Plan::draw(2, LENGTH).faults);
}

#[test]
fn every_pod_has_a_place_in_an_empty_cluster_and_together_they_have_not() {
    for seed in 0..300 {
        let plan = Plan::draw(seed, LENGTH);
        for pod in &plan.pods {
            let is_clean = |node: &&NodePlan| node.gpus.iter().any(GpuPlan::is_clean);
            let has_room = |node: &&NodePlan| {
                let rooms = node.rooms();
                let there = rooms.get(pod.gpus as usize - 1);
                there.is_some_and(|room| pod.vram.is_none_or(|vram| vram <= *room))
            };
            let suits = |node: &&NodePlan| pod.is_steered || node.has_one_gpu();
            let mut places = plan.nodes.iter().filter(suits).filter(has_room);
            let fits = places.any(|node| pod.vram.is_some() || is_clean(&node));
            assert!(fits, "seed {seed}: {pod}");
            assert!(pod.uses <= pod.vram.unwrap_or(pod.uses), "seed {seed}: {pod}");
        }
        let asked =
            plan.pods.iter().filter_map(|pod| Some(pod.vram?.as_gib() * f64::from(pod.gpus)));
        let asked: f64 = asked.sum();
        let room: Bytes = plan.nodes.iter().flat_map(NodePlan::rooms).sum();
        assert!(asked > room.as_gib() || plan.pods.len() == MOST_PODS, "seed {seed}");
    }
}

#[test]
fn many_seeds_have_every_kind_of_world_pod_and_fault() {
    let plans: Vec<_> = (0..300).map(|seed| Plan::draw(seed, LENGTH)).collect();
    let kinds = |plan: &Plan| plan.faults.iter().map(|one| one.fault.kind()).collect::<Vec<_>>();
    let kinds: std::collections::BTreeSet<_> = plans.iter().flat_map(kinds).collect();
    assert_eq!(kinds.len(), 20, "{kinds:?}");
    for election in [Election::Off, Election::Sibling, Election::Own] {
        assert!(plans.iter().any(|plan| plan.election == election), "{election:?}");
    }
    let pods = || plans.iter().flat_map(|plan| &plan.pods);
    assert!(pods().any(|pod| pod.vram.is_none() && pod.is_steered));
    assert!(pods().any(|pod| pod.vram.is_none() && !pod.is_steered));
    assert!(pods().any(|pod| pod.gpus == 2));
    assert!(pods().any(|pod| matches!(pod.fate, Fate::Reborn(_))));
    let kills = plans.iter().flat_map(|plan| &plan.faults).filter(|one| match one.fault {
        Fault::Kill(who) => !matches!(who, Who::Scheduler(_)),
        Fault::Orphans(orphans) => orphans.is_killed,
        _ => false,
    });
    let (kills, all) = (kills.count(), plans.iter().map(|plan| plan.faults.len()).sum::<usize>());
    // A burst takes less than a minute.
    assert!(kills >= 4 * plans.len() && all >= 12 * plans.len(), "{kills} kills of {all} faults");
}

#[test]
fn at_most_once_a_burst_the_api_server_restarts() {
    for seed in 0..300 {
        let faults = Plan::draw(seed, LENGTH).faults;
        let restarts = faults.iter().filter(|one| one.fault == Fault::KillApiServer);
        assert!(restarts.count() <= 1, "seed {seed}");
    }
}
