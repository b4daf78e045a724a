//! A real Prometheus scrapes an extender and the shipped agent once a second, and is asked all
//! that dashboards and rules ask.

use std::process::Command;
use std::time::Duration;

use filmgate::agent::kubelet::wire::pods::{
    ContainerStatus, ListPodsResponse, ObjectMeta, Pod, PodStatus,
};
use filmgate::engine::Health;
use prost::Message as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::dashboards::{self, Asked, DASHBOARDS};
use crate::file;
use crate::harness::eventually::eventually;
use crate::harness::kubelet_sockets::KubeletSockets;
use crate::harness::nvml::scenario::{Scenario, Xid};
use crate::harness::nvml::{self, StandIn, machine};
use crate::harness::port::ReservedPort;
use crate::harness::proc::{self, InPod};
use crate::harness::process::Process;
use crate::harness::prometheus::program;
use crate::site::{Site, asking, serve};
use crate::support::{Node, node};

const DEADLINE: Duration = Duration::from_secs(90);
/// The pod whose process this test's own is to be.
const POD: &str = "0f2ab7c9-6f5c-4d11-9d3a-2f7c1e5b8a90";

/// Everything in it ends with the value.
struct World {
    site: Site,
    /// Pods that were bound so far.
    bound: usize,
    library: StandIn,
    _agent: Process,
    prometheus: Process,
    port: ReservedPort,
    _agent_port: ReservedPort,
    _folder: TempDir,
}

impl World {
    /// `None` where there is no Prometheus.
    async fn start() -> Option<Self> {
        let prometheus = program("prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        let library = StandIn::new(&full_of_figures(0));
        let (agent_port, port) = (ReservedPort::reserve(), ReservedPort::reserve());
        let agent = start_agent(&library, &agent_port, &folder);
        let site = eventful().await;
        let extender = serve(site.ops.clone()).await;
        let config = folder.path().join("prometheus.yaml");
        std::fs::write(&config, configuration(&extender.to_string(), &agent_port)).unwrap();
        let mut command = Command::new(prometheus);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={}", port.address()));
        let prometheus = Process::spawn("prometheus", command, folder.path());
        Some(Self {
            site,
            bound: 0,
            library,
            _agent: agent,
            prometheus,
            port,
            _agent_port: agent_port,
            _folder: folder,
        })
    }

    /// Something happens between two scrapes: a pod is bound, a GPU has one more error.
    async fn go_on(&mut self) {
        self.prometheus.assert_running();
        let name = format!("small-{}", self.bound);
        self.bound += 1;
        self.site.add(&asking(&name, "64Mi"));
        self.site.bind(&name, "n2").await;
        // The agent hears of those that come after it has begun to listen.
        self.library.set(&full_of_figures(self.bound as u64));
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("http://{}/api/v1/{path}", self.port.address());
        let url = reqwest::Url::parse_with_params(&url, query).unwrap();
        let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(answer.to_string())
        }
    }

    /// Whether the query has data.
    async fn has_data(&self, query: &str) -> Result<(), String> {
        let data = self.get("query", &[("query", query)]).await?;
        if data["result"].as_array().is_some_and(|series| !series.is_empty()) {
            return Ok(());
        }
        Err(format!("no data for {query}"))
    }
}

