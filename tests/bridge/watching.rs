//! A tunnel that goes and comes back.

use std::time::Duration;

use filmgate::bridge::target::TUNNEL;
use filmgate::bridge::{Bridge, Mode, Watch};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::comfyui::Fault;
use crate::world::{LOCAL, NAMESPACE, World};

fn watching(world: &World) -> Bridge {
    let watch = Watch { fallback: Some(LOCAL.to_owned()), ..Watch::default() };
    world.bridge().watching(watch, world.clock.clock())
}

/// Looks that long, every ten seconds.
async fn look_for(world: &World, bridge: &Bridge, seconds: u64) {
    for _ in 0..seconds / 10 {
        bridge.look().await.unwrap();
        world.clock.advance(Duration::from_secs(10));
    }
}

async fn write(world: &World, patch: serde_json::Value) {
    let configs: Api<ConfigMap> = Api::namespaced(world.cluster.admin(), NAMESPACE);
    let patch = Patch::Merge(patch);
    configs.patch("comfyui-config", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn falls_back_when_the_tunnel_is_gone_and_returns_when_it_is_back() {
    let world = World::start().await;
    let bridge = watching(&world);
    bridge.look().await.unwrap();
    world.assert_untouched().await;
    let url = world.tunnel.url();
    bridge.offer(&url, Mode::Do).await.unwrap();
    let first = world.restarts().await;

    world.tunnel.comfyui.fails("", Fault::Status(530));
    look_for(&world, &bridge, 60).await;
    assert_eq!(world.urls().await, [&*url, &*url], "it may come back at once");
    assert_eq!((bridge.seen().is_up, bridge.seen().gpus), (Some(true), vec![]));
    look_for(&world, &bridge, 10).await;
    assert_eq!(world.urls().await, [LOCAL, LOCAL]);
    assert_eq!(bridge.seen().is_up, Some(false));
    let second = world.restarts().await;
    assert_ne!(second[0], first[0]);
    assert_eq!(second[2], None);

    // Another process knows from the ConfigMap what is to come back.
    let next = watching(&world);
    look_for(&world, &next, 60).await;
    world.tunnel.comfyui.recovers();
    next.look().await.unwrap();
    assert_eq!(world.urls().await[0], LOCAL, "one answer is not enough");
    world.clock.advance(Duration::from_secs(10));
    look_for(&world, &next, 20).await;
    assert_eq!(world.urls().await, [&*url, &*url]);
    assert_ne!(world.restarts().await[0], second[0]);
    assert_eq!(next.seen().gpus.len(), 1);
    let turns = [
        "ComfyUIChanged",
        "ComfyUIChanged",
        "ComfyUITunnelDown",
        "ComfyUIChanged",
        "ComfyUITunnelUp",
    ];
    assert_eq!(world.told("director").await, turns);
}

#[tokio::test]
async fn what_somebody_has_written_by_hand_stays() {
    let world = World::start().await;
    let bridge = watching(&world);
    bridge.offer(&world.tunnel.url(), Mode::Do).await.unwrap();
    let other = "http://workstation.example:8188";
    write(&world, json!({"data": {"COMFYUI_URL": other}})).await;
    look_for(&world, &bridge, 120).await;
    assert_eq!(world.urls().await[0], other);
    world.tunnel.comfyui.fails("", Fault::Status(530));
    look_for(&world, &bridge, 120).await;
    assert_eq!(world.urls().await[0], other);
    world.tunnel.comfyui.recovers();
    bridge.offer(&world.tunnel.url(), Mode::Do).await.unwrap();
    assert_eq!(world.urls().await[0], world.tunnel.url(), "until a tunnel is told again");
}

#[tokio::test]
async fn an_annotation_is_no_more_believed_than_what_is_posted() {
    let world = World::start().await;
    let bridge = watching(&world);
    for url in ["http://169.254.169.254", "https://example.org", "https://127.0.0.1"] {
        write(&world, json!({"metadata": {"annotations": {TUNNEL: url}}})).await;
        look_for(&world, &bridge, 120).await;
        assert_eq!(
            (world.urls().await, bridge.seen().is_up),
            ([LOCAL, LOCAL].map(Into::into), Some(false))
        );
    }
    assert_eq!(world.tunnel.comfyui.asked(), [""; 0]);
}
