//! What is cache of a pod's memory, and what is work.

use std::time::Duration;

use filmgate::engine::comfyui::{Instances, Poll, Queue, Trouble};
use filmgate::engine::{Bytes, Time};

use crate::support::{Gate, Pod, node, pod};

const LASTS: Duration = Duration::from_secs(15);
const IDLE: Queue = Queue { running: 0, pending: 0 };
const BUSY: Queue = Queue { running: 1, pending: 3 };

fn answer(asked_at: Time, queue: Queue) -> Poll {
    Poll { asked_at, until: asked_at + LASTS, queue: Ok(queue), devices: Ok(Vec::new()) }
}

fn silence(asked_at: Time) -> Poll {
    let trouble = || Trouble { code: "timed_out", text: "no whole answer within 3s".into() };
    Poll { asked_at, until: asked_at + LASTS, queue: Err(trouble()), devices: Err(trouble()) }
}

/// GiB of working and of cache on each GPU that the pod holds some of.
fn split(gate: &Gate, pod: &Pod, queue: Queue) -> Vec<(u32, u64, u64)> {
    let mut instances = Instances::default();
    instances.note(pod.uid(), answer(gate.now, queue));
    let split = gate.ledger.told_apart(&instances, gate.now);
    let gib = |bytes: Bytes| bytes.get() >> 30;
    split.map(|one| (one.gpu, gib(one.working), gib(one.cache))).collect()
}

#[test]
fn an_idle_pod_holds_its_charge_for_work_and_the_rest_as_cache() {
    let n0 = node("n0").gpus(2).replicas(4);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let film = gate.bind(&pod("film").vram(4), "n0");
    assert_eq!(split(&gate, &film, IDLE), [], "no process of it is seen");
    gate.read(&n0.clone().uses("film", 0, 9));
    assert_eq!(split(&gate, &film, IDLE), [(0, 4, 5)]);
    assert_eq!(split(&gate, &film, BUSY), [(0, 9, 0)]);
    gate.read(&n0.clone().uses("film", 0, 3));
    assert_eq!(split(&gate, &film, IDLE), [(0, 3, 0)]);
    // A peak is no memory that is held now.
    gate.read(&n0.used_to_use("film", 0, 3, 9));
    assert_eq!(split(&gate, &film, IDLE), [(0, 3, 0)]);
}

#[test]
fn a_pod_that_has_the_whole_gpu_keeps_nothing_from_others() {
    let n0 = node("n0").gpus(1);
    let mut gate = Gate::with(std::slice::from_ref(&n0));
    let film = gate.bind(&pod("film"), "n0");
    gate.read(&n0.uses("film", 0, 20));
    assert_eq!(split(&gate, &film, IDLE), [(0, 20, 0)]);
}

#[test]
fn a_pod_that_is_not_bound_has_no_memory_to_tell_apart() {
    let mut gate = Gate::with(&[node("n0").gpus(1)]);
    let film = pod("film").vram(4);
    gate.add(&film);
    assert_eq!(split(&gate, &film, IDLE), []);
    gate.hold(&film, "n0");
    assert_eq!(split(&gate, &film, IDLE), []);
}

#[test]
fn an_answer_counts_for_its_time_whatever_comes_after_it() {
    let (mut instances, at) = (Instances::default(), Time::from_secs);
    let film = &"film".into();
    assert_eq!(instances.state(film, at(100)), None);
    instances.note(film, answer(at(100), BUSY));
    instances.note(film, silence(at(105)));
    let state = instances.state(film, at(107)).unwrap();
    assert_eq!((state.is_up, state.queue, state.age_seconds), (false, Some(BUSY), 2.0));
    assert_eq!(instances.queue(film, at(114)), Some(BUSY));
    assert_eq!(instances.queue(film, at(115)), None, "unknown, and not zero");
    assert!(instances.queues(at(115)).is_empty());
    instances.note(film, answer(at(120), IDLE));
    let state = instances.state(film, at(120)).unwrap();
    assert_eq!((state.is_up, state.queue, state.trouble), (true, Some(IDLE), None));
    instances.keep(|pod| pod != film);
    assert_eq!(instances.state(film, at(120)), None);
}

#[test]
fn trouble_with_the_devices_alone_leaves_it_up() {
    let (mut instances, now) = (Instances::default(), Time::from_secs(100));
    let devices = silence(now).devices;
    instances.note(&"film".into(), Poll { devices, ..answer(now, IDLE) });
    let state = instances.state(&"film".into(), now).unwrap();
    assert!(state.is_up && state.trouble.is_some());
    assert_eq!(state.queue, Some(IDLE));
}
