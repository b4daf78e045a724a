//! The optional admission policies that ship, against a real API server and people of different
//! rights.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Toleration};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client, Error};
use serde_json::{Value, json};

use support::cluster::{Cluster, ClusterOptions};
use support::eventually::eventually;
use support::kubeconfig::User;
use support::manifests::{SIDECAR, admission_in_force, apply, apply_rights, shipped};
use support::objects::{PodBuilder, node, pod};

const DEADLINE: Duration = Duration::from_secs(30);
/// Rights to everything; the policies go by the name.
const MASTERS: &[&str] = &["system:masters"];
const OWNER: &str = "owner";
const OURS: [&str; 6] = [
    "filmgate.dev/gpu",
    "filmgate.dev/gpu.main",
    "filmgate.dev/vram-charged",
    "filmgate.dev/vram-fraction",
    "filmgate.dev/fence",
    "filmgate.dev/wake",
];

#[tokio::test(flavor = "multi_thread")]
async fn only_filmgate_decides_about_gpu_pods_where_the_policies_are_in_force() {
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    cluster.add_nodes([node("n0").gpus(16)]).await;
    apply_rights(&cluster.admin(), SIDECAR).await;
    apply(&cluster.admin(), &shipped("deploy/admission.yaml")).await;
    let people = People::of(&cluster).await;
    in_force(&people.owner).await;

    its_owner_cannot_create_a_pod_with_annotations_of_filmgate(&people).await;
    nobody_but_filmgate_edits_them(&cluster, &people).await;
    a_kubelets_status_passes(&people).await;
    only_listed_schedulers_bind_and_only_filmgate_annotates(&people).await;
    only_filmgates_pods_tolerate_the_taint(&people).await;
    only_kubelets_name_the_node_of_a_gpu_pod(&people).await;
}

/// Those who talk to the API server.
struct People {
    owner: Api<Pod>,
    filmgate: Api<Pod>,
    scheduler: Api<Pod>,
    kubelet: Api<Pod>,
    owner_client: Client,
}

impl People {
    async fn of(cluster: &Cluster) -> Self {
        let as_user = async |user: &str, groups: &[&str]| cluster.client_as(user, groups).await;
        let owner_client = as_user(OWNER, MASTERS).await;
        let kubelet = as_user("system:node:n0", &["system:nodes", "system:masters"]).await;
        Self {
            owner: Api::default_namespaced(owner_client.clone()),
            filmgate: Api::default_namespaced(as_user(User::Filmgate.name(), MASTERS).await),
            scheduler: Api::default_namespaced(as_user(User::Scheduler.name(), MASTERS).await),
            kubelet: Api::default_namespaced(kubelet),
            owner_client,
        }
    }
}

/// The API server reads policies with a little delay.
async fn in_force(pods: &Api<Pod>) {
    admission_in_force(pods).await;
    eventually(DEADLINE, "the policy of Bindings in force", async || {
        match bind(pods, "probe", None).await {
            Err(Error::Api(status)) if status.code == 403 => Ok(()),
            _ => Err("a Binding passes"),
        }
    })
    .await;
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Api(status)) if status.code == 403 => status.message,
        other => panic!("{other:?}"),
    }
}

async fn create(pods: &Api<Pod>, pod: PodBuilder) -> Result<Pod, Error> {
    pods.create(&PostParams::default(), &pod.build()).await
}

async fn patch(pods: &Api<Pod>, name: &str, patch: Value) -> Result<Pod, Error> {
    pods.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

fn annotations(key: &str, value: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

fn binding(pod: &str, annotation: Option<(&str, &str)>) -> Value {
    let annotations: std::collections::BTreeMap<_, _> = annotation.into_iter().collect();
    json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod, "namespace": "default", "annotations": annotations},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n0"},
    })
}

async fn bind(
    pods: &Api<Pod>,
    pod: &str,
    annotation: Option<(&str, &str)>,
) -> Result<Status, Error> {
    let parameters = PostParams::default();
    pods.create_subresource("binding", pod, &parameters, &binding(pod, annotation)).await
}

async fn its_owner_cannot_create_a_pod_with_annotations_of_filmgate(people: &People) {
    for key in OURS {
        let refused = refusal(create(&people.owner, pod("forged").annotation(key, "x")).await);
        assert!(refused.ends_with(&format!("only filmgate writes {key}")), "{refused}");
    }
    create(&people.owner, pod("p0").gpus(1).vram("4Gi")).await.unwrap();
    let labelled = pod("forged").label("filmgate.dev/fence", "5.0");
    let refused = refusal(create(&people.owner, labelled).await);
    assert!(refused.contains("the label filmgate.dev/fence"), "{refused}");
}

