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
    let text = std::fs::read_to_string(path).expect("a file to read");
    let documents = text.split("\n---\n").map(serde_saphyr::from_str);
    documents.map(|object| object.expect("an object")).collect()
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
