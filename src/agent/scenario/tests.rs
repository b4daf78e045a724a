use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::agent::gpu_uuid;
use crate::agent::simulated::SimulatedFleet;
use crate::clock::ManualClock;
use crate::engine::{Bytes, Health, Reading};

struct Bench {
    folder: tempfile::TempDir,
    manual: ManualClock,
    fleet: SimulatedFleet,
}

impl Bench {
    fn new() -> Self {
        let manual = ManualClock::new();
        let fleet = SimulatedFleet::new(manual.clock());
        Self { folder: tempfile::tempdir().unwrap(), manual, fleet }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("scenario.yaml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    async fn open(&self, text: &str) -> Result<ScenarioFile, FileError> {
        self.write(text);
        ScenarioFile::open(&self.path(), self.fleet.clone(), self.manual.clock()).await
    }

    fn reading(&self, node: &str) -> Reading {
        self.fleet.sample_at_once(node).unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.fleet.node_names().iter().map(ToString::to_string).collect()
    }
}

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/scenario-example.yaml");
    std::fs::read_to_string(path).unwrap()
}

const ONE_POD: &str = "nodes:
  - name: n0
    gpus: [{ total: 24Gi }]
    pods: [{ namespace: studio, name: a, uid: u-a, gpus: [0], memory: [[0, 1Gi], [10, 11Gi]] }]
";

#[tokio::test]
async fn the_example_is_a_scenario_with_every_key() {
    let bench = Bench::new();
    bench.open(&example()).await.unwrap();
    assert_eq!(bench.names(), ["gpu-0", "gpu-degraded", "gpu-lost", "rack-0", "rack-1", "rack-2"]);
    bench.manual.advance(Duration::from_secs(30));
    let reading = bench.reading("gpu-0");
    assert_eq!(reading.gpus.len(), 3);
    assert_eq!(reading.gpus[0].pods[0].used, Bytes::gib(12), "25 s after its start at 5 s");
    assert_eq!(reading.gpus[1].pods[0].used, Bytes::gib(8), "chosen by UUID");
    assert_eq!(reading.gpus[0].foreign(), Bytes::mib(300));
    assert!(matches!(reading.gpus[2].health, Health::Unhealthy { .. }));
    assert_eq!(reading.devices[0].gpu, gpu_uuid("gpu-0", 0));
    assert_eq!(bench.reading("rack-2").gpus.len(), 8);
    bench.manual.advance(Duration::from_secs(30));
    assert_eq!(bench.reading("gpu-0").gpus[1].foreign(), Bytes::mib(300 + 2048), "from 60 s on");
}

/// Documentation that forgets a key is found here: an entry without one of them still parses.
#[test]
fn the_example_documents_every_key() {
    let text = example();
    for key in [
        "name",
        "copies",
        "degraded",
        "gpus",
        "pods",
        "devices",
        "faults",
        "count",
        "total",
        "reserved",
        "model",
        "resource",
        "replicas",
        "utilization",
        "temperatureCelsius",
        "unhealthy",
        "foreign",
        "memory",
        "interpolation",
        "startSeconds",
        "runSeconds",
        "namespace",
        "uid",
        "pod",
        "container",
        "gpu",
        "lost",
        "lateSeconds",
        "delivery",
        "impossibleNumbers",
    ] {
        assert!(text.contains(&format!("{key}: ")) || text.contains(&format!("{key}:\n")), "{key}");
    }
}

#[tokio::test]
async fn a_rewritten_file_is_taken_and_what_stays_keeps_its_history() {
    let bench = Bench::new();
    let mut file = bench.open(ONE_POD).await.unwrap();
    bench.manual.advance(Duration::from_secs(20));
    let before = bench.reading("n0");
    assert_eq!(before.gpus[0].pods[0].used, Bytes::gib(11));
    assert!(!file.look().await.unwrap(), "nothing changed");

    bench.write(&ONE_POD.replace("[[0, 1Gi], [10, 11Gi]]", "2Gi"));
    assert!(file.look().await.unwrap());
    let after = bench.reading("n0");
    assert_eq!((after.agent, after.sampling), (before.agent, before.sampling + 1));
    assert_eq!(after.gpus[0].pods[0].used, Bytes::gib(2));
    assert_eq!(after.gpus[0].pods[0].peak, Bytes::gib(11));

    bench.write("nodes: [{ name: n1, gpus: [{ total: 24Gi }] }]");
    assert!(file.look().await.unwrap());
    assert_eq!(bench.names(), ["n1"]);
}

