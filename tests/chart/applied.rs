//! What is rendered, applied to a real API server as `kubectl apply` does.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::PodSpec;
use kube::Api;

use clap::Parser as _;
use filmgate::cli::Cli;

use crate::support::cluster::{Cluster, ClusterOptions};
use crate::support::helm::{CLUSTERS, rendered, values_of};
use crate::support::manifests::{apply, apply_objects, namespace, objects_of, shipped};

#[tokio::test(flavor = "multi_thread")]
async fn every_variant_is_taken_and_each_container_understands_its_arguments() {
    let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
    let admin = cluster.admin();
    apply_objects(&admin, [namespace("filmgate", &[]), namespace("keda", &[])]).await;
    let everything = [
        "--set=externalMetrics.enabled=true",
        "--set=keda.enabled=true",
        "--set=config.idleNodes.annotateAfter=10m",
        "--set=admission.managedNodes=true",
        "--set=admission.podRules=true",
        "--set=admission.podDefaults=true",
        "--set=monitoring.dashboards.enabled=true",
        "--api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
    ];
    let by_cluster = CLUSTERS.map(|cluster| vec![format!("--values={}", values_of(cluster))]);
    for arguments in by_cluster.into_iter().chain([everything.map(str::to_owned).to_vec()]) {
        let arguments: Vec<&str> = arguments.iter().map(|argument| &**argument).collect();
        let Some(outcome) = rendered(&arguments) else { return };
        apply_objects(&admin, objects_of(&outcome.unwrap())).await;
        each_container_understands_its_arguments(&cluster).await;
    }
    for file in ["deploy/filmgate.yaml", "deploy/filmgate-service.yaml"] {
        apply(&admin, &shipped(file)).await;
        each_container_understands_its_arguments(&cluster).await;
    }
}

async fn each_container_understands_its_arguments(cluster: &Cluster) {
    let deployments: Api<Deployment> = Api::namespaced(cluster.admin(), "filmgate");
    let agents: Api<DaemonSet> = Api::namespaced(cluster.admin(), "filmgate");
    let template = |template: k8s_openapi::api::core::v1::PodTemplateSpec| template.spec.unwrap();
    let extender = template(deployments.get("filmgate").await.unwrap().spec.template);
    let certificates = deployments.get("filmgate-certificates").await.unwrap();
    let certificates = template(certificates.spec.template);
    let agent = template(agents.get("filmgate-agent").await.unwrap().spec.template);
    for pod in [extender, certificates, agent] {
        understands_its_arguments(&pod);
        mounts_what_it_has(&pod);
    }
}

fn understands_its_arguments(pod: &PodSpec) {
    for container in pod.containers.iter().filter(|one| one.name != "kube-scheduler") {
        let arguments = container.args.iter().flatten().map(String::as_str);
        let understood = Cli::try_parse_from(["filmgate"].into_iter().chain(arguments));
        assert!(understood.is_ok(), "{}: {}", container.name, understood.unwrap_err());
    }
}

/// Every file that the arguments and the configuration name lies in a volume that is mounted; the API
/// server checks that each mount has its volume.
fn mounts_what_it_has(pod: &PodSpec) {
    for container in &pod.containers {
        let mounts: Vec<&str> =
            container.volume_mounts.iter().flatten().map(|mount| &*mount.mount_path).collect();
        for argument in container.args.iter().chain(&container.command).flatten() {
            if let Some((_, file)) = argument.split_once("=/") {
                let file = format!("/{file}");
                let is_mounted = mounts.iter().any(|folder| file.starts_with(folder));
                assert!(is_mounted, "{}: {file} of {mounts:?}", container.name);
            }
        }
    }
}
