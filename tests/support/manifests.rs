//! The files that filmgate ships, put into a cluster as `kubectl apply` would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::discovery::ApiResource;
use kube::{Api, Client};

use super::eventually::eventually;
use super::objects::pod;

const IN_FORCE_DEADLINE: Duration = Duration::from_secs(30);

/// A file of the project.
pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every object of a YAML file, in its order.
pub fn objects(path: &Path) -> Vec<DynamicObject> {
    objects_of(&std::fs::read_to_string(path).expect("a file to read"))
}

/// Every object of a YAML text, in its order.
pub fn objects_of(text: &str) -> Vec<DynamicObject> {
    let documents = text.trim_start_matches("---\n").split("\n---\n");
    documents.map(|text| serde_saphyr::from_str(text).expect("an object")).collect()
}

/// A namespace, with these labels.
pub fn namespace(name: &str, labels: &[(&str, &str)]) -> DynamicObject {
    let labels: std::collections::BTreeMap<_, _> = labels.iter().copied().collect();
    let namespace = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
    });
    serde_json::from_value(namespace).expect("an object")
}

/// All of filmgate beside a kube-scheduler of its own.
pub const SIDECAR: &str = "deploy/filmgate.yaml";
/// All of filmgate as a Service behind another kube-scheduler.
pub const SERVICE: &str = "deploy/filmgate-service.yaml";

/// The rights of that manifest, for those who have no others.
pub async fn apply_rights(client: &Client, manifest: &str) {
    apply_objects(client, objects(&shipped(manifest)).into_iter().filter(is_about_rights)).await;
}

fn is_about_rights(object: &DynamicObject) -> bool {
    let kind = &object.types.as_ref().expect("a kind").kind;
    matches!(&**kind, "Namespace" | "ServiceAccount") || kind.contains("Role")
}

/// Creates what the file describes, or changes what is there.
pub async fn apply(client: &Client, path: &Path) {
    apply_objects(client, objects(path)).await;
}

/// Creates those objects, or changes what is there.
pub async fn apply_objects(client: &Client, objects: impl IntoIterator<Item = DynamicObject>) {
    for object in objects {
        let types = object.types.as_ref().expect("a kind");
        let kind = types.try_into().expect("a group, version and kind");
        let resource = ApiResource::from_gvk(&kind);
        let namespace = object.metadata.namespace.as_deref();
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object.metadata.name.as_deref().expect("a name");
        let parameters = PatchParams::apply("test").force();
        let applied = api.patch(name, &parameters, &Patch::Apply(&object)).await;
        applied.unwrap_or_else(|error| panic!("{error}: {object:?}"));
    }
}

/// Waits until the policies of `deploy/admission.yaml` about new pods are in force: the API server
/// reads them with a little delay. Whose `pods` these are must be nobody that they let through.
pub async fn admission_in_force(pods: &Api<Pod>) {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let probes = [
        pod("probe").gpus(1).pinned_to("n0").build(),
        pod("probe").annotation("filmgate.dev/gpu", "GPU-x").build(),
    ];
    eventually(IN_FORCE_DEADLINE, "the policies in force", async || {
        for probe in &probes {
            if pods.create(&dry_run, probe).await.is_ok() {
                return Err("a probe passes");
            }
        }
        Ok(())
    })
    .await;
}
