//! What KEDA makes of what filmgate says.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::scaled::COOLDOWN;
use crate::support::comfyui::Fault;
use crate::support::eventually::eventually;
use crate::support::figures::Figures;
use crate::support::manifests::{apply, shipped};
use crate::world::{DEADLINE, STRANGERS, World};

/// Prompts of the film's pods, one replica for each.
fn prompts() -> Value {
    json!({"metric": "filmgate-comfyui-queue-depth", "selector": "app=film"})
}

pub(crate) async fn check(keda: &Path) {
    let world = World::start(keda).await;
    let mut figures = Figures::default();
    the_example_follows_pending_pods(&world, &mut figures).await;
    helpers_follow_the_prompts_of_other_pods(&world, &mut figures).await;
    replicas_stay_while_nobody_knows(&world).await;
    what_is_wrong_is_said_where_the_docs_say(&world).await;
    figures.write("keda");
}

/// deploy/autoscaling/keda-example.yaml as it is, but for the time after the last need.
async fn the_example_follows_pending_pods(world: &World, figures: &mut Figures) {
    world.add_deployment("helper").await;
    let admin = world.replicas.cluster.admin();
    apply(&admin, &shipped("deploy/autoscaling/keda-example.yaml")).await;
    world.is_ready("helper", "True", "").await;
    let began = Instant::now();
    for name in ["film-0", "film-1", "film-2"] {
        world.add_pending(name).await;
    }
    let detail = || json!({"trigger": "external-push", "metric": "filmgate-pending-pods"});
    let first = world.starts("helper", began).await;
    figures.add("keda_example_0_to_1", first, "seconds", "-", detail());
    // One for each two pods.
    let all = world.scales("helper", 2, began).await;
    figures.add("keda_example_0_to_2", all, "seconds", "-", detail());
    world.shorten_cooldown("helper").await;
    for name in ["film-0", "film-1", "film-2"] {
        world.delete_pod(name).await;
    }
    world.scales("helper", 0, Instant::now()).await;
}

async fn helpers_follow_the_prompts_of_other_pods(world: &World, figures: &mut Figures) {
    world.add_running("comfyui").await;
    for kind in ["external", "external-push"] {
        world.add_scaled(kind, kind, prompts()).await;
        world.is_ready(kind, "True", "").await;
        let began = Instant::now();
        world.comfyui.set_queue(1, 4);
        let first = world.starts(kind, began).await;
        let all = world.scales(kind, 5, began).await;
        world.comfyui.set_queue(0, 0);
        let began = Instant::now();
        let none = world.scales(kind, 0, began).await;
        let detail = || json!({"trigger": kind, "polling_s": 1, "cooldown_s": COOLDOWN.as_secs()});
        let name = kind.replace('-', "_");
        for (what, seconds) in [("0_to_1", first), ("0_to_5", all), ("5_to_0", none)] {
            figures.add(&format!("keda_{name}_{what}"), seconds, "seconds", "-", detail());
        }
    }
}

/// Zero would scale down after [`COOLDOWN`].
async fn replicas_stay_while_nobody_knows(world: &World) {
    world.comfyui.set_queue(1, 4);
    for kind in ["external", "external-push"] {
        world.scales(kind, 5, Instant::now()).await;
    }
    world.comfyui.fails("", Fault::Html);
    let says = "filmgate-comfyui-queue-depth is not known of any of the 1 pods that are picked: no \
                ComfyUI answers";
    let before = world.keda.log().matches(says).count();
    eventually(DEADLINE, "KEDA told that nobody knows", async || {
        (world.keda.log().matches(says).count() > before).then_some(())
    })
    .await;
    for kind in ["external", "external-push"] {
        world.stays(kind, 5, COOLDOWN * 3).await;
    }
    world.comfyui.set_queue(0, 0);
    world.comfyui.recovers();
    for kind in ["external", "external-push"] {
        world.scales(kind, 0, Instant::now()).await;
    }
}

async fn what_is_wrong_is_said_where_the_docs_say(world: &World) {
    world.add_proof(STRANGERS).await;
    for (name, metadata, proof, says) in [
        (
            "unknown",
            json!({"metric": "queue"}),
            "filmgate",
            r#"code = InvalidArgument desc = metadata.metric: \"queue\" is not one of filmgate-"#,
        ),
        (
            "stranger",
            prompts(),
            STRANGERS,
            "code = Unauthenticated desc = the client's certificate",
        ),
    ] {
        world.add_deployment(name).await;
        world.apply_scaled(name, "external", metadata, proof).await;
        world.is_ready(name, "False", "no metric specs returned from scalers").await;
        let log = world.keda.log();
        assert!(log.contains(says), "{log}");
    }
}
