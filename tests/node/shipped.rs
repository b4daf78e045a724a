//! filmgate's image on a real node, as deploy/filmgate.yaml has it: what keeps certificates, the
//! agents, and the extender beside kube-scheduler in one pod. Here is no network of pods: they have the
//! machine's, and loopback addresses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::book::GPUS;
use super::gated::chosen;
use super::plugin::{Offering, Policy};
use super::support::binaries;
use super::support::cluster::ClusterOptions;
use super::support::eventually::{eventually, throughout};
use super::support::kubeconfig::User;
use super::support::manifests::{SIDECAR, apply_objects, objects, shipped};
use super::support::metrics::Metrics;
use super::support::nvml::{StandIn, gpu, machine};
use super::support::objects::pod;
use super::support::port::ReservedPort;
use super::support::scheduler::configuration;
use super::world::{DEADLINE, NODE, World, processes};

const NAMESPACE: &str = "filmgate";
/// As the agent's manifest has it.
const IMAGE: &str = concat!("filmgate:", env!("CARGO_PKG_VERSION"));
/// The image's user.
const NONROOT: &str = "65532";
/// Some samplings.
const A_WHILE: Duration = Duration::from_secs(3);

struct Node {
    world: World,
    verbs: ReservedPort,
    ops: ReservedPort,
    readings: ReservedPort,
    agent_metrics: ReservedPort,
    certificates: ReservedPort,
}

impl Node {
    /// With the image, and everything in the cluster that its pods need.
    async fn start() -> Option<Self> {
        let offering = Offering {
            resource: "nvidia.com/gpu",
            gpus: GPUS.to_vec(),
            replicas: 4,
            policy: Policy::Packed,
        };
        // With what gives pods their service accounts and DaemonSets their pods.
        let options = ClusterOptions { controller_manager: true };
        let mut world = World::start_in(options, &[offering], |cluster| {
            let kubeconfig = cluster.kubeconfig(User::Scheduler);
            let mut clusters_own = configuration(&kubeconfig, &[]);
            clusters_own["profiles"][0]["schedulerName"] = json!("default-scheduler");
            clusters_own
        })
        .await?;
        let image = pack(world.cluster.folder());
        world.containerd.import(&image).await;
        let ports = [(); 5].map(|()| ReservedPort::reserve());
        let [verbs, ops, readings, agent_metrics, certificates] = ports;
        let node = Self { world, verbs, ops, readings, agent_metrics, certificates };
        node.prepare().await;
        Some(node)
    }

    async fn prepare(&self) {
        let admin = self.world.cluster.admin();
        let but_workloads = objects(&shipped(SIDECAR)).into_iter().filter(|one| !is_workload(one));
        apply_objects(&admin, but_workloads).await;
        let is_gpu_node = json!({"metadata": {"labels": {"nvidia.com/gpu.present": "true"}}});
        let labelled = Patch::Merge(is_gpu_node);
        self.world.cluster.nodes().patch(NODE, &PatchParams::default(), &labelled).await.unwrap();

        let maps: Api<ConfigMap> = Api::namespaced(admin, NAMESPACE);
        let shipped = maps.get("filmgate").await.unwrap().data.unwrap();
        let here = json!({"data": {
            "filmgate.yaml": self.filmgate_settings(&shipped["filmgate.yaml"]).to_string(),
            "kube-scheduler.yaml": self.scheduler_settings(&shipped["kube-scheduler.yaml"]).to_string(),
        }});
        maps.patch("filmgate", &PatchParams::default(), &Patch::Merge(here)).await.unwrap();
    }

    /// The shipped ones, on this machine's ports.
    fn filmgate_settings(&self, shipped: &str) -> Value {
        let mut settings: Value = serde_saphyr::from_str(shipped).unwrap();
        settings["listen"] = json!({"verbs": self.verbs.address(), "metrics": self.ops.address()});
        settings["devicePlugin"] = json!({"allocation": "packed"});
        let url = format!("https://{}", self.readings.address());
        let agents = settings["agents"].as_object_mut().unwrap();
        agents.remove("endpointSlices");
        agents.insert("static".to_owned(), json!([{"node": NODE, "url": url}]));
        settings
    }

    fn scheduler_settings(&self, shipped: &str) -> Value {
        let mut settings: Value = serde_saphyr::from_str(shipped).unwrap();
        settings["extenders"][0]["urlPrefix"] = json!(format!("http://{}", self.verbs.address()));
        settings
    }

    /// Where a pod finds the API server.
    fn environment(&self) -> [Value; 2] {
        let url = self.world.cluster.api_url();
        let (host, port) = url.trim_start_matches("https://").split_once(':').unwrap();
        [
            json!({"name": "KUBERNETES_SERVICE_HOST", "value": host}),
            json!({"name": "KUBERNETES_SERVICE_PORT", "value": port}),
        ]
    }