fn start_agent(library: &StandIn, port: &ReservedPort, folder: &TempDir) -> Process {
    let own = std::process::id();
    let container = "3f".repeat(32);
    let proc = folder.path().join("proc");
    proc::write(&proc, &[InPod { pid: own, pod: POD.to_owned(), container: container.clone() }]);
    let kubelet = kubelet(&container).serve(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.env_clear().args(["agent", "--node", "n0", "--kubelet"]).arg(kubelet);
    command.args(["--listen", "127.0.0.1:0", "--metrics-listen", &port.address().to_string()]);
    command.arg("--proc").arg(proc).arg("--nvml-library").arg(library.library());
    Process::spawn("agent", command, folder.path())
}

/// One that knows the pod.
fn kubelet(container: &str) -> KubeletSockets {
    let (name, namespace) = ("comfyui".to_owned(), "ai-film".to_owned());
    let main = ContainerStatus {
        name: "main".to_owned(),
        container_id: format!("containerd://{container}"),
    };
    let object = Pod {
        metadata: Some(ObjectMeta { name, namespace, uid: POD.to_owned() }),
        status: Some(PodStatus { container_statuses: vec![main], ..PodStatus::default() }),
    };
    let pods = ListPodsResponse { pods: vec![object.encode_to_vec().into()] };
    KubeletSockets { pods, ..KubeletSockets::default() }
}

/// A GPU that has all figures and so many XID errors, and a process of a pod.
fn full_of_figures(xids: u64) -> Scenario {
    let xid = |sequence| Xid { sequence, gpu: 0, xid: 31, instance: None };
    let mut gpu = nvml::gpu(0).with_figures().with_process(std::process::id(), 2048);
    gpu.device.uuid = "GPU-n0-0".into();
    Scenario { xids: (1..=xids).map(xid).collect(), ..machine([gpu]) }
}

fn n0() -> Node {
    node("n0").gpus(1).replicas(4)
}

/// An extender that has seen something of everything.
async fn eventful() -> Site {
    let sick =
        node("n1").gpus(1).gpu(0, |gpu| gpu.health = Health::Unhealthy { why: "XID 79".into() });
    let roomy = node("n2").gpus(1).replicas(10_000);
    let site = Site::with(&[n0(), sick, roomy]);
    site.add(&asking("grown", "4Gi"));
    site.bind("grown", "n0").await;
    site.read(&n0().uses("grown", 0, 9));
    site.gate.round();
    for (pod, vram) in [("waits", "20Gi"), ("never-fits", "400Gi")] {
        site.add(&asking(pod, vram));
        site.filter(&asking(pod, vram), &["n0", "n1"]).await;
    }
    site.told_by_comfyui("grown", 0, 0);
    site
}

fn configuration(extender: &str, agent: &ReservedPort) -> String {
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n\
         - {{job_name: filmgate-extender, static_configs: [{{targets: ['{extender}']}}]}}\n\
         - {{job_name: filmgate-agent, honor_labels: true, static_configs: [{{targets: ['{}']}}]}}\n",
        file("deploy/prometheus/rules.yaml").display(),
        agent.address(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_every_dashboard_has_data() {
    let Some(mut world) = World::start().await else { return };
    let mut asked: Vec<Asked> =
        DASHBOARDS.iter().flat_map(|name| dashboards::queries(name)).collect();
    assert!(asked.len() > 80, "{} queries", asked.len());
    let lists = DASHBOARDS.iter().flat_map(|name| dashboards::lists(name));
    asked.extend(lists.map(|(series, label)| Asked {
        place: format!("the list of {label}"),
        query: format!("{series}{{{label}!=\"\"}}").replace("}{", ", "),
    }));
    eventually(DEADLINE, "data for every query", async || {
        world.go_on().await;
        let mut without = Vec::new();
        for one in std::mem::take(&mut asked) {
            if let Err(why) = world.has_data(&one.query).await {
                without.push((one, why));
            }
        }
        let seen: Vec<_> =
            without.iter().map(|(one, why)| format!("{}: {why}", one.place)).collect();
        asked.extend(without.into_iter().map(|(one, _)| one));
        if seen.is_empty() { Ok(()) } else { Err(seen.join("\n")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_can_be_evaluated_and_records_have_data() {
    let Some(mut world) = World::start().await else { return };
    eventually(DEADLINE, "rules that were evaluated", async || {
        world.go_on().await;
        let groups = world.get("rules", &[]).await?;
        let groups = groups["groups"].as_array().ok_or("no groups")?;
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        for rule in rules {
            if rule["health"] != "ok" {
                return Err(rule.to_string());
            }
            let name = rule["name"].as_str().unwrap();
            if rule["type"] == "recording" {
                world.has_data(name).await?;
            }
        }
        Ok(())
    })
    .await;
}
