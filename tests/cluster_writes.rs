//! What filmgate writes to a real API server and hears from it, under the rights that it ships.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use filmgate::cluster::{
    self, ClusterEvents, FENCE_ANNOTATION, FENCE_LABEL, Identity, KubeWriter, NamespaceDefaults,
    WAKE_ANNOTATION, WriteCounts,
};
use filmgate::engine::{
    Admission, Bytes, GpuAsk, HoldOutcome, NodeFacts, NodeName, PodFacts, PodRef, PodUid, Vram,
};
use filmgate::extender::writer::{BindOutcome, ClusterWriter, FenceOutcome};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSchedulingGate};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

use support::cluster::{Cluster, ClusterOptions};
use support::eventually::eventually;
use support::kubeconfig::User;
use support::manifests::{apply, shipped};
use support::objects::{PodBuilder, node, pod};
use support::proxy::FaultProxy;

const DEADLINE: Duration = Duration::from_secs(30);
const BIND_DEADLINE: Duration = Duration::from_secs(10);
const CHARGED: &str = "filmgate.dev/vram-charged";

/// A control plane in which filmgate has the rights that it ships with.
async fn start_cluster() -> Cluster {
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    apply(&cluster.admin(), &shipped("deploy/rbac.yaml")).await;
    let pods: Api<Pod> = Api::all(filmgate_client(&cluster).await);
    eventually(DEADLINE, "the rights in force", async || pods.list(&ListParams::default()).await)
        .await;
    cluster
}

async fn filmgate_client(cluster: &Cluster) -> Client {
    cluster::connect(Some(&cluster.kubeconfig(User::Filmgate))).await.unwrap()
}

fn writer(client: Client, holder: &str) -> KubeWriter {
    let defaults = Arc::new(NamespaceDefaults::new(None));
    KubeWriter::start(client, Arc::new(Identity::new(holder)), defaults)
}

fn gpu_pod(name: &str) -> PodBuilder {
    pod(name).gpus(1).vram("12Gi")
}

fn id(pod: &Pod) -> PodRef {
    PodRef {
        namespace: "default".into(),
        name: pod.metadata.name.as_deref().unwrap().into(),
        uid: pod.metadata.uid.as_deref().unwrap().into(),
    }
}

/// As the ledger admits the pod in the state that it was created in.
fn admission(pod: &Pod) -> Admission {
    Admission {
        pod: id(pod),
        resource_version: pod.metadata.resource_version.as_deref().unwrap().into(),
        ask: Some(GpuAsk::unsteered(1, Vram::Declared(Bytes::gib(12)))),
        annotations: vec![(CHARGED.to_owned(), "GPU-a=12884901888".to_owned())],
        hold: HoldOutcome::Used,
    }
}

async fn bind(writer: &KubeWriter, admission: &Admission, node: &str) -> BindOutcome {
    writer.bind(admission, &NodeName::from(node), BIND_DEADLINE).await
}

async fn annotate(cluster: &Cluster, pod: &str, key: &str, value: &str) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
    cluster.pods().patch(pod, &PatchParams::default(), &patch).await.unwrap();
}

fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn bound_to(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_takes_place_once_and_only_for_the_pod_that_was_admitted() {
    let cluster = start_cluster().await;
    let writer = writer(filmgate_client(&cluster).await, "gate-0");
    the_decision_is_on_the_first_bound_version(&cluster, &writer).await;
    a_stale_version_is_tried_again(&cluster, &writer).await;
    a_pod_that_asks_for_more_is_not_bound(&cluster, &writer).await;
    another_holders_fence_stops_a_stale_binding(&cluster, &writer).await;
    another_pod_of_the_name_is_not_bound(&cluster, &writer).await;
    what_another_bound_stays(&cluster, &writer).await;
}

async fn the_decision_is_on_the_first_bound_version(cluster: &Cluster, writer: &KubeWriter) {
    let created = cluster.add_pod(gpu_pod("decided")).await;
    let config = watcher::Config::default().fields("metadata.name=decided");
    let mut seen = Box::pin(watcher(cluster.pods(), config).touched_objects());
    seen.try_next().await.unwrap();

    assert_eq!(bind(writer, &admission(&created), "n0").await, BindOutcome::Bound);
    let bound = loop {
        let version = seen.try_next().await.unwrap().unwrap();
        if bound_to(&version).is_some() {
            break version;
        }
    };
    assert_eq!(bound_to(&bound), Some("n0"));
    assert_eq!(annotation(&bound, CHARGED), Some("GPU-a=12884901888"));
    assert_eq!(annotation(&bound, "filmgate.dev/vram"), Some("12Gi"));
    let facts = writer.get(&id(&created)).await.unwrap().unwrap();
    assert_eq!(facts.decision.unwrap().charged, [("GPU-a".into(), Bytes::gib(12))]);
}

async fn a_stale_version_is_tried_again(cluster: &Cluster, writer: &KubeWriter) {
    let created = cluster.add_pod(gpu_pod("stale")).await;
    annotate(cluster, "stale", "example.com/note", "written meanwhile").await;
    assert_eq!(bind(writer, &admission(&created), "n0").await, BindOutcome::Bound);
    assert_eq!(cluster.node_of("stale").await, "n0");
}

async fn a_pod_that_asks_for_more_is_not_bound(cluster: &Cluster, writer: &KubeWriter) {
    let created = cluster.add_pod(gpu_pod("hungrier")).await;
    annotate(cluster, "hungrier", "filmgate.dev/vram", "20Gi").await;
    let outcome = bind(writer, &admission(&created), "n0").await;
    assert!(matches!(outcome, BindOutcome::Refused(_)), "{outcome:?}");
}

async fn another_holders_fence_stops_a_stale_binding(cluster: &Cluster, own: &KubeWriter) {
    let created = cluster.add_pod(gpu_pod("taken-over")).await;
    let other = writer(filmgate_client(cluster).await, "gate-1");
    let fenced = other.fence(&id(&created)).await;
    assert!(matches!(fenced, FenceOutcome::Unbound(_)), "{fenced:?}");
    let outcome = bind(own, &admission(&created), "n0").await;
    assert!(matches!(outcome, BindOutcome::Refused(_)), "{outcome:?}");
}

async fn another_pod_of_the_name_is_not_bound(cluster: &Cluster, writer: &KubeWriter) {
    let first = cluster.add_pod(gpu_pod("again")).await;
    cluster.pods().delete("again", &DeleteParams::default()).await.unwrap();
    let gone = bind(writer, &admission(&first), "n0").await;
    assert!(matches!(gone, BindOutcome::Superseded(_)), "{gone:?}");
    let second = cluster.add_pod(gpu_pod("again")).await;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    let other = bind(writer, &admission(&first), "n0").await;
    assert!(matches!(other, BindOutcome::Superseded(_)), "{other:?}");
    assert_eq!(writer.fence(&id(&first)).await, FenceOutcome::Gone);
    assert_eq!(bound_to(&cluster.pods().get("again").await.unwrap()), None);
}

async fn what_another_bound_stays(cluster: &Cluster, writer: &KubeWriter) {
    let created = cluster.add_pod(gpu_pod("elsewhere")).await;
    let other = Admission { annotations: Vec::new(), ..admission(&created) };
    assert_eq!(bind(writer, &other, "n0").await, BindOutcome::Bound);
    for node in ["n0", "n1"] {
        let outcome = bind(writer, &admission(&created), node).await;
        assert!(matches!(outcome, BindOutcome::Superseded(_)), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_keeps_earlier_bindings_out() {
    let cluster = start_cluster().await;
    let writer = writer(filmgate_client(&cluster).await, "gate-0");
    a_binding_on_the_wire_fails_after_the_fence(&cluster, &writer).await;
    a_bound_pod_says_so(&cluster, &writer).await;
    a_pod_without_room_for_an_annotation_is_fenced_all_the_same(&cluster, &writer).await;
    every_unbound_gpu_pod_is_fenced(&cluster, &writer).await;
}

async fn a_binding_on_the_wire_fails_after_the_fence(cluster: &Cluster, own: &KubeWriter) {
    let created = cluster.add_pod(gpu_pod("in-flight")).await;
    let proxy = FaultProxy::start(&cluster.kubeconfig(User::Filmgate), cluster.folder()).await;
    proxy.hold_bindings(true);
    let earlier = writer(cluster::connect(Some(proxy.kubeconfig())).await.unwrap(), "gate-0");
    let (admission, node) = (admission(&created), NodeName::from("n0"));
    let outcome = earlier.bind(&admission, &node, Duration::from_secs(1)).await;
    assert!(matches!(outcome, BindOutcome::Unknown(_)), "{outcome:?}");
    assert_eq!(proxy.held(), ["in-flight"]);

    let FenceOutcome::Unbound(facts) = own.fence(&admission.pod).await else {
        panic!("bound while its Binding is held back");
    };
    assert_eq!(proxy.release("in-flight").await, 409);
    let again = Admission { resource_version: facts.resource_version, ..admission };
    assert_eq!(bind(own, &again, "n1").await, BindOutcome::Bound);
}

async fn a_bound_pod_says_so(cluster: &Cluster, writer: &KubeWriter) {
    let created = cluster.add_pod(gpu_pod("bound")).await;
    assert_eq!(bind(writer, &admission(&created), "n0").await, BindOutcome::Bound);
    let FenceOutcome::Bound(facts) = writer.fence(&id(&created)).await else {
        panic!("the fence does not see the Binding");
    };
    assert_eq!(facts.node, Some("n0".into()));
    assert_eq!(facts.decision.unwrap().charged, [("GPU-a".into(), Bytes::gib(12))]);
}

async fn a_pod_without_room_for_an_annotation_is_fenced_all_the_same(
    cluster: &Cluster,
    writer: &KubeWriter,
) {
    const ROOM: usize = 256 << 10;
    let key = "example.com/notes";
    let full = pod("full").gpus(1).annotation(key, &"x".repeat(ROOM - key.len()));
    let created = cluster.add_pod(full).await;
    let fenced = writer.fence(&id(&created)).await;
    assert!(matches!(fenced, FenceOutcome::Unbound(_)), "{fenced:?}");
    let now = cluster.pods().get("full").await.unwrap();
    assert!(now.metadata.labels.unwrap().contains_key(FENCE_LABEL));
    assert_ne!(now.metadata.resource_version, created.metadata.resource_version);
}

async fn every_unbound_gpu_pod_is_fenced(cluster: &Cluster, own: &KubeWriter) {
    cluster.add_pod(pod("plain")).await;
    cluster.add_pod(gpu_pod("waiting")).await;
    let mut gated = gpu_pod("gated").build();
    let gate = PodSchedulingGate { name: "example.com/later".to_owned() };
    gated.spec.as_mut().unwrap().scheduling_gates = Some(vec![gate]);
    cluster.pods().create(&PostParams::default(), &gated).await.unwrap();

    let restarted = writer(filmgate_client(cluster).await, "gate-0");
    assert_eq!(restarted.fence_unbound().await, 2, "full and waiting");
    let fence = async |name| {
        let pod = cluster.pods().get(name).await.unwrap();
        annotation(&pod, FENCE_ANNOTATION).map(str::to_owned)
    };
    assert!(fence("waiting").await.unwrap().starts_with("gate-0/"));
    assert_eq!((fence("plain").await, fence("gated").await), (None, None));
    let FenceOutcome::Bound(_) = own.fence(&id(&cluster.pods().get("bound").await.unwrap())).await
    else {
        panic!("a bound pod was unbound");
    };
}

/// What a sink was told, one at a time.
#[derive(Debug)]
enum Told {
    PodsListed(Vec<PodFacts>),
    Pod(PodFacts),
    PodDeleted(PodUid),
    NodesListed(Vec<NodeFacts>),
    Node(NodeFacts),
    NodeDeleted(NodeName),
    Default(String),
}

struct Sink(mpsc::UnboundedSender<Told>);

impl Sink {
    fn tell(&self, told: Told) {
        // The test that listened is over.
        let _ = self.0.send(told);
    }
}

impl ClusterEvents for Sink {
    fn pods_listed(&self, pods: Vec<PodFacts>) {
        self.tell(Told::PodsListed(pods));
    }
    fn pod(&self, pod: PodFacts) {
        self.tell(Told::Pod(pod));
    }
    fn pod_deleted(&self, pod: PodUid, _last: Option<PodFacts>) {
        self.tell(Told::PodDeleted(pod));
    }
    fn nodes_listed(&self, nodes: Vec<NodeFacts>) {
        self.tell(Told::NodesListed(nodes));
    }
    fn node(&self, node: NodeFacts) {
        self.tell(Told::Node(node));
    }
    fn node_deleted(&self, node: NodeName) {
        self.tell(Told::NodeDeleted(node));
    }
    fn namespace_default(
        &self,
        namespace: &str,
        _default: Option<filmgate::cluster::pod::DefaultVram>,
    ) {
        self.tell(Told::Default(namespace.to_owned()));
    }
}

/// Listens until something is heard that `pick` takes.
async fn hear<T>(
    told: &mut mpsc::UnboundedReceiver<Told>,
    what: &str,
    mut pick: impl FnMut(Told) -> Option<T>,
) -> T {
    let listen = async {
        loop {
            let heard = told.recv().await.expect("the watches go on");
            if let Some(picked) = pick(heard) {
                return picked;
            }
        }
    };
    tokio::time::timeout(DEADLINE, listen).await.unwrap_or_else(|_| panic!("never heard: {what}"))
}

fn vram_of(facts: &PodFacts) -> Option<Bytes> {
    facts.ask.as_ref().ok()?.most_per_gpu()
}

#[tokio::test(flavor = "multi_thread")]
async fn hears_of_everything_there_is_and_of_every_change() {
    let mut cluster = start_cluster().await;
    cluster
        .add_nodes([node("n0"), node("n1").label("nvidia.com/gpu.sharing-strategy", "mps")])
        .await;
    cluster.add_pod(pod("plain")).await;
    let waiting = cluster.add_pod(pod("waiting").gpus(1)).await;
    let client = filmgate_client(&cluster).await;
    let defaults = Arc::new(NamespaceDefaults::new(Some(Bytes::gib(4))));
    let identity = Arc::new(Identity::new("gate-0"));
    let writer = KubeWriter::start(client.clone(), identity, defaults.clone());

    let (sender, mut told) = mpsc::unbounded_channel();
    let watching = cluster::start(&client, &writer, Arc::new(Sink(sender)), defaults).await;
    let _watching = watching.unwrap();
    let fenced = the_first_lists_are_whole(&mut told);
    assert_ne!(*fenced.resource_version, *waiting.metadata.resource_version.as_deref().unwrap());

    a_changed_default_is_heard(&cluster, &mut told).await;
    nodes_come_and_go(&cluster, &mut told).await;
    a_wake_moves_the_pod_alone(&cluster, &writer, &fenced.id, &mut told).await;
    a_refusal_becomes_an_event(&cluster, &writer, &fenced.id).await;
    let slices: Api<EndpointSlice> = Api::all(client.clone());
    slices.list(&ListParams::default()).await.unwrap();

    cluster.restart_api_server().await;
    cluster.pods().delete("waiting", &DeleteParams::default()).await.unwrap();
    let gone = |heard| matches!(heard, Told::PodDeleted(uid) if uid == fenced.id.uid).then_some(());
    hear(&mut told, "a deletion after the API server came back", gone).await;
}

/// The pod in them, which asks for a GPU.
fn the_first_lists_are_whole(told: &mut mpsc::UnboundedReceiver<Told>) -> PodFacts {
    let (mut pods, mut nodes) = (Vec::new(), Vec::new());
    while let Ok(heard) = told.try_recv() {
        match heard {
            Told::PodsListed(listed) => pods = listed,
            Told::NodesListed(listed) => nodes = listed,
            _ => {}
        }
    }
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    let seen: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.is_mps)).collect();
    assert_eq!(seen, [("n0", false), ("n1", true)]);
    let [pod] = pods.try_into().expect("one pod with a GPU");
    assert_eq!((&*pod.id.name, vram_of(&pod)), ("waiting", Some(Bytes::gib(4))));
    pod
}

async fn a_changed_default_is_heard(cluster: &Cluster, told: &mut mpsc::UnboundedReceiver<Told>) {
    let namespaces: Api<Namespace> = Api::all(cluster.admin());
    let patch = json!({"metadata": {"annotations": {"filmgate.dev/default-vram": "8Gi"}}});
    let patch = Patch::Merge(patch);
    namespaces.patch("default", &PatchParams::default(), &patch).await.unwrap();
    let default = |heard| matches!(heard, Told::Default(name) if name == "default").then_some(());
    hear(told, "the namespace's new default", default).await;
    let eight = |heard| match heard {
        Told::Pod(pod) => (vram_of(&pod) == Some(Bytes::gib(8))).then_some(()),
        _ => None,
    };
    hear(told, "the pod under its namespace's new default", eight).await;
}

async fn nodes_come_and_go(cluster: &Cluster, told: &mut mpsc::UnboundedReceiver<Told>) {
    cluster.add_nodes([node("n2")]).await;
    let came =
        |heard| matches!(heard, Told::Node(node) if node.name.as_str() == "n2").then_some(());
    hear(told, "a new node", came).await;
    cluster.nodes().delete("n2", &DeleteParams::default()).await.unwrap();
    let went =
        |heard| matches!(heard, Told::NodeDeleted(name) if name.as_str() == "n2").then_some(());
    hear(told, "a node that went", went).await;
}

async fn a_wake_moves_the_pod_alone(
    cluster: &Cluster,
    writer: &KubeWriter,
    waiting: &PodRef,
    told: &mut mpsc::UnboundedReceiver<Told>,
) {
    let before = cluster.pods().get("plain").await.unwrap();
    writer.wake(waiting);
    let woken = |heard| match heard {
        Told::Pod(pod) if pod.id == *waiting => Some(pod.resource_version),
        _ => None,
    };
    hear(told, "the woken pod", woken).await;
    let now = cluster.pods().get("waiting").await.unwrap();
    assert!(annotation(&now, WAKE_ANNOTATION).is_some());
    assert_eq!(cluster.pods().get("plain").await.unwrap(), before);
    one_was_sent(|| writer.wake_counts()).await;
}

async fn a_refusal_becomes_an_event(cluster: &Cluster, writer: &KubeWriter, waiting: &PodRef) {
    let message = "asked 12.0 GiB (declared); most free: 9.2 of 23.6 GiB on n0 GPU 1";
    writer.report_refusal(waiting, message.to_owned());
    writer.report_refusal(waiting, message.to_owned());
    let events: Api<Event> = Api::default_namespaced(cluster.admin());
    let about_pod = ListParams::default().fields("regarding.name=waiting");
    let event = eventually(DEADLINE, "an event on the pod", async || {
        let found = events.list(&about_pod).await?.items;
        found.into_iter().next().ok_or_else(|| anyhow::anyhow!("none"))
    })
    .await;
    assert_eq!(event.note.as_deref(), Some(message));
    assert_eq!(event.reporting_controller.as_deref(), Some("filmgate.dev/filmgate"));
    one_was_sent(|| writer.event_counts()).await;
}

/// The API server's answer may come after what it did is seen.
async fn one_was_sent(counts: impl Fn() -> WriteCounts) {
    eventually(DEADLINE, "one write counted", async || match counts() {
        WriteCounts { sent: 1, failed: 0, dropped: 0 } => Ok(()),
        others => Err(format!("{others:?}")),
    })
    .await;
}