async fn nobody_but_filmgate_edits_them(cluster: &Cluster, people: &People) {
    let admin = cluster.pods();
    for key in OURS {
        patch(&people.filmgate, "p0", annotations(key, Some("x"))).await.unwrap();
        for pods in [&people.owner, &admin, &people.kubelet, &people.scheduler] {
            refusal(patch(pods, "p0", annotations(key, Some("y"))).await);
            refusal(patch(pods, "p0", annotations(key, None)).await);
            let status = Patch::Merge(annotations(key, Some("y")));
            refusal(pods.patch_status("p0", &PatchParams::default(), &status).await);
        }
    }
    patch(&people.owner, "p0", annotations("filmgate.dev/vram", Some("5Gi"))).await.unwrap();
    patch(&people.owner, "p0", json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    let fence = json!({"metadata": {"labels": {"filmgate.dev/fence": "5.0"}}});
    refusal(patch(&people.owner, "p0", fence.clone()).await);
    patch(&people.filmgate, "p0", fence).await.unwrap();
}

async fn a_kubelets_status_passes(people: &People) {
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    let params = PatchParams::default();
    let patched = people.kubelet.patch_status("p0", &params, &running).await.unwrap();
    assert_eq!(patched.status.unwrap().phase.as_deref(), Some("Running"));
}

async fn only_listed_schedulers_bind_and_only_filmgate_annotates(people: &People) {
    create(&people.owner, pod("p1").gpus(1)).await.unwrap();
    let decision = Some(("filmgate.dev/vram-charged", "GPU-a=1"));
    let refused = refusal(bind(&people.owner, "p1", None).await);
    assert!(refused.contains("owner is none of the schedulers"), "{refused}");
    refusal(bind(&people.kubelet, "p1", None).await);
    refusal(bind(&people.scheduler, "p1", decision).await);
    let older = axum::http::Request::post("/api/v1/namespaces/default/bindings")
        .header("content-type", "application/json")
        .body(binding("p1", decision).to_string().into_bytes())
        .unwrap();
    refusal(people.owner_client.request::<Status>(older).await);
    bind(&people.filmgate, "p1", decision).await.unwrap();

    create(&people.owner, pod("p2").scheduler("default-scheduler")).await.unwrap();
    bind(&people.scheduler, "p2", None).await.unwrap();
}

async fn only_filmgates_pods_tolerate_the_taint(people: &People) {
    let create = async |pod: PodBuilder| create(&people.owner, pod).await;
    let theirs = |name: &str| pod(name).scheduler("default-scheduler");
    let managed = Some("filmgate.dev/managed");
    for key in [managed, None] {
        let refused = refusal(create(theirs("t0").gpus(1).tolerates(key)).await);
        assert!(refused.contains("must have schedulerName filmgate"), "{refused}");
    }
    create(theirs("other-taint").gpus(1).tolerates(Some("example.com/x"))).await.unwrap();
    create(theirs("no-gpu").tolerates(None)).await.unwrap();
    create(theirs("zero-gpus").gpus(0).tolerates(None)).await.unwrap();
    create(pod("ours").gpus(1).tolerates(managed)).await.unwrap();
    let balloon = || theirs("b0").gpus(1).tolerates(managed).label("filmgate.dev/balloon", "true");
    let refused = refusal(create(balloon()).await);
    assert!(refused.contains("must have schedulerName filmgate"), "anybody's balloon: {refused}");
    let in_filmgate: Api<Pod> = Api::namespaced(people.owner_client.clone(), "filmgate");
    in_filmgate.create(&PostParams::default(), &balloon().build()).await.unwrap();

    let mut more = people.owner.get("other-taint").await.unwrap();
    let everything = Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() };
    more.spec.as_mut().unwrap().tolerations.as_mut().unwrap().push(everything);
    let params = PostParams::default();
    let refused = refusal(people.owner.replace("other-taint", &params, &more).await);
    assert!(refused.contains("must have schedulerName filmgate"), "{refused}");
}

async fn only_kubelets_name_the_node_of_a_gpu_pod(people: &People) {
    for theirs in [pod("pinned").gpus(1), pod("pinned").gpus(1).scheduler("default-scheduler")] {
        let refused = refusal(create(&people.owner, theirs.pinned_to("n0")).await);
        assert!(refused.contains("must not name its node"), "{refused}");
    }
    create(&people.owner, pod("pinned-without").pinned_to("n0")).await.unwrap();
    create(&people.kubelet, pod("mirror").gpus(1).pinned_to("n0")).await.unwrap();
}
