//! A control plane with one real node.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use filmgate::agent::book::{Book, Bookkeeper as _};
use filmgate::agent::kubelet::Kubelet;
use filmgate::agent::owner::{Owner, OwnerLookup as _, Owners as _};
use filmgate::agent::procfs::Procfs;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::Value;
use tokio::sync::MutexGuard;

use super::containerd::{Containerd, IMAGE};
use super::kubelet;
use super::machine::Machine;
use super::plugin::{Offering, Plugin};
use super::support::cluster::{Cluster, ClusterOptions, SchedulerOptions, create};
use super::support::eventually::eventually;
use super::support::kubeconfig::User;
use super::support::objects::PodBuilder;
use super::support::port::ReservedPort;
use super::support::process::{Process, is_root};
use super::support::scheduler::{Extender, configuration};
use super::support::simulated::TURN;

/// Anything that takes longer on a busy machine has gone wrong.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The name of the node.
pub const NODE: &str = "gpu-node";

/// What a container does: nothing, until it is told to end.
const PROGRAM: &str = "trap 'exit 0' TERM; while :; do busybox sleep 1000 & wait; done";

/// Everything in it ends with the value, in this order.
pub struct World {
    /// The kubelet's process.
    kubelet: Process,
    kubelet_port: ReservedPort,
    /// What runs the containers.
    pub containerd: Containerd,
    /// The device plugins.
    pub plugins: Vec<Plugin>,
    _scheduler: Process,
    /// The node's machine.
    pub machine: Machine,
    /// The control plane.
    pub cluster: Cluster,
    /// The agent's view of the kubelet.
    pub bookkeeper: Kubelet,
    /// The agent's view of processes.
    pub procfs: Procfs,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// Starts everything, and returns when the node takes pods for all that the plugins offer.
    /// `None` where this machine cannot have such a node.
    pub async fn start(offerings: &[Offering]) -> Option<Self> {
        Self::start_with(offerings, &[]).await
    }

    /// The same where kube-scheduler asks extenders.
    pub async fn start_with(offerings: &[Offering], extenders: &[Extender]) -> Option<Self> {
        let options = ClusterOptions { controller_manager: false };
        Self::start_in(options, offerings, |cluster| {
            configuration(&cluster.kubeconfig(User::Scheduler), extenders)
        })
        .await
    }

    /// The same in such a cluster, with such a configuration of kube-scheduler.
    pub async fn start_in(
        options: ClusterOptions,
        offerings: &[Offering],
        scheduler: impl FnOnce(&Cluster) -> Value,
    ) -> Option<Self> {
        if !is_possible() {
            return None;
        }
        let turn = TURN.lock().await;
        let cluster = Cluster::start(options).await;
        let folder = cluster.folder().join(NODE);
        fs::create_dir(&folder).unwrap();
        let machine = Machine::start(&folder).await;
        let containerd = Containerd::start(&machine).await;
        let kubelet_port = ReservedPort::reserve();
        let kubelet = start_kubelet(&machine, &cluster, &kubelet_port);
        let plugins = machine.kubelet_folder().join("device-plugins");
        let plugins = offerings.iter().map(|one| Plugin::new(one.clone(), &plugins));
        let mut world = Self {
            kubelet,
            kubelet_port,
            containerd,
            plugins: plugins.collect(),
            _scheduler: start_scheduler(&cluster, &scheduler(&cluster)),
            bookkeeper: Kubelet::at(&machine.kubelet_folder()),
            machine,
            cluster,
            procfs: Procfs::default(),
            _turn: turn,
        };
        world.register_plugins().await;
        Some(world)
    }

    /// Kills the kubelet; containers live on.
    pub fn kill_kubelet(&mut self) {
        self.kubelet.kill();
    }

    /// Stops the kubelet as one that hangs, or lets it go on; containers live on.
    pub fn hang_kubelet(&mut self, hangs: bool) {
        self.kubelet.signal_all(if hangs { libc::SIGSTOP } else { libc::SIGCONT });
    }

    /// Starts the kubelet again.
    pub fn start_kubelet(&mut self) {
        self.kubelet = start_kubelet(&self.machine, &self.cluster, &self.kubelet_port);
    }

    /// The plugins find the kubelet, and it tells the API server what they offer.
    pub async fn register_plugins(&mut self) {
        for plugin in &mut self.plugins {
            let kubelet = &mut self.kubelet;
            eventually(DEADLINE, "a plugin registered", async || {
                kubelet.assert_running();
                plugin.register().await
            })
            .await;
        }
        eventually(DEADLINE, "the node ready", async || {
            self.kubelet.assert_running();
            let node = self.cluster.nodes().get(NODE).await?;
            let status = node.status.unwrap_or_default();
            let ready = status.conditions.iter().flatten().find(|one| one.type_ == "Ready");
            anyhow::ensure!(ready.is_some_and(|one| one.status == "True"), "{ready:?}");
            let allocatable = status.allocatable.unwrap_or_default();
            for offering in self.plugins.iter().map(Plugin::offering) {
                let devices = (offering.gpus.len() * offering.replicas).to_string();
                let quantity = allocatable.get(offering.resource).map(|one| &*one.0);
                anyhow::ensure!(quantity == Some(&*devices), "{allocatable:?}");
            }
            anyhow::Ok(())
        })
        .await;
    }

