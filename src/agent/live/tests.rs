use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::agent::book::{KnownPod, Offer};
use crate::agent::hardware::{
    Driver, EccErrors, Gpu, GpuState, Memory, Mig, Process, Processes, RemappedRows,
};
use crate::agent::owner::Owner;
use crate::clock::ManualClock;
use crate::engine::{DeviceAssignment, Health};

const WINDOW: Duration = Duration::from_secs(10);

/// What the next sampling finds.
#[derive(Clone)]
struct Machine(Arc<Mutex<Found>>);

struct Found {
    hardware: Hardware,
    book: Result<Book, NoBook>,
    owners: HashMap<u32, Owner>,
    blindness: Option<Arc<str>>,
}

impl Source for Machine {
    async fn sample(&self) -> Hardware {
        self.0.lock().hardware.clone()
    }
}

impl Bookkeeper for Machine {
    async fn look(&self) -> Result<Book, NoBook> {
        self.0.lock().book.clone()
    }
}

struct Lookup(HashMap<u32, Owner>);

impl OwnerLookup for Lookup {
    fn owner(&mut self, pid: u32) -> Owner {
        self.0.get(&pid).cloned().unwrap_or(Owner::Gone)
    }
}

impl Owners for Machine {
    fn begin(&self) -> impl OwnerLookup + Send {
        Lookup(self.0.lock().owners.clone())
    }

    fn blindness(&self, driver: &str) -> Option<Arc<str>> {
        assert_eq!(driver, "580.95.05");
        self.0.lock().blindness.clone()
    }
}

fn gpu(index: u32) -> Gpu {
    let memory = Memory {
        total: Bytes::gib(24),
        used: Bytes::gib(10),
        reserved: Bytes::mib(300),
        free: Bytes::gib(13),
    };
    Gpu {
        index,
        uuid: format!("GPU-{index}").into(),
        model: "NVIDIA L4".into(),
        pci_bus_id: Some("00000000:3B:00.0".into()),
        mig: Mig::Off,
        state: GpuState::Ready,
        memory,
        processes: Processes::Known(Vec::new()),
        utilization_ratio: Some(0.5),
        memory_utilization_ratio: None,
        temperature_celsius: Some(41.0),
        power_watts: None,
        throttle_reasons: None,
        ecc_errors: None,
        remapped_rows: None,
        retired_pages: None,
        xids: vec![(13, 2)],
    }
}

fn running(pid: u32, gib: u64) -> Process {
    Process { pid, memory: Some(Bytes::gib(gib)) }
}

fn of(uid: &str, container: &str) -> Owner {
    Owner::Pod { uid: uid.into(), container: Some(container.into()) }
}

struct Site {
    machine: Machine,
    clock: ManualClock,
    node: LiveNode<Machine, Machine, Machine>,
}

impl Site {
    fn with(gpus: Vec<Gpu>) -> Self {
        let found = Found {
            hardware: Hardware {
                driver: Driver::Ready { version: "580.95.05".into() },
                gpus,
                unread: Vec::new(),
            },
            book: Ok(Book::default()),
            owners: HashMap::new(),
            blindness: None,
        };
        let machine = Machine(Arc::new(Mutex::new(found)));
        let clock = ManualClock::new();
        let parts = (machine.clone(), machine.clone(), machine.clone());
        let node = LiveNode::new("n0".into(), clock.clock(), WINDOW, parts);
        Self { machine, clock, node }
    }

    /// These processes run on the first GPU, and are those pods'.
    fn runs(self, processes: Vec<Process>, owners: &[(u32, Owner)]) -> Self {
        self.find(|found| {
            found.hardware.gpus[0].processes = Processes::Known(processes);
            found.owners = owners.iter().cloned().collect();
        });
        self
    }

    fn find(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.machine.0.lock());
    }

    async fn reading(&self) -> Reading {
        self.node.observe().await.reading.clone()
    }

    async fn metrics(&self) -> String {
        metrics::render(&*self.node.observe().await)
    }
}

fn pods(gpu: &GpuReading) -> Vec<(&str, u64, u64)> {
    let gib = |bytes: Bytes| bytes.get() >> 30;
    gpu.pods.iter().map(|pod| (pod.uid.as_str(), gib(pod.used), gib(pod.peak))).collect()
}

