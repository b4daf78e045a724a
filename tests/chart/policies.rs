//! The chart's admission policies on a real API server: filmgate is held to its word, and pods in managed
//! namespaces say what they need.

use std::time::Duration;

use filmgate::cluster::pod::facts;
use filmgate::engine::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Error};
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, ClusterOptions};
use crate::support::eventually::eventually;
use crate::support::helm::rendered;
use crate::support::kubeconfig::User;
use crate::support::manifests::{apply_objects, namespace, objects_of, shipped};
use crate::support::objects::pod;

const DEADLINE: Duration = Duration::from_secs(30);
const FILM: &str = "film";
const MANAGED: (&str, &str) = ("filmgate.dev/managed", "");

fn refusal<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Api(status)) if [403, 422].contains(&status.code) => status.message,
        other => panic!("{other:?}"),
    }
}

/// A cluster with what the chart renders of its admission policies; `None` where there is no helm.
async fn cluster_with(arguments: &[&str]) -> Option<Cluster> {
    let rendered = rendered(arguments)?.unwrap();
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    apply_objects(&cluster.admin(), [namespace(FILM, &[MANAGED])]).await;
    let policies = objects_of(&rendered).into_iter().filter(|object| {
        object.types.as_ref().is_some_and(|types| types.kind.contains("AdmissionPolicy"))
    });
    apply_objects(&cluster.admin(), policies).await;
    Some(cluster)
}

