//! The node with all of filmgate: on its machine the shipped agent, over a driver that says what
//! the test wants; beside kube-scheduler the shipped extender, which reads that agent.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use filmgate::engine::Bytes;
use filmgate::explain::answer::{Answer, Gpu, Node, Tenant};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt as _;

use super::book::GPUS;
use super::plugin::{Offering, Policy};
use super::support::events::events;
use super::support::eventually::eventually;
use super::support::kubeconfig::User;
use super::support::manifests::{SIDECAR, apply_rights};
use super::support::metrics::Metrics;
use super::support::nvml::scenario::Scenario;
use super::support::nvml::{StandIn, gpu, machine};
use super::support::objects::{PodBuilder, pod};
use super::support::port::ReservedPort;
use super::support::process::Process;
use super::support::scheduler::Extender;
use super::support::simulated::config_naming;
use super::world::{DEADLINE, NODE, World};

/// The node's first process, which is no pod's.
const FIRST_PROCESS: u32 = 1;

/// How far back the peaks of pods reach.
pub const PEAK_WINDOW: Duration = Duration::from_secs(5);

/// A node of GPUs of 24 GiB, each as four replicas.
pub struct Options {
    /// How many GPUs.
    pub gpus: usize,
    /// How the device plugin chooses, which filmgate is told.
    pub policy: Policy,
    /// Time between two samplings that nobody asks for.
    pub interval: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self { gpus: 2, policy: Policy::Packed, interval: "1s" }
    }
}

/// Everything in it ends with the value, in this order.
pub struct Gated {
    extender: Process,
    agent: Process,
    driver: Driver,
    ports: Ports,
    /// The node and its control plane.
    pub world: World,
}

struct Ports {
    verbs: ReservedPort,
    ops: ReservedPort,
    readings: ReservedPort,
    agent_metrics: ReservedPort,
}

impl Gated {
    /// Starts everything, and returns when the extender has read the node. `None` where this
    /// machine cannot have such a node.
    pub async fn start(options: Options) -> Option<Self> {
        let ports = Ports::reserve();
        let gpus = GPUS[..options.gpus].to_vec();
        let policy = options.policy;
        let offering = Offering { resource: "nvidia.com/gpu", gpus, replicas: 4, policy };
        let extender = Extender::at(ports.verbs());
        let world = World::start_with(&[offering], &[extender]).await?;
        apply_rights(&world.cluster.admin(), SIDECAR).await;
        let driver = Driver::new(options.gpus);
        let agent = start_agent(&world, &driver, &ports, options.interval);
        let extender = start_extender(&world, &ports, policy);
        let mut gated = Self { extender, agent, driver, ports, world };
        gated.ready().await;
        Some(gated)
    }

    async fn ready(&mut self) {
        eventually(DEADLINE, "the node read", async || {
            self.agent.assert_running();
            self.extender.assert_running();
            let read = self.metrics().await.series("filmgate_reading_age_seconds").len();
            (read == 1).then_some(())
        })
        .await;
    }

    /// The pod's process holds so many GiB of that GPU, as the driver says.
    pub async fn holds(&mut self, pod: &str, gpu: usize, gib: u64) {
        let pid = pid_on_node(self.world.process(pod).await);
        self.driver.hold(gpu, pid, gib);
    }

    /// A process that is no pod's holds so many GiB of that GPU, as the driver says.
    pub fn is_held_by_others(&mut self, gpu: usize, gib: u64) {
        self.driver.hold(gpu, FIRST_PROCESS, gib);
    }

    /// No process of the machine holds anything, as the driver says.
    pub fn is_left_by_all(&mut self) {
        self.driver.clear();
    }

    /// Has the agent sample now; streams show it.
    pub async fn sample(&self) {
        let url = format!("http://{}/nodes/{NODE}/sample", self.ports.readings.address());
        let sampled = reqwest::Client::new().post(url).send().await.unwrap();
        assert!(sampled.status().is_success(), "{sampled:?}");
    }

