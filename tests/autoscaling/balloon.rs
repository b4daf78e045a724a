//! `deploy/autoscaling/balloon.yaml` between the real schedulers and the real controllers. The test
//! plays the node autoscaler: it adds a node when it sees a balloon that fits nowhere.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::support::cluster::SchedulerOptions;
use crate::support::eventually::{eventually, throughout};
use crate::support::kubeconfig::User;
use crate::support::manifests::{apply_objects, objects, shipped};
use crate::support::objects::{is_bound, is_refused, pod};
use crate::support::process::Process;
use crate::support::scheduler::configuration;
use crate::support::simulated::SimulatedNode;
use crate::world::{DEADLINE, World};

const BALLOON: &str = "filmgate-balloon";
/// Each node's one GPU as the device plugin offers it.
const DEVICES: u32 = 16;
/// How long filmgate leaves a balloon alone, and a pod's longest wait for another try.
const EVICTED_WITHIN: std::time::Duration = std::time::Duration::from_secs(120);

struct Site {
    world: World,
    _default_scheduler: Process,
}

/// Nodes that the node autoscaler may add.
fn new_node(name: &str) -> SimulatedNode {
    SimulatedNode::new(name, &[24]).later()
}

impl Site {
    /// A full node, nodes to come, and a default scheduler that knows nothing of filmgate.
    async fn start(to_come: &[&str]) -> Self {
        let mut nodes = vec![SimulatedNode::new("n0", &[24])];
        nodes.extend(to_come.iter().map(|name| new_node(name)));
        let world = World::start_on(nodes, "").await;
        let cluster = &world.replicas.cluster;
        let mut config = configuration(&cluster.kubeconfig(User::Scheduler), &[]);
        config["profiles"] = json!([{"schedulerName": "default-scheduler"}]);
        let name = "default-scheduler".to_owned();
        let options = SchedulerOptions { config_yaml: config.to_string(), name };
        let scheduler = cluster.start_scheduler(options);
        let site = Self { world, _default_scheduler: scheduler };
        site.film("resident").await;
        site.world.replicas.cluster.node_of("resident").await;
        site
    }

    async fn apply(&self, kinds: &[&str]) {
        let shipped = objects(&shipped("deploy/autoscaling/balloon.yaml"));
        let is_wanted = |object: &DynamicObject| {
            let kind = object.types.as_ref().map(|types| &*types.kind);
            kinds.iter().any(|wanted| Some(*wanted) == kind)
        };
        let chosen = shipped.into_iter().filter(is_wanted).map(with_devices);
        apply_objects(&self.world.replicas.cluster.admin(), chosen).await;
    }

    /// A pod that shares its GPU with none like it.
    async fn film(&self, name: &str) {
        let film = pod(name).gpus(1).vram("20Gi").steered();
        self.world.replicas.cluster.add_pod(film).await;
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.world.replicas.cluster.admin(), "filmgate")
    }

    /// Balloons that are there, also those that are about to go.
    async fn balloons(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.world.replicas.cluster.admin(), "filmgate");
        let params = ListParams::default().labels("filmgate.dev/balloon=true");
        pods.list(&params).await.unwrap().items
    }

    /// Waits until so many balloons fit nowhere, as a node autoscaler sees it.
    async fn asks_for(&self, nodes: usize) {
        eventually(DEADLINE, &format!("{nodes} balloons that fit nowhere"), async || {
            let balloons = self.balloons().await;
            let refused = balloons.iter().filter(|pod| is_refused(pod)).count();
            (refused == nodes && balloons.len() == nodes).then_some(()).ok_or(format!("{refused}"))
        })
        .await;
    }

    /// The machine is there: a Node, devices and all, without a word of its agent yet.
    async fn boot(&self, name: &str) {
        new_node(name).lost().add_to(&self.world.replicas.fleet);
        self.world.replicas.cluster.add_nodes([new_node(name).builder()]).await;
    }

    /// Its agent is up.
    fn read(&self, name: &str) {
        self.world.replicas.fleet.set_lost(name, false).unwrap();
    }

    async fn balloon_lands_on(&self, node: &str) -> String {
        eventually(DEADLINE, "a balloon on the node", async || {
            let balloons = self.balloons().await;
            let on = |pod: &&Pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(node);
            balloons.iter().find(on).and_then(ResourceExt::uid).ok_or(format!("{}", balloons.len()))
        })
        .await
    }

    async fn deflates(&self) {
        eventually(DEADLINE, "no balloon", async || {
            let replicas = self.deployments().get(BALLOON).await?.spec.replicas;
            let left = self.balloons().await.len();
            (replicas == Some(0) && left == 0)
                .then_some(())
                .ok_or_else(|| anyhow::anyhow!("{replicas:?} replicas, {left} pods"))
        })
        .await;
    }

    async fn node_now(&self, pod: &str) -> Option<String> {
        self.world.replicas.node_now(pod).await
    }

    /// By VRAM and by devices: two schedulers could give the same one away.
    async fn nothing_is_overcommitted(&self) {
        self.world.replicas.assert_no_overcommit();
        let all: Api<Pod> = Api::all(self.world.replicas.cluster.admin());
        let mut given = std::collections::BTreeMap::<String, u32>::new();
        for pod in
            all.list(&ListParams::default()).await.unwrap().items.iter().filter(|pod| is_bound(pod))
        {
            let spec = pod.spec.as_ref().unwrap();
            let limits = spec.containers[0].resources.as_ref().and_then(|one| one.limits.as_ref());
            let devices = limits.and_then(|limits| limits.get("nvidia.com/gpu"));
            *given.entry(spec.node_name.clone().unwrap()).or_default() +=
                devices.map_or(0, |devices| devices.0.parse().unwrap());
        }
        assert!(given.values().all(|devices| *devices <= DEVICES), "{given:?}");
    }

    /// Balloons that were evicted for others so far.
    async fn victims(&self) -> f64 {
        self.world.replicas.replica(0).metric("filmgate_preemption_victims_total").await.unwrap()
    }
}