#[tokio::test]
async fn memory_is_each_pods_and_the_rest_is_foreign() {
    let processes = vec![running(1, 2), running(2, 3), running(3, 1), running(4, 1)];
    let owners = [(1, of("a", "c1")), (2, of("a", "c2")), (3, of("b", "c3")), (4, Owner::Host)];
    let reading = Site::with(vec![gpu(0), gpu(1)]).runs(processes, &owners).reading().await;
    assert_eq!(reading.attribution, Attribution::Full);
    assert_eq!(pods(&reading.gpus[0]), [("a", 5, 5), ("b", 1, 1)]);
    assert_eq!(reading.gpus[0].foreign(), Bytes::gib(4));
    assert_eq!(pods(&reading.gpus[1]), []);
    assert_eq!((reading.sampling, reading.validate()), (1, Ok(())));
}

#[tokio::test]
async fn a_process_that_is_gone_or_unknown_is_nobodys() {
    let site =
        Site::with(vec![gpu(0)]).runs(vec![running(1, 2), running(9, 3)], &[(1, Owner::Gone)]);
    let reading = site.reading().await;
    assert_eq!((pods(&reading.gpus[0]), reading.gpus[0].foreign()), (vec![], Bytes::gib(10)));
}

#[tokio::test]
async fn peaks_last_for_the_window_and_the_gone_leave_no_trace() {
    let site = Site::with(vec![gpu(0)]).runs(vec![running(1, 8)], &[(1, of("a", "c1"))]);
    site.reading().await;
    site.find(|found| found.hardware.gpus[0].processes = Processes::Known(vec![running(1, 2)]));
    site.clock.advance(WINDOW);
    assert_eq!(pods(&site.reading().await.gpus[0]), [("a", 2, 8)]);
    site.clock.advance(WINDOW + Duration::from_secs(1));
    assert_eq!(pods(&site.reading().await.gpus[0]), [("a", 2, 2)]);
    site.find(|found| found.hardware.gpus[0].processes = Processes::Known(Vec::new()));
    assert_eq!(pods(&site.reading().await.gpus[0]), [("a", 0, 2)]);
    site.clock.advance(WINDOW + Duration::from_secs(1));
    assert_eq!(pods(&site.reading().await.gpus[0]), []);
    assert!(!site.metrics().await.contains("filmgate_pod_gpu_memory"));
}

#[tokio::test]
async fn where_memory_cannot_be_told_apart_the_node_says_so_and_why() {
    let hidden = |found: &mut Found| {
        found.hardware.gpus[1].processes = Processes::Hidden { why: "no permission".into() };
    };
    let unknown = |found: &mut Found| {
        let process = Process { pid: 1, memory: None };
        found.hardware.gpus[0].processes = Processes::Known(vec![process]);
    };
    let blind = |found: &mut Found| found.blindness = Some("no hostPID".into());
    let changes: [fn(&mut Found); 3] = [hidden, unknown, blind];
    for (change, expected) in changes.into_iter().zip(["no permission", "on GPU 0", "no hostPID"]) {
        let site = Site::with(vec![gpu(0), gpu(1)]).runs(vec![running(1, 2)], &[(1, of("a", "c"))]);
        site.find(change);
        let reading = site.reading().await;
        let Attribution::Degraded { why } = &reading.attribution else { panic!("{reading:?}") };
        assert!(why.contains(expected), "{why}");
        assert!(reading.gpus.iter().all(|gpu| gpu.pods.is_empty()), "half a truth");
    }
}

#[tokio::test]
async fn instances_are_devices_and_what_they_were_split_from_is_none() {
    let instance = Mig::Instance {
        parent: "GPU-0".into(),
        profile: "1g.10gb".into(),
        gpu_instance: 7,
        compute_instance: 0,
    };
    let parent =
        Gpu { mig: Mig::Parent, processes: Processes::Hidden { why: "MIG".into() }, ..gpu(0) };
    let site = Site::with(vec![parent, Gpu { uuid: "MIG-1".into(), mig: instance, ..gpu(0) }]);
    let reading = site.reading().await;
    assert_eq!(reading.attribution, Attribution::Full);
    let [only] = &reading.gpus[..] else { panic!("{reading:?}") };
    assert_eq!((only.uuid.as_str(), &*only.resource), ("MIG-1", "nvidia.com/mig-1g.10gb"));
    assert!(site.metrics().await.contains("GPU_I_PROFILE=\"1g.10gb\""));
}

#[tokio::test]
async fn figures_that_cannot_be_hide_nothing_and_spoil_nothing_else() {
    let none = Gpu { memory: Memory::default(), ..gpu(0) };
    let mut much = gpu(1);
    much.memory.used = Bytes::gib(30);
    let site =
        Site::with(vec![gpu(2), none, much]).runs(vec![running(1, 30)], &[(1, of("a", "c"))]);
    let reading = site.reading().await;
    assert_eq!(reading.validate(), Ok(()));
    let shown: Vec<_> = reading.gpus.iter().map(|gpu| (gpu.index, gpu.used)).collect();
    assert_eq!(shown, [(2, Bytes::gib(10)), (1, Bytes::gib(24))]);
    assert!(
        matches!(&reading.gpus[1].health, Health::Unhealthy { why } if why.contains("more is in use"))
    );
    assert_eq!(pods(&reading.gpus[0]), [("a", 24, 24)]);
}

