//! A URL that is told, and becomes what the pipeline asks.

use filmgate::bridge::target::{FIELD_MANAGER, RESTART_DUE, TUNNEL};
use filmgate::bridge::{Mode, Refusal};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use reqwest::StatusCode;
use serde_json::json;

use crate::tunnel::Tunnel;
use crate::world::{HOST, LOCAL, NAMESPACE, TOKEN, World, answer};

#[tokio::test]
async fn a_tunnel_becomes_what_the_pipeline_asks_and_whoever_read_the_old_url_is_restarted() {
    let world = World::start().await;
    let door = world.door().await;
    let url = world.tunnel.url();
    let (status, done) = door.tell(&url).await;
    assert_eq!((status, &done["isChanged"]), (StatusCode::OK, &json!(true)), "{done}");
    assert_eq!(done["before"], LOCAL);
    assert_eq!(done["restarted"], json!(["deployment/director", "statefulset/renderer"]));
    assert_eq!(done["gpus"][0]["name"], "cuda:0 NVIDIA L4 : cudaMallocAsync");
    assert_eq!(done["gpus"][0]["freeBytes"], 10_u64 << 30);
    assert_eq!(world.urls().await, [&*url, &*url]);
    let restarts = world.restarts().await;
    assert!(restarts[0].is_some() && restarts[0] == restarts[1], "{restarts:?}");
    assert_eq!(restarts[2], None, "who does not read it goes on");

    let config = world.config().await;
    assert_eq!(config.data.as_ref().unwrap()["STEPS"], "20", "the rest is somebody else's");
    assert_eq!(world.secret().await.data.unwrap()["KEY"].0, b"word");
    let annotations = config.metadata.annotations.unwrap();
    assert_eq!((annotations.get(TUNNEL), &*annotations[RESTART_DUE]), (Some(&url), "false"));
    let owners = config.metadata.managed_fields.unwrap();
    let owners = owners.iter().filter_map(|one| one.manager.as_deref());
    assert!(owners.into_iter().any(|one| one == FIELD_MANAGER), "what Argo CD is told to ignore");

    let version = world.config().await.metadata.resource_version;
    let (status, again) = door.tell(&format!("{url}/")).await;
    assert_eq!((status, &again["isChanged"]), (StatusCode::OK, &json!(false)), "{again}");
    assert_eq!(world.config().await.metadata.resource_version, version, "nothing was written");
    assert_eq!(world.restarts().await, restarts);
}