#[tokio::test]
async fn a_pods_curve_goes_on_through_a_rewrite_and_a_new_pods_starts_then() {
    let bench = Bench::new();
    let mut file = bench.open(ONE_POD).await.unwrap();
    bench.manual.advance(Duration::from_secs(5));
    let second = ONE_POD.replace("pods: [", "pods: [{ namespace: studio, name: b, uid: u-b, gpus: [0], memory: [[0, 0], [10, 10Gi]] }, ");
    bench.write(&second);
    assert!(file.look().await.unwrap());
    bench.manual.advance(Duration::from_secs(5));
    let used: Vec<_> =
        bench.reading("n0").gpus[0].pods.iter().map(|pod| pod.used.get() >> 30).collect();
    assert_eq!(used, [11, 5]);
}

#[tokio::test]
async fn a_broken_file_is_reported_and_the_last_good_one_stays() {
    let bench = Bench::new();
    let mut file = bench.open(ONE_POD).await.unwrap();
    for broken in ["nodes: [", "", &ONE_POD.replace("gpus: [0]", "gpus: [4]")] {
        bench.write(broken);
        assert!(file.look().await.is_err(), "{broken}");
        assert!(!file.look().await.unwrap(), "reported once");
        assert_eq!(bench.names(), ["n0"]);
    }
    std::fs::remove_file(bench.path()).unwrap();
    assert!(matches!(file.look().await, Err(FileError::Unreadable { .. })));
    bench.write(&ONE_POD.replace("n0", "n1"));
    assert!(file.look().await.unwrap());
    assert_eq!(bench.names(), ["n1"]);
}

#[tokio::test]
async fn json_is_a_scenario_too() {
    let bench = Bench::new();
    bench.open(r#"{"nodes": [{"name": "n0", "gpus": [{"total": 25769803776}]}]}"#).await.unwrap();
    assert_eq!(bench.reading("n0").gpus[0].total, Bytes::gib(24));
}

#[tokio::test]
async fn a_mistake_is_named_with_its_place() {
    for (mistake, correct, said) in [
        ("gpu: [0]", "gpus: [0]", "unknown field `gpu`"),
        (
            "gpus: [1]",
            "gpus: [0]",
            "nodes[0] n0: pods[0] studio/a: there is no GPU 1: the node's are 0 (GPU-",
        ),
        ("gpus: [-1]", "gpus: [0]", "no GPU has the index -1"),
        ("gpus: [GPU-x]", "gpus: [0]", "there is no GPU GPU-x"),
        ("uid: ''", "uid: u-a", "pods[0] studio/a: uid is empty"),
        ("24GiB", "24Gi", "\"24GiB\" is not a quantity of memory; write for example 12Gi, or 0"),
        ("-1", "24Gi", "must be above zero"),
        ("[10, 1Gi], [0, 11Gi]", "[0, 1Gi], [10, 11Gi]", "memory goes from 10 s back to 0 s"),
        (
            "[-1, 1Gi], [10, 11Gi]",
            "[0, 1Gi], [10, 11Gi]",
            "a point at -1 s: seconds count from 0 up",
        ),
        ("memory: []", "memory: [[0, 1Gi], [10, 11Gi]]", "memory has no point"),
        ("memory: true", "memory: [[0, 1Gi], [10, 11Gi]]", "points such as [[0, 1Gi], [30, 12Gi]]"),
        (
            "24Gi, reserved: 24Gi",
            "24Gi",
            "gpus[0]: reserved is 24.0 GiB of 24.0 GiB: less than total",
        ),
        ("24Gi, replicas: 0", "24Gi", "replicas is 0: 1 (not shared) or more"),
        ("24Gi, count: 9999", "24Gi", "count is 9999: 1 to 1024"),
        ("24Gi, utilization: 7", "24Gi", "utilization is 7: 0 to 1"),
        ("name: ''", "name: n0", "name is empty"),
        ("name: n0\n    copies: 0", "name: n0", "copies is 0: 1 to 100000"),
        ("name: n0\n    copies: 2", "name: n0", "copies with pods or devices"),
        ("name: n0\n    faults: { lost: no }", "name: n0", "refused"),
        ("name: n0\n    faults: { lateSeconds: -2 }", "name: n0", "faults: lateSeconds is -2"),
    ] {
        let text = ONE_POD.replace(correct, mistake);
        assert_ne!(text, ONE_POD, "{correct}");
        let error = Bench::new().open(&text).await.expect_err(mistake).to_string();
        assert!(error.contains(said), "{mistake}: {error}");
        assert!(error.starts_with("--scenario "), "{error}");
    }
}

#[tokio::test]
async fn names_and_uids_are_single() {
    let twice = ONE_POD
        .replace("pods: [", "pods: [{ namespace: x, name: y, uid: u-a, gpus: [0], memory: 1Gi }, ");
    let error = Bench::new().open(&twice).await.unwrap_err().to_string();
    assert!(error.contains("pod u-a is on this node twice"), "{error}");
    let nodes = "nodes: [{ name: n0, gpus: [] }, { name: n0, gpus: [] }]";
    let error = Bench::new().open(nodes).await.unwrap_err().to_string();
    assert!(error.contains("nodes[1] n0: node n0 is there twice"), "{error}");
}