#[tokio::test]
async fn a_gpu_that_fails_or_is_silent_or_held_back_is_unhealthy_and_says_why() {
    let (mut failing, mut silent) = (gpu(0), gpu(1));
    failing.state = GpuState::Failing { why: "XID 79".into() };
    silent.state = GpuState::Silent { why: "no answer for 3 s".into() };
    let site = Site::with(vec![failing, silent, gpu(2), gpu(3)]);
    let offer = Offer { resource: "nvidia.com/gpu.shared".into(), replicas: 4 };
    site.find(|found| {
        let offers = HashMap::from([("GPU-0".into(), offer.clone()), ("GPU-2".into(), offer)]);
        found.book = Ok(Book { offers, ..Book::default() });
    });
    let reading = site.reading().await;
    let why = |gpu: &GpuReading| match &gpu.health {
        Health::Healthy => String::new(),
        Health::Unhealthy { why } => why.to_string(),
    };
    let whys: Vec<_> = reading.gpus.iter().map(why).collect();
    assert_eq!(whys, ["XID 79", "no answer for 3 s", "", "the device plugin does not offer it"]);
    let offered = &reading.gpus[2];
    assert_eq!((&*offered.resource, offered.replicas), ("nvidia.com/gpu.shared", 4));
}

fn assignment(uid: Option<&str>) -> DeviceAssignment {
    DeviceAssignment {
        namespace: "art".into(),
        pod: "comfy".into(),
        uid: uid.map(Into::into),
        container: "main".into(),
        resource: "nvidia.com/gpu".into(),
        gpu: "GPU-0".into(),
    }
}

#[tokio::test]
async fn without_a_kubelet_the_last_book_counts_and_that_is_said() {
    let site = Site::with(vec![gpu(0)]);
    let book = Book { assignments: vec![assignment(Some("a"))], ..Book::default() };
    site.find(|found| found.book = Ok(book));
    assert!(!site.reading().await.is_book_old);
    let why = NoBook::Unreachable { socket: "/kubelet.sock".into(), why: "gone".into() };
    site.find(|found| found.book = Err(why));
    let truth = site.node.observe().await;
    assert_eq!(truth.reading.devices, [assignment(Some("a"))]);
    assert!(truth.reading.is_book_old);
    assert!(metrics::render(&truth).contains("filmgate_agent_kubelet_up{node=\"n0\"} 0\n"));
    assert!(table::render(&truth).contains("the kubelet does not answer on /kubelet.sock: gone"));
}

