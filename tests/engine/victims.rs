//! Victims beyond kube-scheduler's: as few as it takes, and none who may not be asked.

use filmgate::engine::{Candidate, PodFacts};

use crate::preemption::{clear, everyone, high, low};
use crate::support::{Gate, Pod, node, pod};

/// A GPU with room for three pods, taken by these.
fn shared(pods: &[Pod]) -> (Gate, Vec<Pod>) {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(3)]);
    let bound = pods.iter().map(|pod| gate.bind(pod, "n0")).collect();
    (gate, bound)
}

fn nobody(_: &PodFacts) -> bool {
    false
}

fn names(choice: Option<Candidate>) -> Vec<String> {
    let victims = choice.into_iter().flat_map(|choice| choice.victims);
    victims.map(|victim| victim.uid.to_string()).collect()
}

#[test]
fn where_devices_are_free_but_too_little_vram_others_leave_too_and_no_more_than_it_takes() {
    let (gate, bound) = shared(&[low("a").vram(7), low("b").vram(7), low("c").vram(7)]);
    let asker = high("asker").vram(16);
    let candidates = [clear("n0", &[&bound[0]])];
    assert_eq!(gate.choice(&asker, &candidates, &everyone), None);
    assert_eq!(names(gate.choice(&asker, &candidates, &nobody)).len(), 2);
    assert_eq!(names(gate.choice(&high("small").vram(9), &candidates, &nobody)), ["a"]);
    assert_eq!(names(gate.choice(&high("whole"), &candidates, &nobody)).len(), 3);
    assert_eq!(gate.choice(&high("huge").vram(24), &candidates, &nobody), None, "not even alone");
}

#[test]
fn the_most_important_are_spared_and_all_are_told_in_order() {
    let (gate, bound) = shared(&[
        low("a").vram(7).priority(3),
        low("b").vram(7).priority(2),
        low("c").vram(7).priority(5),
    ]);
    let asker = high("asker").vram(16);
    assert_eq!(names(gate.choice(&asker, &[clear("n0", &[&bound[0]])], &nobody)), ["a", "b"]);
    assert_eq!(names(gate.choice(&asker, &[clear("n0", &[&bound[1]])], &nobody)), ["a", "b"]);
    assert_eq!(names(gate.choice(&asker, &[clear("n0", &[&bound[2]])], &nobody)), ["c", "b"]);
}

#[test]
fn of_equals_the_first_started_is_spared() {
    let (gate, bound) = shared(&[
        low("victim").vram(7),
        low("young").vram(7).started_at(200),
        low("old").vram(7).started_at(100),
    ]);
    let chosen = gate.choice(&high("asker").vram(16), &[clear("n0", &[&bound[0]])], &nobody);
    assert_eq!(names(chosen), ["young", "victim"]);
}

#[test]
fn nobody_is_added_who_is_spared_or_precedes_or_is_leaving() {
    let small = low("a").vram(7);
    let asker = high("asker").vram(16).priority(10);
    let with = |b: Pod, c: Pod| {
        let (mut gate, bound) = shared(&[small.clone(), b, c]);
        bound[1..].iter().filter(|pod| pod.facts.is_deleting).for_each(|pod| gate.add(pod));
        names(gate.choice(&asker, &[clear("n0", &[&bound[0]])], &|pod| &*pod.id.name == "kept"))
    };
    assert_eq!(with(low("b").vram(7), low("kept").vram(7)), ["a", "b"]);
    assert_eq!(with(low("b").vram(7), low("c").vram(7).priority(10)), ["a", "b"]);
    assert_eq!(with(low("kept").vram(7), low("c").vram(7).priority(10)), [""; 0]);
    let (mut gate, bound) = shared(&[small.clone(), low("b").vram(7), low("c").vram(7)]);
    gate.add(&bound[1].clone().deleting());
    let chosen = gate.choice(&asker, &[clear("n0", &[&bound[0]])], &nobody);
    assert_eq!(names(chosen), ["a", "c"], "b leaves without being asked");
}

#[test]
fn a_pod_that_is_being_bound_is_not_added() {
    let (mut gate, bound) = shared(&[low("a").vram(7)]);
    gate.admit(&low("b").vram(14), "n0").unwrap();
    let candidates = [clear("n0", &[&bound[0]])];
    assert_eq!(gate.choice(&high("asker").vram(16), &candidates, &nobody), None);
}

#[test]
fn a_candidate_that_fits_as_it_is_goes_before_one_that_needs_more_victims() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(3), node("n1").gpus(1)]);
    let (a, _b) = (gate.bind(&low("a").vram(10), "n0"), gate.bind(&low("b").vram(10), "n0"));
    let c = gate.bind(&pod("c").priority(9).vram(20), "n1");
    let candidates = [clear("n0", &[&a]), clear("n1", &[&c])];
    let chosen = gate.choice(&high("asker").vram(16), &candidates, &nobody);
    assert_eq!(names(chosen), ["c"]);
}

#[test]
fn of_candidates_that_need_more_victims_the_best_of_all_is_taken() {
    let mut gate = Gate::with(&[node("n0").gpus(1).replicas(3), node("n1").gpus(1).replicas(3)]);
    let a = gate.bind(&low("a").vram(10), "n0");
    gate.bind(&pod("b").priority(9).vram(10), "n0");
    let c = gate.bind(&low("c").vram(10), "n1");
    gate.bind(&pod("d").priority(8).vram(10), "n1");
    let candidates = [clear("n0", &[&a]), clear("n1", &[&c])];
    let chosen = gate.choice(&high("asker").vram(16), &candidates, &nobody);
    assert_eq!(names(chosen), ["d", "c"]);
}