#[tokio::test]
async fn several_at_once_are_one_change() {
    let world = World::start().await;
    let bridges = [world.bridge(), world.bridge()];
    let url = world.tunnel.url();
    let offers = (0..6).map(|number| bridges[number % 2].offer(&url, Mode::Do));
    let done = join_all(offers).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(world.urls().await, [&*url, &*url]);
    assert_eq!(world.config().await.metadata.annotations.unwrap()[RESTART_DUE], "false");
    // Of one process exactly one changes something; two of them may both see a restart due.
    for of_one in [0, 1] {
        let changed = done.iter().skip(of_one).step_by(2).flatten().filter(|one| one.is_changed);
        assert!(changed.count() <= 1, "{done:?}");
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let world = World::start().await;
    let done = world.bridge().offer(&world.tunnel.url(), Mode::DryRun).await.unwrap();
    let said = done.to_string();
    assert!(said.contains(&format!("would replace {LOCAL} by {}", world.tunnel.url())), "{said}");
    assert!(said.contains("would restart deployment/director"), "{said}");
    assert!(said.contains("NVIDIA L4") && said.contains("10.0 GiB free of 24.0 GiB"), "{said}");
    world.assert_untouched().await;
}

#[tokio::test]
async fn a_restart_that_was_cut_off_is_finished_and_a_lost_secret_is_written_again() {
    let world = World::start().await;
    let bridge = world.bridge();
    let url = world.tunnel.url();
    bridge.offer(&url, Mode::Do).await.unwrap();
    let configs: Api<ConfigMap> = Api::namespaced(world.cluster.admin(), NAMESPACE);
    let cut_off = Patch::Merge(json!({"metadata": {"annotations": {RESTART_DUE: "true"}}}));
    configs.patch("comfyui-config", &PatchParams::default(), &cut_off).await.unwrap();
    let done = bridge.offer(&url, Mode::Do).await.unwrap();
    assert_eq!(done.restarted.len(), 2, "{done}");
    assert_eq!(world.config().await.metadata.annotations.unwrap()[RESTART_DUE], "false");

    let secrets: Api<Secret> = Api::namespaced(world.cluster.admin(), NAMESPACE);
    let other = Patch::Merge(json!({"stringData": {"COMFYUI_URL": LOCAL}}));
    secrets.patch("comfyui-secret", &PatchParams::default(), &other).await.unwrap();
    let done = bridge.offer(&url, Mode::Do).await.unwrap();
    assert!(done.is_changed);
    assert_eq!(world.urls().await, [&*url, &*url]);

    secrets.delete("comfyui-secret", &DeleteParams::default()).await.unwrap();
    let refusal = bridge.offer(&url, Mode::Do).await.unwrap_err().to_string();
    assert!(
        refusal.contains("kubectl create secret generic comfyui-secret -n ai-film"),
        "{refusal}"
    );
}

#[tokio::test]
async fn the_next_tunnel_replaces_the_last() {
    let world = World::start().await;
    let bridge = world.bridge();
    bridge.offer(&world.tunnel.url(), Mode::Do).await.unwrap();
    let other = "new-words.trycloudflare.com";
    world.names.lead(other, &[&[world.tunnel.ip()]]);
    let url = format!("https://{other}:{}", world.tunnel.port());
    // The certificate is the first one's.
    let refusal = bridge.offer(&url, Mode::Do).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Probe(_)) && refusal.to_string().contains("not valid for"));
    assert_eq!(world.urls().await[0], world.tunnel.url());
    let port = world.tunnel.port();
    drop(world.tunnel);
    let tunnel = Tunnel::start_at(&world.authority, other, port).await;
    world.names.lead(other, &[&[tunnel.ip()]]);
    let refusal = bridge.offer(&url, Mode::Do).await.unwrap_err();
    assert_eq!(refusal.reason(), "refused_address", "not allowed yet");
}

#[tokio::test]
async fn without_the_token_nobody_is_heard_and_nobody_else_has_to_wait() {
    let world = World::start().await;
    let door = world.door().await;
    let body = json!({"url": world.tunnel.url()});
    let wrong = ["", "wrong", &TOKEN[1..], &TOKEN.to_uppercase(), &format!("{TOKEN}0")];
    let flood = (0..100).map(|number| answer(door.request(wrong[number % 5]).json(&body)));
    for (status, said) in join_all(flood).await {
        assert_eq!((status, &said["reason"]), (StatusCode::UNAUTHORIZED, &json!("token")));
    }
    let none = door.request(TOKEN).json(&body).header("Authorization", "Basic eDp5");
    let mut request = none.build().unwrap();
    request.headers_mut().remove("authorization");
    let response = reqwest::Client::new().execute(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.tunnel.comfyui.asked(), [""; 0], "nobody was asked");
    world.assert_untouched().await;
    assert_eq!(door.tell(&world.tunnel.url()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn of_a_hundred_at_once_few_are_looked_at_and_one_changes_something() {
    let world = World::start().await;
    let door = world.door().await;
    let url = world.tunnel.url();
    let told = join_all((0..100).map(|_| door.tell(&url))).await;
    let count = |status| told.iter().filter(|(one, _)| *one == status).count();
    assert_eq!((count(StatusCode::OK), count(StatusCode::TOO_MANY_REQUESTS)), (5, 95));
    let changes = told.iter().filter(|(_, done)| done["isChanged"] == json!(true)).count();
    assert_eq!(changes, 1, "{told:?}");
    assert_eq!(world.tunnel.comfyui.asked().len(), 5);
    world.clock.advance(std::time::Duration::from_secs(2));
    assert_eq!(door.tell(&format!("https://{HOST}")).await.0, StatusCode::UNPROCESSABLE_ENTITY);
}
