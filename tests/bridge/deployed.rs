//! The bridge with the rights that the chart gives it.

use filmgate::bridge::{Mode, Watch};
use filmgate::cli::Cli;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DynamicObject, ListParams};

use clap::Parser as _;

use crate::support::eventually::eventually;
use crate::support::helm;
use crate::support::manifests::{apply_objects, objects_of};
use crate::support::site::START_DEADLINE;
use crate::world::{LOCAL, NAMESPACE, World};

const ACCOUNT: &str = "system:serviceaccount:filmgate:filmgate-bridge";

/// The bridge's objects, as helm renders them; `None` where there is no helm.
fn rendered() -> Option<Vec<DynamicObject>> {
    let rendered = helm::rendered(&[
        "--show-only=templates/bridge.yaml",
        "--set=bridge.enabled=true",
        "--set=bridge.workloads={director,renderer}",
        &format!("--set=bridge.fallback={LOCAL}"),
    ]);
    Some(objects_of(&rendered?.unwrap()))
}

fn kind(object: &DynamicObject) -> &str {
    &object.types.as_ref().unwrap().kind
}

#[tokio::test]
async fn the_charts_rights_are_enough_and_no_more() {
    let Some(objects) = rendered() else { return };
    let world = World::start().await;
    let roles = objects.into_iter().filter(|one| kind(one).starts_with("Role"));
    apply_objects(&world.cluster.admin(), roles).await;
    let client = world.cluster.client_as(ACCOUNT, &[]).await;
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    eventually(START_DEADLINE, "the rights in force", async || configs.get("comfyui-config").await)
        .await;
    let watch = Watch { fallback: Some(LOCAL.to_owned()), ..Watch::default() };
    let bridge = world.bridge_by(client.clone()).watching(watch, world.clock.clock());
    let done = bridge.offer(&world.tunnel.url(), Mode::Do).await.unwrap();
    assert_eq!(done.restarted.len(), 2, "{done}");
    bridge.look().await.unwrap();
    assert_eq!(world.urls().await, [world.tunnel.url(), world.tunnel.url()]);
    assert_eq!(world.told("director").await, ["ComfyUIChanged"]);

    let secrets: Api<Secret> = Api::namespaced(client, NAMESPACE);
    let forbidden =
        |error: kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    assert!(forbidden(secrets.list(&ListParams::default()).await.unwrap_err()));
    assert!(forbidden(secrets.get("others").await.unwrap_err()));
    assert!(forbidden(configs.list(&ListParams::default()).await.unwrap_err()));
}

#[test]
fn the_charts_arguments_are_understood() {
    let Some(objects) = rendered() else { return };
    let deployment = objects.iter().find(|one| kind(one) == "Deployment").unwrap();
    let container = &deployment.data["spec"]["template"]["spec"]["containers"][0];
    let arguments = container["args"].as_array().unwrap().iter();
    let line = ["filmgate"].into_iter().chain(arguments.map(|one| one.as_str().unwrap()));
    Cli::try_parse_from(line).unwrap();
}