    /// Applies what fills the shipped Secrets, and waits until it has.
    async fn run_certificates(&self) -> Pod {
        let mut deployment = workload("filmgate-certificates");
        let spec = &mut deployment.data["spec"]["template"]["spec"];
        self.put_on_loopback(spec, 0, &[("metrics", "0.0.0.0:9117", &self.certificates)]);
        apply_objects(&self.world.cluster.admin(), [deployment]).await;
        self.ready("app.kubernetes.io/name=filmgate-certificates", None).await
    }

    /// Applies the shipped DaemonSet, on a machine with this driver.
    async fn run_agent(&self, driver: Option<&StandIn>) {
        let mut daemon_set = workload("filmgate-agent");
        let spec = &mut daemon_set.data["spec"]["template"]["spec"];
        let here = [
            ("readings", "0.0.0.0:9112", &self.readings),
            ("metrics", "0.0.0.0:9113", &self.agent_metrics),
        ];
        self.put_on_loopback(spec, 0, &here);
        if let Some(driver) = driver {
            install(spec, driver);
        }
        apply_objects(&self.world.cluster.admin(), [daemon_set]).await;
    }

    /// Has a pod, whose container at that place has ports of these names and addresses, use the
    /// machine's network.
    fn put_on_loopback(&self, spec: &mut Value, at: usize, ports: &[(&str, &str, &ReservedPort)]) {
        spec["hostNetwork"] = json!(true);
        spec["terminationGracePeriodSeconds"] = json!(5);
        let container = &mut spec["containers"][at];
        assert_eq!(container["image"], IMAGE);
        for argument in container["args"].as_array_mut().unwrap() {
            let text = ports.iter().fold(argument.as_str().unwrap().to_owned(), |text, port| {
                text.replace(port.1, &port.2.address().to_string())
            });
            *argument = json!(text);
        }
        let numbered = |(name, _, port): &(&str, &str, &ReservedPort)| json!({"name": name, "containerPort": port.number()});
        container["ports"] = ports.iter().map(numbered).collect();
        for probe in ["readinessProbe", "livenessProbe"] {
            container[probe]["httpGet"]["host"] = json!("127.0.0.1");
        }
        let mut environment = container["env"].as_array().cloned().unwrap_or_default();
        environment.extend(self.environment());
        container["env"] = json!(environment);
    }

    /// Applies the shipped Deployment, once: here is one node, whose ports are one pod's.
    async fn run_extender(&self) -> Pod {
        let mut deployment = workload("filmgate");
        deployment.data["spec"]["replicas"] = json!(1);
        let spec = &mut deployment.data["spec"]["template"]["spec"];
        self.put_on_loopback(spec, 1, &[("metrics", "0.0.0.0:9111", &self.ops)]);
        // What stands for Kubernetes' own image: that program, on this machine's C library.
        let scheduler = &mut spec["containers"][0];
        scheduler["image"] = json!(IMAGE);
        scheduler["imagePullPolicy"] = json!("Never");
        scheduler["command"] = json!([
            "/kubernetes/cluster",
            "kube-scheduler",
            "--config=/etc/filmgate/kube-scheduler.yaml"
        ]);
        scheduler["args"] = json!(["--secure-port=0"]);
        scheduler["env"] = json!(self.environment());
        for key in ["livenessProbe", "readinessProbe", "ports"] {
            scheduler.as_object_mut().unwrap().remove(key);
        }
        let mounts = scheduler["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({"name": "kubernetes", "mountPath": "/kubernetes"}));
        let volumes = spec["volumes"].as_array_mut().unwrap();
        volumes.push(json!({"name": "kubernetes", "hostPath": {"path": binaries::folder()}}));
        apply_objects(&self.world.cluster.admin(), [deployment]).await;
        self.ready("app.kubernetes.io/name=filmgate", None).await
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.world.cluster.admin(), NAMESPACE)
    }

    /// Waits until one pod with that label is there, other than this one, and ready.
    async fn ready(&self, label: &str, other_than: Option<&Pod>) -> Pod {
        let what = format!("a pod with {label} ready");
        eventually(DEADLINE, &what, async || {
            let pods = self.pods().list(&ListParams::default().labels(label)).await?.items;
            let [pod] = &pods[..] else { anyhow::bail!("{} pods", pods.len()) };
            anyhow::ensure!(other_than.is_none_or(|old| old.uid() != pod.uid()), "the old one");
            anyhow::ensure!(is_ready(pod), "{:?}\n{}", pod.status, self.log_of(pod));
            Ok(pod.clone())
        })
        .await
    }

