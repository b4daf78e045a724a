//! The verbs over TLS with a certificate on each side: the real kube-scheduler under the configuration
//! that is shipped for it.

use std::path::Path;
use std::time::Duration;

use filmgate::tls::Identity;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::authority::Authority;
use crate::support::cluster::SchedulerOptions;
use crate::support::eventually::eventually;
use crate::support::kubeconfig::User;
use crate::support::manifests::shipped;
use crate::support::objects::pod;
use crate::support::port::ReservedPort;
use crate::support::process::Process;
use crate::support::replicas::{Election, Replicas, Terms};
use crate::world::SimulatedNode;

const DEADLINE: Duration = Duration::from_secs(30);
const NAME: &str = "filmgate-extender.filmgate.svc";

struct World {
    replicas: Replicas,
    port: ReservedPort,
    extenders: Authority,
    schedulers: Authority,
    files: TempDir,
}

impl World {
    /// An extender that serves kube-schedulers elsewhere, and none.
    async fn start() -> Self {
        let files = TempDir::new().unwrap();
        let extenders = Authority::create(files.path(), "extenders");
        let schedulers = Authority::create(files.path(), "schedulers");
        let port = ReservedPort::reserve();
        let identity = extenders.issued(NAME);
        let service = json!({
            "listen": port.address(),
            "certificateFile": identity.certificate,
            "keyFile": identity.key,
            "clientCaFile": schedulers.roots(),
        });
        let settings = format!("service: {service}\n");
        let nodes = vec![SimulatedNode::new("n0", &[24])];
        let mut replicas =
            Replicas::start_with(nodes, Election::Off, Terms::SHORT, &settings).await;
        replicas.scheduler(0).kill();
        Self { replicas, port, extenders, schedulers, files }
    }

    /// The shipped configuration with this cluster's addresses and files.
    fn configuration(&self, shown: &Identity, roots: &Path) -> Value {
        let text = std::fs::read_to_string(shipped("config/kube-scheduler-service.yaml")).unwrap();
        let mut configuration: Value = serde_saphyr::from_str(&text).unwrap();
        let kubeconfig = self.replicas.cluster.kubeconfig(User::Scheduler);
        configuration["clientConnection"] = json!({"kubeconfig": kubeconfig});
        // Each is to schedule at once; the one before was killed and has not let go of the Lease.
        configuration["leaderElection"] = json!({"leaderElect": false});
        let extender = &mut configuration["extenders"][0];
        assert_eq!(extender["tlsConfig"]["serverName"], NAME);
        extender["urlPrefix"] = json!(format!("https://{}", self.port.address()));
        extender["tlsConfig"]["caFile"] = json!(roots);
        extender["tlsConfig"]["certFile"] = json!(shown.certificate);
        extender["tlsConfig"]["keyFile"] = json!(shown.key);
        configuration
    }

    fn right_configuration(&self) -> Value {
        self.configuration(&self.schedulers.issued("kube-scheduler"), &self.extenders.roots())
    }

    fn start_scheduler(&self, name: &str, configuration: &Value) -> Process {
        let config_yaml = configuration.to_string();
        let options = SchedulerOptions { config_yaml, name: name.to_owned() };
        self.replicas.cluster.start_scheduler(options)
    }

    /// Waits until kube-scheduler has written that about the pod.
    async fn is_told(&self, pod: &str, text: &str) {
        eventually(DEADLINE, &format!("{pod}: {text}"), async || {
            let pod = self.replicas.cluster.pods().get(pod).await?;
            let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            let said: Vec<_> = conditions.into_iter().filter_map(|one| one.message).collect();
            let is_said = said.iter().any(|message| message.contains(text));
            if is_said { Ok(()) } else { Err(anyhow::anyhow!("{said:?}")) }
        })
        .await;
    }

    /// How often the extender has logged that.
    fn logged(&mut self, text: &str) -> usize {
        self.replicas.extender(0).log().matches(text).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_kube_scheduler_binds_through_the_service() {
    let world = World::start().await;
    let _scheduler = world.start_scheduler("kube-scheduler-service", &world.right_configuration());
    world.replicas.cluster.add_pod(pod("ours").gpus(1).vram("8Gi").steered()).await;
    assert_eq!(world.replicas.cluster.node_of("ours").await, "n0");
    let default = pod("default").scheduler("default-scheduler").gpus(1).vram("8Gi").steered();
    world.replicas.cluster.add_pod(default).await;
    assert_eq!(world.replicas.cluster.node_of("default").await, "n0");
    for name in ["ours", "default"] {
        let pod = world.replicas.cluster.pods().get(name).await.unwrap();
        let annotations = pod.metadata.annotations.unwrap_or_default();
        assert!(annotations.contains_key("filmgate.dev/vram-charged"), "{annotations:?}");
    }
    let large = pod("large").gpus(1).vram("12Gi").steered();
    world.replicas.cluster.add_pod(large).await;
    world.is_told("large", "not enough free VRAM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kube_scheduler_that_proves_nothing_binds_nothing_and_the_log_says_why_once() {
    let mut world = World::start().await;
    world.replicas.cluster.add_pod(pod("p0").gpus(1).vram("8Gi").steered()).await;
    let roots = world.extenders.roots();
    let strangers = Authority::create(world.files.path(), "strangers");
    let stranger = strangers.issued("kube-scheduler");

    let mut without = world.right_configuration();
    let tls = without["extenders"][0]["tlsConfig"].as_object_mut().unwrap();
    tls.retain(|key, _| !["certFile", "keyFile"].contains(&&**key));
    let mut plain = world.right_configuration();
    plain["extenders"][0]["urlPrefix"] = json!(format!("http://{}", world.port.address()));
    let wrong = world.configuration(&stranger, &roots);
    let mistrusting = world.configuration(&stranger, &strangers.roots());
    for (name, configuration, says) in [
        ("without", &without, "code 401"),
        ("wrong", &wrong, "code 401"),
        ("mistrusting", &mistrusting, "certificate signed by unknown authority"),
        ("plain", &plain, "malformed HTTP response"),
    ] {
        let _scheduler = world.start_scheduler(name, configuration);
        world.is_told("p0", says).await;
    }
    assert_eq!(world.replicas.node_now("p0").await, None);
    assert_eq!(world.logged("a caller is refused: the client's certificate: no certificate"), 1);
    assert_eq!(world.logged("a caller is refused"), 1);
    assert_eq!(world.logged("no TLS handshake"), 1);

    let _scheduler = world.start_scheduler("right", &world.right_configuration());
    assert_eq!(world.replicas.cluster.node_of("p0").await, "n0");
}
