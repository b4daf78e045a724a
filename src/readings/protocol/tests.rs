use proptest::prelude::*;

use super::*;
use crate::agent::simulated::{GpuSpec, SimulatedFleet};
use crate::clock::ManualClock;
use crate::engine::{Health, PodMemory};

fn reading(sampling: u64) -> Reading {
    let fleet = SimulatedFleet::new(ManualClock::new().clock());
    fleet.add_node("n0", GpuSpec::gib(24).times(3));
    let reading = fleet.sample_at_once("n0").unwrap();
    Reading {
        agent: AgentRun::from("run"),
        sampling,
        peaks_cover: Duration::from_secs(600),
        ..reading
    }
}

/// Shows `steps` to a follower over the wire, and gives back what it ends with.
fn follow(steps: &[Reading]) -> Result<Reading, ProtocolError> {
    let mut follower = Follower::new(NodeName::from("n0"));
    let mut shown: Option<Arc<Reading>> = None;
    let mut copy = None;
    for step in steps {
        let step = Arc::new(step.clone());
        let message = shown
            .map_or_else(|| Message::full(step.clone()), |shown| Message::after(&shown, &step));
        let line = message.encode().unwrap();
        match follower.apply(Message::decode(line.trim_ascii())?)? {
            Applied::Reading(reading) => copy = Some((*reading).clone()),
            Applied::Heartbeat(heartbeat) => {
                copy = copy.map(|copy: Reading| Reading { sampling: heartbeat.sampling, ..copy });
            }
        }
        shown = Some(step);
    }
    copy.ok_or(ProtocolError::OutOfStep { sampling: 0 })
}

#[test]
fn a_sampling_without_movement_is_a_heartbeat() {
    let message = Message::after(&reading(1), &Arc::new(reading(2)));
    let line = String::from_utf8(message.encode().unwrap().to_vec()).unwrap();
    assert_eq!(line, "{\"type\":\"heartbeat\",\"agent\":\"run\",\"sampling\":2}\n");
}

#[test]
fn a_change_carries_changed_gpus_only() {
    let mut after = reading(2);
    after.gpus[1].used = Bytes::gib(3);
    let Message::Change(change) = Message::after(&reading(1), &Arc::new(after.clone())) else {
        panic!("a change was due");
    };
    assert_eq!(change.gpus, [after.gpus[1].clone()]);
    assert_eq!((change.base, change.sampling, change.devices), (1, 2, None));
}

#[test]
fn what_a_change_cannot_say_is_said_in_full() {
    let before = reading(5);
    let mut fewer = reading(6);
    fewer.gpus.pop();
    let another_run = Reading { agent: AgentRun::from("next"), ..reading(6) };
    let earlier = reading(4);
    for after in [fewer, another_run, earlier] {
        assert!(matches!(Message::after(&before, &Arc::new(after)), Message::Full { .. }));
    }
}

#[test]
fn a_change_of_another_base_or_run_is_out_of_step() {
    let mut after = reading(3);
    after.gpus[0].used = Bytes::gib(1);
    let change = Change::between(&reading(2), &after);
    let strange = Change { agent: AgentRun::from("next"), base: 1, ..change.clone() };
    for wrong in [change, strange] {
        let mut follower = Follower::new(NodeName::from("n0"));
        follower.apply(Message::full(Arc::new(reading(1)))).unwrap();
        let refused = follower.apply(Message::Change(wrong));
        assert_eq!(refused, Err(ProtocolError::OutOfStep { sampling: 3 }));
    }
}

#[test]
fn nothing_precedes_the_first_full_reading() {
    let mut follower = Follower::new(NodeName::from("n0"));
    let heartbeat = Heartbeat { agent: AgentRun::from("run"), sampling: 2 };
    assert!(follower.apply(Message::Heartbeat(heartbeat)).is_err());
}

#[test]
fn another_version_is_told_from_garbage() {
    let later = br#"{"type":"full","version":2,"reading":{"shape":"unknown"}}"#;
    assert_eq!(Message::decode(later), Err(ProtocolError::Version(2)));
    let known_shape = Message::Full { version: 9, reading: Arc::new(reading(1)) }.encode().unwrap();
    assert_eq!(Message::decode(&known_shape), Err(ProtocolError::Version(9)));
    for garbage in
        [&b"{}"[..], b"", b"\xff\xfe", br#"{"type":"full","version":1}"#, br#"{"type":"soon"}"#]
    {
        assert!(
            matches!(Message::decode(garbage), Err(ProtocolError::Malformed(_))),
            "{garbage:?}"
        );
    }
}

#[test]
fn fields_of_a_later_minor_release_are_ignored() {
    let line = br#"{"type":"heartbeat","agent":"run","sampling":2,"mood":"good"}"#;
    assert!(Message::decode(line).is_ok());
}

#[test]
fn a_reading_of_another_node_is_refused() {
    let mut follower = Follower::new(NodeName::from("n1"));
    let refused = follower.apply(Message::full(Arc::new(reading(1))));
    assert_eq!(refused, Err(ProtocolError::WrongNode(NodeName::from("n0"))));
}

#[test]
fn only_far_movement_is_worth_a_push() {
    let before = reading(1);
    let with_used = |mib| {
        let mut after = reading(2);
        after.gpus[0].used = Bytes::mib(mib);
        after
    };
    assert!(!has_moved(&before, &with_used(63), Bytes::mib(64)));
    assert!(has_moved(&before, &with_used(64), Bytes::mib(64)));
    assert!(has_moved(&with_used(64), &before, Bytes::mib(64)));
    let mut ill = reading(2);
    ill.gpus[2].health = Health::Unhealthy { why: Arc::from("XID 79") };
    assert!(has_moved(&before, &ill, Bytes::mib(64)));
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let gpus = prop::collection::vec((0_u64..3, 0_u64..3, any::<bool>()), 2..4);
    let flags = any::<(bool, bool)>();
    (gpus, 0_u64..4, flags, 0_u64..2).prop_map(|(gpus, sampling, (is_degraded, is_old), cover)| {
        let mut reading = reading(sampling);
        reading.is_book_old = is_old;
        reading.gpus.truncate(gpus.len());
        for (gpu, (used, pod, is_ill)) in reading.gpus.iter_mut().zip(gpus) {
            gpu.used = Bytes::gib(used);
            gpu.pods =
                vec![PodMemory { uid: "u".into(), used: Bytes::gib(pod), peak: Bytes::gib(2) }];
            gpu.utilization_ratio = Some(used as f64 / 7.0);
            if is_ill {
                gpu.health = Health::Unhealthy { why: Arc::from("XID 79") };
            }
        }
        if is_degraded {
            reading.attribution = Attribution::Degraded { why: Arc::from("no hostPID") };
        }
        reading.peaks_cover = Duration::from_secs(590 + 10 * cover);
        reading
    })
}

proptest! {
    /// Whatever the order of readings, the reader's copy equals the last one sent.
    #[test]
    fn a_follower_ends_with_what_was_sampled(steps in prop::collection::vec(any_reading(), 1..8)) {
        let last = steps.last().cloned();
        prop_assert_eq!(follow(&steps).ok(), last);
    }
}