    /// What the pod's containers have written.
    fn log_of(&self, pod: &Pod) -> String {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        let folder = self.world.machine.folder().join("pod-logs");
        let folder = folder.join(format!("{NAMESPACE}_{name}_{uid}"));
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        let files = entries(&folder).flat_map(|container| entries(&container.path()));
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
    }

    async fn agent_metrics(&self) -> Metrics {
        Metrics::scrape(&format!("http://{}/metrics", self.agent_metrics.address())).await
    }
}

/// filmgate's image, of the program that the tests run.
fn pack(folder: &Path) -> PathBuf {
    let image = folder.join("filmgate.tar");
    let mut pack = Command::new(shipped("tools/image.sh"));
    let packed = pack.arg(env!("CARGO_BIN_EXE_filmgate")).arg(&image).output().unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    image
}

fn is_workload(object: &DynamicObject) -> bool {
    let kind = object.types.as_ref().map(|types| types.kind.as_str());
    matches!(kind, Some("Deployment" | "DaemonSet"))
}

/// The shipped workload of that name.
fn workload(name: &str) -> DynamicObject {
    let mut all = objects(&shipped(SIDECAR)).into_iter().filter(is_workload);
    all.find(|one| one.metadata.name.as_deref() == Some(name)).expect("a workload")
}

/// Where NVIDIA's runtime puts its driver's library into containers of Debian's.
fn install(spec: &mut Value, driver: &StandIn) {
    let folder = driver.library().parent().unwrap().to_owned();
    let libraries = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let mount = |file: &str| {
        let path = format!("{libraries}/{file}");
        json!({"name": "driver", "mountPath": path, "subPath": file, "readOnly": true})
    };
    let mounts = spec["containers"][0]["volumeMounts"].as_array_mut().unwrap();
    mounts.extend(["libnvidia-ml.so.1", "scenario.json"].map(mount));
    let volumes = spec["volumes"].as_array_mut().unwrap();
    volumes.push(json!({"name": "driver", "hostPath": {"path": folder}}));
}

fn driver() -> StandIn {
    let gpus = [0, 1].map(|index| {
        let mut own = gpu(index);
        GPUS[index as usize].clone_into(&mut own.device.uuid);
        own
    });
    StandIn::new(&machine(gpus))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

fn restarts(pod: &Pod) -> i32 {
    let containers =
        pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// The real user of filmgate's process with that subcommand.
fn user_of(subcommand: &str) -> Vec<String> {
    let begins = format!("/usr/bin/filmgate\0{subcommand}\0");
    let ours = processes().into_iter().filter(|(_, line)| line.starts_with(begins.as_bytes()));
    let status = ours.filter_map(|(pid, _)| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    let users = status.filter_map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        Some(line.split_whitespace().next()?.to_owned())
    });
    users.collect()
}

#[tokio::test]
async fn the_image_runs_as_shipped_without_a_driver_and_with_one_and_places_a_pod() {
    let Some(node) = Node::start().await else { return };
    let certificates = node.run_certificates().await;
    node.run_agent(None).await;
    let label = "app.kubernetes.io/name=filmgate-agent";
    let blind = node.ready(label, None).await;
    stays_up_without_a_driver(&node, &blind).await;

    let driver = driver();
    node.run_agent(Some(&driver)).await;
    let agent = node.ready(label, Some(&blind)).await;
    eventually(DEADLINE, "the driver read", async || {
        let up = node.agent_metrics().await.sum("filmgate_agent_driver_up", &[]);
        if up > 0.0 { Ok(()) } else { Err(node.log_of(&agent)) }
    })
    .await;

    let extender = node.run_extender().await;
    let placed = node.world.run(pod("comfyui").gpus(1).vram("4Gi").steered()).await;
    assert!(GPUS.contains(&chosen(&placed)), "{placed:?}");
    assert_eq!([user_of("extender"), user_of("certificates")], [[NONROOT]; 2]);
    assert_eq!(user_of("agent"), ["0"], "the kubelet's sockets are root's");
    for pod in [certificates, agent, extender] {
        let now = node.pods().get(&pod.name_any()).await.unwrap();
        assert_eq!((restarts(&now), is_ready(&now)), (0, true), "{}", node.log_of(&now));
    }
}

async fn stays_up_without_a_driver(node: &Node, agent: &Pod) {
    throughout(A_WHILE, async || {
        let now = node.pods().get(&agent.name_any()).await.unwrap();
        assert_eq!((restarts(&now), is_ready(&now)), (0, true), "{:?}", now.status);
    })
    .await;
    let metrics = node.agent_metrics().await;
    assert_eq!(metrics.value("filmgate_agent_driver_up", &[("node", NODE)]), Some(0.0));
    let log = node.log_of(agent);
    assert!(log.contains("NVML cannot be loaded: libnvidia-ml.so.1"), "{log}");
}