#[tokio::test]
async fn series_and_tables_name_pods_and_containers_as_far_as_the_kubelet_does() {
    let processes = vec![running(1, 2), running(2, 1), running(3, 4), running(4, 1)];
    let owners =
        [(1, of("a", "c1")), (2, of("a", "c2")), (3, of("listed", "c3")), (4, of("unknown", "c4"))];
    let site = Site::with(vec![gpu(0)]).runs(processes, &owners);
    let known = KnownPod {
        uid: "a".into(),
        namespace: "art".into(),
        name: "two".into(),
        containers: vec![("c1".into(), "main".into()), ("c2".into(), "side".into())],
    };
    site.find(|found| {
        let assignments = vec![assignment(Some("listed"))];
        found.book = Ok(Book { assignments, pods: vec![known], ..Book::default() });
    });
    let truth = site.node.observe().await;
    let text = metrics::render(&truth);
    for (namespace, pod, container, gib) in [
        ("art", "two", "main", 2_u64),
        ("art", "two", "side", 1),
        ("art", "comfy", "", 4),
        ("", "unknown", "", 1),
    ] {
        let labels = format!(
            "UUID=\"GPU-0\",container=\"{container}\",gpu=\"0\",namespace=\"{namespace}\",\
             node=\"n0\",pod=\"{pod}\""
        );
        let series = format!("filmgate_pod_gpu_memory_used_bytes{{{labels}}} {}\n", gib << 30);
        assert!(text.contains(&series), "{series}{text}");
    }
    let table = table::render(&truth);
    for expected in ["art/two/main", "art/two/side", "art/comfy", "unknown", "NVIDIA L4"] {
        assert!(table.contains(expected), "{table}");
    }
    assert_eq!(table::json(&truth)["containers"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn tables_show_how_each_gpu_is_doing_as_far_as_it_tells() {
    let worn = Gpu {
        power_watts: Some(212.4),
        throttle_reasons: Some(vec!["sw_power_cap", "hw_slowdown"]),
        ecc_errors: Some(EccErrors { corrected: 7, uncorrected: 1 }),
        remapped_rows: Some(RemappedRows { corrected: 2, is_pending: true, ..Default::default() }),
        retired_pages: Some(3),
        xids: vec![(13, 2), (79, 1)],
        ..gpu(0)
    };
    let silent = Gpu { xids: Vec::new(), ..gpu(1) };
    let truth = Site::with(vec![worn, silent]).node.observe().await;
    let table = table::render(&truth);
    let cells = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, condition) = table.rsplit_once("\n\n").unwrap();
    assert_eq!(
        condition.lines().map(cells).collect::<Vec<_>>(),
        [
            "GPU WATT ECC UNCORRECTED RETIRED REMAPPED XID HELD BACK BY",
            "0 212 7 1 3 2, reset it 13 × 2, 79 sw_power_cap, hw_slowdown",
        ]
    );
    assert_eq!(
        table::json(&truth)["gpus"],
        json!([
            {
                "index": 0, "uuid": "GPU-0", "pciBusId": "00000000:3B:00.0", "powerWatts": 212.4,
                "throttleReasons": ["sw_power_cap", "hw_slowdown"],
                "eccErrors": {"corrected": 7, "uncorrected": 1},
                "remappedRows":
                    {"corrected": 2, "uncorrected": 0, "isPending": true, "hasFailed": false},
                "retiredPages": 3, "xids": {"13": 2, "79": 1},
            },
            {"index": 1, "uuid": "GPU-1", "pciBusId": "00000000:3B:00.0", "xids": {}},
        ])
    );
    let text = metrics::render(&truth);
    let pending = text.lines().find(|line| line.starts_with("filmgate_gpu_row_remap_pending{"));
    assert!(pending.is_some_and(|line| line.ends_with(" 1")), "{text}");
}

#[tokio::test]
async fn every_figure_of_a_gpu_has_its_series_and_one_that_is_missing_has_none() {
    let text = Site::with(vec![gpu(0)]).metrics().await;
    let labels = "GPU_I_PROFILE=\"\",UUID=\"GPU-0\",gpu=\"0\",modelName=\"NVIDIA L4\",node=\"n0\",\
                  pci_bus_id=\"00000000:3B:00.0\"";
    for (name, value) in [
        ("filmgate_gpu_memory_total_bytes", (24_u64 << 30).to_string()),
        ("filmgate_gpu_memory_used_bytes", (10_u64 << 30).to_string()),
        ("filmgate_gpu_memory_reserved_bytes", (300_u64 << 20).to_string()),
        ("filmgate_gpu_memory_foreign_bytes", (10_u64 << 30).to_string()),
        ("filmgate_gpu_utilization_ratio", "0.5".to_owned()),
        ("filmgate_gpu_temperature_celsius", "41".to_owned()),
        ("filmgate_gpu_healthy", "1".to_owned()),
    ] {
        assert!(text.contains(&format!("{name}{{{labels}}} {value}\n")), "{name}: {text}");
    }
    assert!(text.contains("filmgate_gpu_xid_errors_total{") && text.contains("xid=\"13\"} 2"));
    assert!(!text.contains("filmgate_gpu_power_watts"), "{text}");
    assert!(text.contains("filmgate_agent_attribution{mode=\"full\",node=\"n0\"} 1\n"));
}

#[tokio::test]
async fn it_samples_the_node_that_it_is_and_no_other() {
    let site = Site::with(vec![gpu(0)]);
    assert_eq!(site.node.nodes(), ["n0".into()]);
    assert!(site.node.sample(&"n0".into()).await.is_ok());
    let wrong = site.node.sample(&"n1".into()).await;
    assert!(matches!(wrong, Err(SampleError::UnknownNode { .. })), "{wrong:?}");
    assert_eq!(site.node.latest().map(|truth| truth.reading.sampling), Some(1));
}

#[tokio::test]
async fn where_no_gpu_was_ever_seen_the_sampling_says_why() {
    let site = Site::with(Vec::new());
    assert!(site.node.sample(&"n0".into()).await.is_ok(), "a driver without a GPU");
    let why = "libnvidia-ml.so.1 is not there";
    site.find(|found| found.hardware.driver = Driver::Away { why: why.into() });
    let failed = site.node.sample(&"n0".into()).await.unwrap_err();
    assert!(failed.to_string().contains(why), "{failed}");
}