    /// Creates a pod of one real container, and returns when it runs.
    pub async fn run(&self, pod: PodBuilder) -> Pod {
        let name = self.create(pod).await.name_any();
        self.running(&name).await
    }

    /// Creates a pod of one real container.
    pub async fn create(&self, pod: PodBuilder) -> Pod {
        let mut pod = pod.build();
        let name = pod.name_any();
        make_runnable(&mut pod, self.command(&name));
        create(&self.cluster.pods(), &pod).await
    }

    /// Waits until the pod runs.
    pub async fn running(&self, name: &str) -> Pod {
        eventually(DEADLINE, &format!("{name} running"), async || {
            let pod = self.cluster.pods().get(name).await?;
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            anyhow::ensure!(phase == Some("Running"), "{:?}", pod.status);
            anyhow::Ok(pod)
        })
        .await
    }

    /// Puts a pod into the kubelet's own folder, and returns it as the API server shows it, which is
    /// its mirror, when it runs.
    pub async fn run_static(&self, pod: PodBuilder) -> Pod {
        let mut pod = pod.build();
        let name = pod.name_any();
        make_runnable(&mut pod, self.command(&name));
        let file = kubelet::manifests(&self.machine).join(format!("{name}.json"));
        fs::write(file, serde_json::to_vec(&pod).unwrap()).unwrap();
        self.running(&format!("{name}-{NODE}")).await
    }

    /// Deletes a pod; with a grace of zero, without waiting for its containers.
    pub async fn delete(&self, name: &str, grace: u32) {
        let how = DeleteParams::default().grace_period(grace);
        self.cluster.pods().delete(name, &how).await.unwrap();
    }

    /// What the agent reads in the kubelet's book now.
    pub async fn look(&self) -> Book {
        self.bookkeeper.look().await.unwrap()
    }

    /// Whose a process is.
    pub fn owner(&self, pid: u32) -> Owner {
        self.procfs.begin().owner(pid)
    }

    /// The process of a pod's container, found by what it was called with.
    pub async fn process(&self, pod: &str) -> u32 {
        let mut line = self.command(pod)[1..].join("\0").into_bytes();
        line.push(0);
        // A child that it forks has the same arguments for a moment.
        eventually(DEADLINE, &format!("the process of {pod}"), async || {
            let named = processes().into_iter().filter(|(_, arguments)| arguments.ends_with(&line));
            match *named.collect::<Vec<_>>() {
                [(pid, _)] => Ok(pid),
                ref others => Err(format!("{others:?}")),
            }
        })
        .await
    }

    /// Under a name that no other test's processes have.
    fn command(&self, pod: &str) -> Vec<String> {
        let name = format!("{}/{pod}", self.machine.cgroups.path());
        ["/bin/sh", "-c", PROGRAM, &name].map(str::to_owned).to_vec()
    }

    /// What the process sees in its environment.
    pub fn visible_devices(&self, pid: u32) -> String {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let mut values = environment.split(|byte| *byte == 0);
        let value = values.find_map(|value| value.strip_prefix(b"NVIDIA_VISIBLE_DEVICES="));
        String::from_utf8(value.expect("NVIDIA_VISIBLE_DEVICES").to_vec()).unwrap()
    }
}

fn start_kubelet(machine: &Machine, cluster: &Cluster, port: &ReservedPort) -> Process {
    kubelet::start(machine, NODE, &cluster.kubeconfig(User::Kubelet), port)
}

fn start_scheduler(cluster: &Cluster, configuration: &Value) -> Process {
    let config_yaml = configuration.to_string();
    cluster.start_scheduler(SchedulerOptions { config_yaml, name: "scheduler".to_owned() })
}

/// A container that exists, in the machine's network.
fn make_runnable(pod: &mut Pod, command: Vec<String>) {
    let spec = pod.spec.as_mut().unwrap();
    spec.host_network = Some(true);
    spec.termination_grace_period_seconds = Some(5);
    let container = &mut spec.containers[0];
    container.image = Some(IMAGE.to_owned());
    container.image_pull_policy = Some("Never".to_owned());
    container.command = Some(command);
}

/// Every process of this machine and its arguments.
pub fn processes() -> Vec<(u32, Vec<u8>)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| Some((pid, fs::read(format!("/proc/{pid}/cmdline")).ok()?)))
        .collect()
}

/// Whether this machine can have a node; says why not where it cannot.
pub fn is_possible() -> bool {
    static ABSENCE: LazyLock<Option<&str>> = LazyLock::new(|| {
        if !is_root() {
            return Some("it needs root");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/node-packages.sh");
        let has_programs = Command::new(script).status().is_ok_and(|status| status.success());
        (!has_programs).then_some("programs are missing")
    });
    let Some(why) = *ABSENCE else { return true };
    assert!(std::env::var_os("CI").is_none(), "no test on a real kubelet: {why}");
    eprintln!("skipped, as there can be no real kubelet: {why}");
    false
}
