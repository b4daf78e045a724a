use super::*;
use crate::clock::ManualClock;
use crate::engine::{Attribution, PodRef};

fn pod(name: &str) -> PodRef {
    PodRef { namespace: "studio".into(), name: name.into(), uid: format!("uid-{name}").into() }
}

fn fleet() -> (SimulatedFleet, ManualClock, GpuUuid) {
    let manual = ManualClock::new();
    let fleet = SimulatedFleet::new(manual.clock());
    fleet.add_node("n0", GpuSpec::gib(24).reserved(Bytes::gib(1)).replicas(4).times(2));
    let gpu = fleet.gpus("n0").unwrap()[0].clone();
    (fleet, manual, gpu)
}

#[test]
fn a_reading_shows_what_processes_hold() {
    let (fleet, _, gpu) = fleet();
    fleet.set_foreign("n0", &gpu, Bytes::gib(2)).unwrap();
    fleet.start_pod("n0", &gpu, &pod("a"), Bytes::gib(8)).unwrap();
    let reading = fleet.sample_at_once("n0").unwrap();
    reading.validate().unwrap();
    let shown = reading.gpu(&gpu).unwrap();
    assert_eq!(
        (shown.used, shown.measured(), shown.foreign()),
        (Bytes::gib(10), Bytes::gib(8), Bytes::gib(2))
    );
    assert_eq!((shown.replicas, shown.reserved), (4, Bytes::gib(1)));
}

#[test]
fn samplings_are_numbered_within_a_run() {
    let (fleet, manual, gpu) = fleet();
    fleet.start_pod("n0", &gpu, &pod("a"), Bytes::gib(9)).unwrap();
    fleet.set_pod_memory("n0", &gpu, &pod("a").uid, Bytes::gib(3)).unwrap();
    let first = fleet.sample_at_once("n0").unwrap();
    let second = fleet.sample_at_once("n0").unwrap();
    manual.advance(Duration::from_secs(60));
    fleet.restart_agent("n0").unwrap();
    let restarted = fleet.sample_at_once("n0").unwrap();
    assert_eq!((first.sampling, second.sampling, restarted.sampling), (1, 2, 1));
    assert_eq!(first.agent, second.agent);
    assert_ne!(first.agent, restarted.agent);
    assert_eq!(first.gpus[0].pods[0].peak, Bytes::gib(9));
    assert_eq!(restarted.gpus[0].pods[0].peak, Bytes::gib(3), "a new run knows no earlier peaks");
    assert_eq!(restarted.peaks_cover, Duration::ZERO);
}

#[test]
fn a_peak_lasts_as_long_as_the_window() {
    let (fleet, manual, gpu) = fleet();
    fleet.start_pod("n0", &gpu, &pod("a"), Bytes::gib(20)).unwrap();
    manual.advance(Duration::from_secs(30));
    fleet.set_pod_memory("n0", &gpu, &pod("a").uid, Bytes::ZERO).unwrap();
    let peak = || {
        let reading = fleet.sample_at_once("n0").unwrap();
        reading.gpus[0].pods.first().map(|pod| (pod.used, pod.peak))
    };
    manual.advance(Duration::from_secs(600));
    assert_eq!(peak(), Some((Bytes::ZERO, Bytes::gib(20))));
    manual.advance(Duration::from_secs(1));
    assert_eq!(peak(), None);
}

#[test]
fn the_truth_may_exceed_what_a_reading_can_show() {
    let (fleet, manual, gpu) = fleet();
    fleet.start_pod("n0", &gpu, &pod("a"), Bytes::gib(15)).unwrap();
    assert_eq!(fleet.most_overcommitted(), Bytes::ZERO);
    fleet.start_pod("n0", &gpu, &pod("b"), Bytes::gib(15)).unwrap();
    manual.advance(Duration::from_secs(90));
    let reading = fleet.sample_at_once("n0").unwrap();
    reading.validate().unwrap();
    assert_eq!(reading.gpus[0].used, Bytes::gib(23));
    fleet.stop_pod("n0", &pod("b").uid).unwrap();
    manual.advance(Duration::from_secs(90));
    let truth = fleet.truth("n0", &gpu).unwrap();
    assert_eq!((truth.used, truth.capacity), (Bytes::gib(15), Bytes::gib(23)));
    assert_eq!((truth.overcommitted, truth.most_overcommitted), (Bytes::ZERO, Bytes::gib(7)));
    assert_eq!(truth.overcommitted_for, Duration::from_secs(90));
    assert_eq!(fleet.most_overcommitted(), Bytes::gib(7));
}

#[test]
fn a_degraded_node_shows_use_without_pods() {
    let (fleet, _, gpu) = fleet();
    fleet.start_pod("n0", &gpu, &pod("a"), Bytes::gib(8)).unwrap();
    fleet.set_attribution("n0", Attribution::Degraded { why: "no hostPID".into() }).unwrap();
    let reading = fleet.sample_at_once("n0").unwrap();
    assert_eq!((reading.gpus[0].used, reading.gpus[0].pods.len()), (Bytes::gib(8), 0));
}

#[test]
fn the_device_book_is_the_kubelets_own() {
    let (fleet, _, gpu) = fleet();
    fleet.assign_device("n0", &gpu, &pod("a"), "comfyui").unwrap();
    fleet.assign_device("n0", &gpu, &pod("b"), "comfyui").unwrap();
    fleet.stop_pod("n0", &pod("a").uid).unwrap();
    let devices = || fleet.sample_at_once("n0").unwrap().devices;
    assert_eq!(devices().len(), 2, "the kubelet takes devices back, not the process");
    fleet.unassign_devices("n0", &pod("a")).unwrap();
    assert_eq!(devices().iter().map(|device| &*device.pod).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn what_is_not_there_is_named() {
    let (fleet, _, gpu) = fleet();
    let uid = pod("a").uid;
    assert_eq!(fleet.set_lost("n7", true), Err(FleetError::UnknownNode("n7".into())));
    let elsewhere = super::super::gpu_uuid("n1", 0);
    assert!(matches!(
        fleet.set_foreign("n0", &elsewhere, Bytes::ZERO),
        Err(FleetError::UnknownGpu { .. })
    ));
    assert!(matches!(
        fleet.set_pod_memory("n0", &gpu, &uid, Bytes::ZERO),
        Err(FleetError::UnknownPod { .. })
    ));
}
