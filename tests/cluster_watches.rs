//! What filmgate hears from a real API server, and what it tells waiting pods, under the rights that
//! it ships.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use filmgate::cluster::pod::DefaultVram;
use filmgate::cluster::{
    self, ClusterEvents, Identity, KubeWriter, NamespaceDefaults, WAKE_ANNOTATION, Watching,
};
use filmgate::engine::{Bytes, NodeFacts, NodeName, PodFacts, PodRef, PodUid};
use filmgate::extender::writer::{ClusterWriter, WriteCounts};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, WatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

use support::cluster::Cluster;
use support::eventually::eventually;
use support::objects::{node, pod};
use support::rights::{cluster_with_rights, filmgate_client, in_time};

const DEADLINE: Duration = Duration::from_secs(30);

/// What a sink was told, one at a time.
#[derive(Debug)]
enum Told {
    PodsListed(Vec<PodFacts>),
    Pod(Box<PodFacts>),
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
        self.tell(Told::Pod(Box::new(pod)));
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
    fn namespace_default(&self, namespace: &str, _default: Option<DefaultVram>) {
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
    in_time(async {
        let mut cluster = cluster_with_rights().await;
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
        let watching = watching.unwrap();
        let fenced = the_first_lists_are_whole(&mut told);
        assert_ne!(
            *fenced.resource_version,
            *waiting.metadata.resource_version.as_deref().unwrap()
        );

        a_changed_default_is_heard(&cluster, &mut told).await;
        a_list_that_was_asked_for_is_heard(&cluster, &watching, &mut told).await;
        nodes_come_and_go(&cluster, &mut told).await;
        a_wake_moves_the_pod_alone(&cluster, &writer, &fenced.id, &mut told).await;
        a_refusal_becomes_an_event(&cluster, &writer, &fenced.id).await;
        agents_can_be_looked_for(client).await;

        cluster.restart_api_server().await;
        cluster.pods().delete("waiting", &DeleteParams::default()).await.unwrap();
        // Where the API server that came back does not know how old our news are, a list says it.
        let is_it = |pod: &PodUid| *pod == fenced.id.uid;
        let gone = |heard| match heard {
            Told::PodDeleted(pod) => is_it(&pod).then_some(()),
            Told::PodsListed(pods) => (!pods.iter().any(|pod| is_it(&pod.id.uid))).then_some(()),
            _ => None,
        };
        hear(&mut told, "a deletion after the API server came back", gone).await;
    })
    .await;
}

async fn agents_can_be_looked_for(client: Client) {
    let own: Api<EndpointSlice> = Api::namespaced(client.clone(), "filmgate");
    own.list(&ListParams::default()).await.unwrap();
    let _watch = own.watch(&WatchParams::default(), "0").await.unwrap();
    let elsewhere: Api<EndpointSlice> = Api::default_namespaced(client);
    let refused = elsewhere.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
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

/// It shows what was there when it was asked for.
async fn a_list_that_was_asked_for_is_heard(
    cluster: &Cluster,
    watching: &Watching,
    told: &mut mpsc::UnboundedReceiver<Told>,
) {
    let young = cluster.add_pod(pod("young").gpus(1)).await.metadata.uid.unwrap();
    watching.relists().pods().await.unwrap();
    let mut heard = std::iter::from_fn(|| told.try_recv().ok());
    let is_listed = |heard| match heard {
        Told::PodsListed(pods) => pods.iter().any(|pod| pod.id.uid.as_str() == young),
        _ => false,
    };
    assert!(heard.any(is_listed), "told before the call returns");
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
    assert!(now.metadata.annotations.unwrap().contains_key(WAKE_ANNOTATION));
    assert_eq!(cluster.pods().get("plain").await.unwrap(), before);
    one_was_sent(|| writer.side_writes().unwrap_or_default().wakes).await;
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
    one_was_sent(|| writer.side_writes().unwrap_or_default().events).await;
}

/// The API server's answer may come after what it did is seen.
async fn one_was_sent(counts: impl Fn() -> WriteCounts) {
    eventually(DEADLINE, "one write counted", async || match counts() {
        WriteCounts { sent: 1, failed: 0, dropped: 0 } => Ok(()),
        others => Err(format!("{others:?}")),
    })
    .await;
}
