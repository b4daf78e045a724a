//! What the node agent takes for itself: the shipped binary on a machine of eight GPUs with forty
//! processes each, in forty pods, at one sampling a second. Somebody follows its readings, as the
//! extender does, and Prometheus scrapes it.
//!
//! The driver is the stand-in, whose work is done in the agent's process as the real one's is. How
//! much that is shows a process that makes the same calls and does nothing else.

use std::process::Command;
use std::time::Duration;

use filmgate::clock::Clock;
use filmgate::readings::client::{ClientConfig, Event, ReadingsClient};
use filmgate::readings::discovery::endpoint;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use self::machine::{GPUS, Machine, PODS, PROCESSES};
use self::memory::Resident;
use super::processor;
use super::shipped;
use super::stage::DEADLINE;
use super::support::eventually::eventually;
use super::support::figures::Figures;
use super::support::metrics::Metrics;
use super::support::port::ReservedPort;
use super::support::process::Process;

pub mod driver;
mod kubelet;
mod machine;
pub mod memory;

const NODE: &str = "n0";
/// What starting costs is over by then, and all that is remembered is.
const WARM_UP: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_secs(90);
/// As Prometheus is usually told to.
const SCRAPES_EVERY: u64 = 15;

/// Measures and notes `agent_rss_mib` and `agent_cpu_ratio`.
pub fn measure(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(async { Bench::start().await.run().await });
    let mib = |kib: u64| (kib as f64 / 102.4).round() / 10.0;
    let memory = &found.memory;
    let detail = json!({
        "anonymous_mib": mib(memory.anonymous), "file_mib": mib(memory.file),
        "stand_in_file_mib": mib(memory.stand_in), "peak_mib": mib(memory.peak),
        "threads": memory.threads,
    });
    figures.add("agent_rss_mib", memory.all as f64 / 1024.0, "MiB", "<= 15", detail);
    let detail = json!({
        "driver_calls_alone": found.driver, "gpus": GPUS, "pods": PODS, "processes": PROCESSES,
        "readings": found.readings, "window_seconds": WINDOW.as_secs(),
    });
    figures.add("agent_cpu_ratio", found.agent, "ratio", "<= 0.005", detail);
}

struct Found {
    memory: Resident,
    /// Parts of a core.
    agent: f64,
    driver: f64,
    /// That its reader got.
    readings: usize,
}

struct Bench {
    machine: Machine,
    agent: Process,
    driver: Process,
    metrics: String,
    events: mpsc::Receiver<Event>,
    _reader: ReadingsClient,
}

impl Bench {
    async fn start() -> Self {
        let machine = Machine::start().await;
        let kubelet = kubelet::answers().serve(machine.folder.path());
        let ops = ReservedPort::reserve();
        let mut command = Command::new(shipped::program());
        command.args(["agent", "--node", NODE, "--listen", "127.0.0.1:0"]);
        command.args(["--metrics-listen", &ops.address().to_string()]);
        command.arg("--proc").arg(&machine.proc).arg("--kubelet").arg(kubelet);
        command.arg("--nvml-library").arg(machine.driver.library());
        let agent = Process::spawn("agent", command, machine.folder.path());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(driver::COMMAND).arg(machine.driver.library());
        let driver = Process::spawn(driver::COMMAND, command, machine.folder.path());

        let url = eventually(DEADLINE, "the agent's address", async || {
            let log = agent.log();
            log.lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
        });
        let url = url.await;
        let (sender, events) = mpsc::channel(16);
        let reader = ReadingsClient::new(ClientConfig::default(), Clock::monotonic(), sender);
        let reader = reader.unwrap();
        reader.set_endpoints(vec![endpoint(NODE, &url).unwrap()]);
        let metrics = format!("http://{}/metrics", ops.address());
        Self { machine, agent, driver, metrics, events, _reader: reader }
    }

    async fn run(mut self) -> Found {
        self.live(WARM_UP).await;
        self.assert_whole().await;
        let processes = [self.agent.pid(), self.driver.pid()];
        let before = processes.map(processor::time_of);
        let began = Instant::now();
        let readings = self.live(WINDOW).await;
        let window = began.elapsed().as_secs_f64();
        let after = processes.map(processor::time_of);
        let ratio = |which: usize| (after[which] - before[which]).as_secs_f64() / window;
        let memory = Resident::of(self.agent.pid());
        self.assert_whole().await;
        Found { memory, agent: ratio(0), driver: ratio(1), readings }
    }

    /// Lets time pass in which all GPUs move; returns how many readings came.
    async fn live(&mut self, time: Duration) -> usize {
        let mut readings = 0;
        for second in 0..time.as_secs() {
            self.machine.move_on();
            if second.is_multiple_of(SCRAPES_EVERY) {
                Metrics::scrape(&self.metrics).await;
            }
            let until = Instant::now() + Duration::from_secs(1);
            while let Ok(event) = timeout_at(until, self.events.recv()).await {
                readings += usize::from(matches!(event, Some(Event::Arrival(_))));
            }
        }
        readings
    }

    /// What is measured is an agent that knows all that there is.
    async fn assert_whole(&mut self) {
        self.agent.assert_running();
        self.driver.assert_running();
        let metrics = Metrics::scrape(&self.metrics).await;
        let pods = metrics.series("filmgate_pod_gpu_memory_used_bytes");
        assert_eq!(pods.len(), PODS);
        let named = |(labels, _): &(&str, f64)| labels.contains("comfyui-");
        assert!(pods.iter().all(named), "{pods:?}");
        let full = metrics.value("filmgate_agent_attribution", &[("mode", "full")]);
        assert_eq!(full, Some(1.0));
    }
}