    /// What the extender says of the node to such a pod, if it were there.
    pub async fn verdict(&self, pod: PodBuilder) -> Node {
        let url = format!("{}/explain", self.ports.verbs());
        let asked = reqwest::Client::new().post(url).json(&pod.build()).send().await;
        let answer: Answer = asked.unwrap().json().await.unwrap();
        answer.nodes.into_iter().next().expect("the node")
    }

    /// Why the node would refuse such a pod.
    pub async fn refusal(&self, pod: PodBuilder) -> Option<String> {
        self.verdict(pod).await.reason.map(|refusal| refusal.text)
    }

    /// By GPU: what is held against the pod and what its processes hold, in GiB. A pod that is gone
    /// is known by its UID.
    pub async fn account(&self, name: &str) -> HashMap<u32, (u64, u64)> {
        let node = self.verdict(pod("anyone").gpus(1)).await;
        let gib = |bytes: Bytes| bytes.get() >> 30;
        let on = |gpu: &Gpu| {
            let tenant = gpu.tenants.iter().find(|tenant| is_named(tenant, name))?;
            Some((gpu.index, (gib(tenant.charged_bytes), gib(tenant.measured_bytes))))
        };
        node.gpus.iter().filter_map(on).collect()
    }

    /// Waits until the pod's account is that.
    pub async fn account_is(&self, pod: &str, expected: &[(u32, (u64, u64))]) {
        let expected: HashMap<_, _> = expected.iter().copied().collect();
        eventually(DEADLINE, &format!("the account of {pod}"), async || {
            let account = self.account(pod).await;
            if account == expected { Ok(()) } else { Err(format!("{account:?}")) }
        })
        .await;
    }

    /// Waits until kube-scheduler has said that no node takes the pod; what it said.
    pub async fn refused(&self, pod: &str) -> String {
        eventually(DEADLINE, &format!("{pod} refused"), async || {
            let conditions = self.world.cluster.pods().get(pod).await.ok()?.status?.conditions?;
            let refused = |one: &&_| is_refusal(one);
            conditions.iter().find(refused)?.message.clone()
        })
        .await
    }

    /// Waits for filmgate's event of that reason on the pod; what it says.
    pub async fn event(&self, pod: &str, reason: &str) -> String {
        let admin = self.world.cluster.admin();
        let what = format!("{reason} on {pod}");
        eventually(DEADLINE, &what, async || events(&admin, reason).await.remove(pod)).await
    }