/// The line of the file that its reader is told to change.
fn with_devices(mut object: DynamicObject) -> DynamicObject {
    if object.types.as_ref().is_some_and(|types| types.kind == "Deployment") {
        let container = &mut object.data["spec"]["template"]["spec"]["containers"][0];
        container["resources"]["limits"]["nvidia.com/gpu"] = json!(DEVICES.to_string());
    }
    object
}

const ALL: [&str; 3] = ["PriorityClass", "Deployment", "HorizontalPodAutoscaler"];

#[tokio::test(flavor = "multi_thread")]
async fn balloons_bring_nodes_for_who_waits_and_make_way_without_being_evicted() {
    let site = Site::start(&["n1", "n2"]).await;
    site.apply(&ALL).await;
    site.deflates().await;
    site.film("first").await;
    site.film("second").await;
    site.asks_for(2).await;

    site.boot("n1").await;
    let landed = site.balloon_lands_on("n1").await;
    throughout(std::time::Duration::from_secs(5), async || {
        let there: BTreeSet<_> =
            site.balloons().await.iter().filter_map(ResourceExt::uid).collect();
        assert!(there.contains(&landed) && there.len() == 2, "before the node can be used");
    })
    .await;
    site.read("n1");
    let placed = eventually(DEADLINE, "one of them on the new node", async || {
        for name in ["first", "second"] {
            if site.node_now(name).await.as_deref() == Some("n1") {
                return Ok(name);
            }
        }
        Err("neither")
    })
    .await;
    let other = if placed == "first" { "second" } else { "first" };

    site.asks_for(1).await;
    site.nothing_is_overcommitted().await;
    site.boot("n2").await;
    site.read("n2");
    assert_eq!(site.world.replicas.cluster.node_of(other).await, "n2");
    site.deflates().await;
    assert_eq!(site.victims().await, 0.0, "balloons that had to be evicted");
    site.nothing_is_overcommitted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balloon_that_does_not_go_is_evicted_once_and_the_next_one_makes_way() {
    let site = Site::start(&["n1"]).await;
    // Nobody scales: as where the metrics cannot be read.
    site.apply(&["PriorityClass", "Deployment"]).await;
    site.film("film").await;
    site.asks_for(1).await;
    site.boot("n1").await;
    let landed = site.balloon_lands_on("n1").await;
    site.read("n1");
    eventually(EVICTED_WITHIN, "the balloon evicted", async || {
        let uids: Vec<_> = site.balloons().await.iter().filter_map(ResourceExt::uid).collect();
        (!uids.contains(&landed)).then_some(()).ok_or(format!("{uids:?}"))
    })
    .await;
    assert_eq!(site.victims().await, 1.0);

    // The one that came in its stead may have been faster than the pod.
    site.apply(&["HorizontalPodAutoscaler"]).await;
    assert_eq!(site.world.replicas.cluster.node_of("film").await, "n1");
    site.deflates().await;
    assert_eq!(site.victims().await, 1.0);
    site.nothing_is_overcommitted().await;
}
