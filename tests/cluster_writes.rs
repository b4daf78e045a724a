//! What filmgate writes to a real API server, under the rights that it ships.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use filmgate::cluster::lease::Mandate;
use filmgate::cluster::{
    self, FENCE_ANNOTATION, FENCE_LABEL, Identity, KubeWriter, NamespaceDefaults,
};
use filmgate::engine::marks::{forged, is_decision_forged};
use filmgate::engine::{Admission, Bytes, GpuAsk, HoldOutcome, NodeName, PodRef, Vram};
use filmgate::extender::writer::{BindOutcome, ClusterWriter, FenceOutcome};
use filmgate::leadership::Term;
use futures::TryStreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;

use support::cluster::Cluster;
use support::kubeconfig::User;
use support::objects::{PodBuilder, pod};
use support::proxy::FaultProxy;
use support::rights::{cluster_with_rights, filmgate_client, in_time};

const BIND_DEADLINE: Duration = Duration::from_secs(10);
const CHARGED: &str = "filmgate.dev/vram-charged";

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
    in_time(async {
        let cluster = cluster_with_rights().await;
        let writer = writer(filmgate_client(&cluster).await, "gate-0");
        the_decision_is_on_the_first_bound_version(&cluster, &writer).await;
        a_stale_version_is_tried_again(&cluster, &writer).await;
        a_pod_that_asks_for_more_is_not_bound(&cluster, &writer).await;
        another_holders_fence_stops_a_stale_binding(&cluster, &writer).await;
        another_pod_of_the_name_is_not_bound(&cluster, &writer).await;
        what_another_bound_stays(&cluster, &writer).await;
        what_was_there_before_is_written_over(&cluster, &writer).await;
    })
    .await;
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

/// A Binding's annotations replace what is there under their keys and leave the rest; and the API
/// server names no manager for them, while it does for everybody else's.
async fn what_was_there_before_is_written_over(cluster: &Cluster, writer: &KubeWriter) {
    const OTHER: &str = "filmgate.dev/gpu.other";
    let preset = gpu_pod("preset").annotation(CHARGED, "GPU-x=1").annotation(OTHER, "GPU-x");
    let created = cluster.add_pod(preset).await;
    let outcome = bind(writer, &admission(&created), "n0").await;
    assert!(matches!(outcome, BindOutcome::Bound), "{outcome:?}");
    let bound = cluster.pods().get("preset").await.unwrap();
    assert_eq!(annotation(&bound, CHARGED), Some("GPU-a=12884901888"));
    assert_eq!(annotation(&bound, OTHER), Some("GPU-x"), "so filmgate names that key too");

    let created = cluster.add_pod(gpu_pod("clean")).await;
    assert_eq!(bind(writer, &admission(&created), "n0").await, BindOutcome::Bound);
    let by_binding = writer.get(&id(&created)).await.unwrap().unwrap();
    assert!(!is_decision_forged(&by_binding, None));
    annotate(cluster, "clean", CHARGED, "GPU-a=1").await;
    let by_hand = writer.get(&id(&created)).await.unwrap().unwrap();
    assert!(is_decision_forged(&by_hand, None));
    assert_eq!(forged(&by_hand, Some(&by_binding), false), [CHARGED]);

    let created = cluster.add_pod(gpu_pod("meanwhile")).await;
    annotate(cluster, "meanwhile", OTHER, "GPU-x").await;
    let outcome = bind(writer, &admission(&created), "n0").await;
    assert!(matches!(outcome, BindOutcome::Refused(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_is_sent_only_in_the_term_that_the_lease_shows() {
    in_time(async {
        let cluster = cluster_with_rights().await;
        let leases: Api<Lease> = Api::namespaced(cluster.admin(), "filmgate");
        let client = filmgate_client(&cluster).await;
        let mandate = Mandate::new(&client, "filmgate", "filmgate-kube-scheduler");
        let writer = writer(client, "film-a").under(mandate.clone());
        let created = cluster.add_pod(gpu_pod("under-mandate")).await;
        let refused = async |why: &str| {
            let outcome = bind(&writer, &admission(&created), "n0").await;
            assert!(
                matches!(&outcome, BindOutcome::Refused(text) if text.contains(why)),
                "{outcome:?}"
            );
        };
        refused("does not lead").await;
        mandate.set(Some(Term { holder: "film-a_1".to_owned(), transitions: 3 }));
        refused("nobody holds the Lease").await;
        let lease = lease("film-a_1", 5);
        leases.create(&PostParams::default(), &lease).await.unwrap();
        refused("held by film-a_1").await;
        hold(&leases, "film-b_1", 3).await;
        refused("held by film-b_1").await;
        assert_eq!(bound_to(&cluster.pods().get("under-mandate").await.unwrap()), None);
        hold(&leases, "film-a_1", 3).await;
        assert_eq!(bind(&writer, &admission(&created), "n0").await, BindOutcome::Bound);
    })
    .await;
}

fn lease(holder: &str, transitions: i32) -> Lease {
    serde_json::from_value(json!({
        "metadata": {"name": "filmgate-kube-scheduler"},
        "spec": {
            "holderIdentity": holder, "leaseTransitions": transitions, "leaseDurationSeconds": 15,
        },
    }))
    .unwrap()
}

async fn hold(leases: &Api<Lease>, holder: &str, transitions: i32) {
    let held = json!({"spec": lease(holder, transitions).spec});
    let patch = Patch::Merge(held);
    leases.patch("filmgate-kube-scheduler", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_keeps_earlier_bindings_out() {
    in_time(async {
        let cluster = cluster_with_rights().await;
        let writer = writer(filmgate_client(&cluster).await, "gate-0");
        a_binding_on_the_wire_fails_after_the_fence(&cluster, &writer).await;
        a_bound_pod_says_so(&cluster, &writer).await;
        a_pod_without_room_for_an_annotation_is_fenced_all_the_same(&cluster, &writer).await;
        every_unbound_gpu_pod_is_fenced(&cluster, &writer).await;
    })
    .await;
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