    /// Waits until filmgate has found so many pods where it sent them, and so many elsewhere.
    pub async fn predictions_are(&self, hits: f64, misses: f64) {
        eventually(DEADLINE, "hits and misses", async || {
            let metrics = self.metrics().await;
            let count =
                |result| metrics.value("filmgate_gpu_prediction_total", &[("result", result)]);
            let now = (count("hit"), count("miss"));
            if now == (Some(hits), Some(misses)) { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    }

    /// What the agent tells Prometheus of the pod's memory: GiB by GPU.
    pub async fn told_to_prometheus(&self, pod: &str) -> HashMap<u32, f64> {
        let url = format!("http://{}/metrics", self.ports.agent_metrics.address());
        let metrics = Metrics::scrape(&url).await;
        let on = |(index, uuid): (u32, &&str)| {
            let gpu = index.to_string();
            let labels = [("gpu", &*gpu), ("UUID", *uuid), ("pod", pod), ("container", "main")];
            let bytes = metrics.value("filmgate_pod_gpu_memory_used_bytes", &labels)?;
            Some((index, bytes / Bytes::gib(1).get() as f64))
        };
        (0..).zip(&GPUS).filter_map(on).collect()
    }

    /// The extender's metrics now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::scrape(&format!("http://{}/metrics", self.ports.ops.address())).await
    }
}

fn is_named(tenant: &Tenant, name: &str) -> bool {
    tenant.pod == name || tenant.pod == format!("default/{name}")
}

/// The GPUs that filmgate chose, as it wrote them on the pod.
pub fn chosen(pod: &Pod) -> &str {
    &pod.annotations()["filmgate.dev/gpu"]
}

/// The GPUs that the pod was charged on when it was bound.
pub fn charged(pod: &Pod) -> Vec<&str> {
    let charged = pod.annotations()["filmgate.dev/vram-charged"].split(',');
    charged.filter_map(|one| Some(one.split_once('=')?.0)).collect()
}

fn is_refusal(condition: &PodCondition) -> bool {
    condition.reason.as_deref() == Some("Unschedulable")
}

impl Ports {
    fn reserve() -> Self {
        let [verbs, ops, readings, agent_metrics] = [(); 4].map(|()| ReservedPort::reserve());
        Self { verbs, ops, readings, agent_metrics }
    }

    fn verbs(&self) -> String {
        format!("http://{}", self.verbs.address())
    }
}

/// With the kubelet's folder and `/proc` where they are by default: the machine's own.
fn start_agent(world: &World, driver: &Driver, ports: &Ports, interval: &str) -> Process {
    let window = format!("{}s", PEAK_WINDOW.as_secs());
    let (readings, metrics) = (ports.readings.address(), ports.agent_metrics.address());
    let arguments = [
        "agent".to_owned(),
        format!("--node={NODE}"),
        format!("--listen={readings}"),
        format!("--metrics-listen={metrics}"),
        format!("--interval={interval}"),
        format!("--peak-window={window}"),
        format!("--nvml-library={}", driver.library.library().display()),
    ];
    world.machine.spawn("agent", env!("CARGO_BIN_EXE_filmgate"), &arguments)
}

fn start_extender(world: &World, ports: &Ports, policy: Policy) -> Process {
    let allocation = match policy {
        Policy::Distributed => "distributed",
        Policy::Packed => "packed",
    };
    let settings = format!(
        "leaderElection: {{mode: off}}\nforceDeleteGrace: 1s\ndevicePlugin: {{allocation: {allocation}}}\n"
    );
    let agent = format!("http://{}", ports.readings.address());
    let config = config_naming([NODE], &ports.verbs, &ports.ops, &agent, &settings);
    let file = world.cluster.folder().join("filmgate.yaml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.arg("extender").arg("--config").arg(file);
    command.arg("--kubeconfig").arg(world.cluster.kubeconfig(User::Filmgate));
    Process::spawn("filmgate", command, world.cluster.folder())
}

/// The machine's driver.
struct Driver {
    library: StandIn,
    gpus: usize,
    /// GiB by GPU and process.
    held: HashMap<(usize, u32), u64>,
}

impl Driver {
    fn new(gpus: usize) -> Self {
        let held = HashMap::new();
        Self { library: StandIn::new(&scenario(gpus, &held)), gpus, held }
    }

    fn hold(&mut self, gpu: usize, pid: u32, gib: u64) {
        self.held.insert((gpu, pid), gib);
        self.library.set(&scenario(self.gpus, &self.held));
    }

    fn clear(&mut self) {
        self.held.clear();
        self.library.set(&scenario(self.gpus, &self.held));
    }
}

fn scenario(gpus: usize, held: &HashMap<(usize, u32), u64>) -> Scenario {
    let with_processes = |position: usize| {
        let mut own = gpu(u32::try_from(position).unwrap());
        GPUS[position].clone_into(&mut own.device.uuid);
        let processes = held.iter().filter(|((gpu, _), _)| *gpu == position);
        processes.fold(own, |own, ((_, pid), gib)| own.with_process(*pid, gib << 10))
    };
    machine((0..gpus).map(with_processes))
}

/// The number of a process as the node's own processes know it: the driver tells each caller those
/// of its PID namespace.
fn pid_on_node(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("NSpid");
    // This machine's, the node's, the container's.
    line.split_whitespace().nth(1).expect("a node's process").parse().unwrap()
}