async fn patched(pods: &Api<Pod>, patch: Value) -> Result<Pod, Error> {
    pods.patch("p0", &PatchParams::default(), &Patch::Merge(patch)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn filmgate_changes_its_own_annotations_of_a_pod_and_nothing_else() {
    let Some(cluster) = cluster_with(&[]).await else { return };
    let mut tenant =
        pod("p0").gpus(1).vram("4Gi").annotation("owner", "a").label("app", "x").build();
    tenant.metadata.finalizers = Some(vec!["example.com/kept".to_owned()]);
    cluster.pods().create(&PostParams::default(), &tenant).await.unwrap();
    let client = cluster.client_as(User::Filmgate.name(), &["system:masters"]).await;
    let pods: Api<Pod> = Api::default_namespaced(client);
    eventually(DEADLINE, "the policy in force", async || {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let image = json!({"metadata": {"annotations": {"owner": "b"}}});
        match pods.patch("p0", &dry_run, &Patch::Merge(image)).await {
            Err(_) => Ok(()),
            Ok(_) => Err("a write passes"),
        }
    })
    .await;

    let meta = |key: &str, value: Value| json!({"metadata": {key: value}});
    for own in [
        meta("annotations", json!({"filmgate.dev/fence": "1", "filmgate.dev/wake": "2"})),
        meta("annotations", json!({"filmgate.dev/wake": null})),
        meta("labels", json!({"filmgate.dev/fence": "1"})),
        meta("labels", json!({"filmgate.dev/fence": null})),
    ] {
        patched(&pods, own.clone()).await.unwrap_or_else(|error| panic!("{own}: {error}"));
    }
    let image = json!({"spec": {"containers": [{"name": "main", "image": "evil"}]}});
    let strategic = Patch::Strategic(image);
    let refused = refusal(pods.patch("p0", &PatchParams::default(), &strategic).await);
    assert!(refused.contains("no pod's spec"), "{refused}");
    for (others, why) in [
        (meta("annotations", json!({"owner": "b"})), "its own annotations"),
        (meta("annotations", json!({"owner": null})), "its own annotations"),
        (meta("annotations", json!({"new": "b"})), "its own annotations"),
        (meta("labels", json!({"app": "y"})), "no label but its fence"),
        (meta("labels", json!({"app": null})), "no label but its fence"),
        (meta("finalizers", json!(null)), "finalizers"),
    ] {
        let refused = refusal(patched(&pods, others.clone()).await);
        assert!(refused.contains(why), "{others}: {refused}");
    }
    // Others are not held to it.
    patched(&cluster.pods(), meta("labels", json!({"app": "y"}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_pod_of_a_managed_namespace_says_what_it_needs() {
    let Some(cluster) = cluster_with(&["--set=admission.podRules=true"]).await else { return };
    let pods: Api<Pod> = Api::namespaced(cluster.admin(), FILM);
    let create = async |builder: crate::support::objects::PodBuilder| {
        let mut pod = builder.build();
        pod.metadata.namespace = Some(FILM.to_owned());
        pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await
    };
    eventually(DEADLINE, "the policy in force", async || match create(pod("p").gpus(1)).await {
        Err(_) => Ok(()),
        Ok(_) => Err("a pod passes"),
    })
    .await;

    let elsewhere = create(pod("p").gpus(1).vram("4Gi").scheduler("default-scheduler")).await;
    let refused = refusal(elsewhere);
    assert!(refused.contains("write schedulerName: filmgate into its spec"), "{refused}");
    assert!(refused.contains("which has default-scheduler"), "{refused}");
    let refused = refusal(create(pod("p").gpus(1)).await);
    assert!(refused.contains("filmgate.dev/vram: 12Gi"), "{refused}");
    for wrong in ["12", "12GB", "-4Gi", "0", "1e9", "much", "500m", "63Mi", ""] {
        let refused = refusal(create(pod("p").gpus(1).vram(wrong)).await);
        assert!(refused.contains("filmgate.dev/vram: "), "{wrong}: {refused}");
        assert!(refused.contains("write for example 12Gi"), "{wrong}: {refused}");
    }
    for right in ["12Gi", "64Mi", "1.5G", "8589934592", "67108864"] {
        create(pod("p").gpus(1).vram(right)).await.unwrap();
    }
    create(pod("p").gpus(1).annotation("filmgate.dev/vram.main", "4Gi")).await.unwrap();
    create(pod("p").scheduler("default-scheduler")).await.unwrap();

    let mut example = example();
    example.metadata.namespace = Some(FILM.to_owned());
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    pods.create(&dry_run, &example).await.unwrap();

    by_its_namespace(&cluster.admin()).await;
    eventually(DEADLINE, "the namespace's default", async || create(pod("p").gpus(1)).await).await;
}

/// The pod that is shipped to start from.
fn example() -> Pod {
    let text = std::fs::read_to_string(shipped("config/pod-example.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn the_example_is_a_steered_pod_that_says_what_it_needs() {
    let ask = facts(&example(), None).unwrap().ask.unwrap();
    assert!(ask.is_steered());
    assert_eq!(ask.most_per_gpu(), Some(Bytes::gib(12)));
}

async fn by_its_namespace(admin: &Client) {
    let mut managed = namespace(FILM, &[MANAGED]);
    managed.metadata.annotations =
        Some([("filmgate.dev/default-vram".to_owned(), "8Gi".to_owned())].into());
    apply_objects(admin, [managed]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_pod_of_a_managed_namespace_gets_scheduler_and_steering() {
    let versions = "--api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";
    let arguments = ["--set=admission.podDefaults=true", "--set=admission.podRules=true", versions];
    let Some(cluster) = cluster_with(&arguments).await else { return };
    let pods: Api<Pod> = Api::namespaced(cluster.admin(), FILM);
    let create = async |mut pod: Pod| {
        pod.metadata.namespace = Some(FILM.to_owned());
        pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await
    };
    let plain = || pod("p").gpus(1).vram("4Gi").scheduler("default-scheduler").build();
    let steered = |pod: &Pod, container: usize| {
        let env = &pod.spec.as_ref().unwrap().containers[container].env;
        let entry = env.iter().flatten().find(|entry| entry.name == "NVIDIA_VISIBLE_DEVICES")?;
        Some(entry.value_from.as_ref()?.field_ref.as_ref()?.field_path.clone())
    };
    let created = eventually(DEADLINE, "the scheduler's name filled in", async || {
        let created = create(plain()).await.map_err(|error| error.to_string())?;
        let scheduler = created.spec.as_ref().unwrap().scheduler_name.clone();
        if scheduler.as_deref() == Some("filmgate") {
            Ok(created)
        } else {
            Err(format!("{scheduler:?}"))
        }
    })
    .await;
    assert_eq!(steered(&created, 0).as_deref(), Some("metadata.annotations['filmgate.dev/gpu']"));

    let mut two = plain();
    let containers = &mut two.spec.as_mut().unwrap().containers;
    let mut other = containers[0].clone();
    other.name = "other".to_owned();
    containers.push(other);
    let created = create(two).await.unwrap();
    for (at, container) in ["main", "other"].iter().enumerate() {
        let key = format!("metadata.annotations['filmgate.dev/gpu.{container}']");
        assert_eq!(steered(&created, at), Some(key));
    }

    // What its author wrote stays: a variable of his own, another scheduler, a pod without a GPU.
    let mut own = plain();
    own.spec.as_mut().unwrap().containers[0].env =
        serde_json::from_value(json!([{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]))
            .unwrap();
    let created = create(own).await.unwrap();
    assert_eq!(steered(&created, 0), None);
    assert_eq!(created.spec.unwrap().containers[0].env.as_ref().unwrap().len(), 1);
    // The other policy may come into force a moment later.
    let others = || pod("p").gpus(1).vram("4Gi").scheduler("volcano").build();
    eventually(DEADLINE, "another scheduler's pod refused", async || {
        match create(others()).await {
            Err(_) => Ok(()),
            Ok(_) => Err("it passes"),
        }
    })
    .await;
    let created = create(pod("p").scheduler("default-scheduler").build()).await.unwrap();
    assert_eq!(created.spec.unwrap().scheduler_name.as_deref(), Some("default-scheduler"));
}
