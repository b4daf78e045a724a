//! Where an allowed name leads, and what answers there.

use std::net::IpAddr;

use filmgate::bridge::Mode;
use serde_json::json;

use crate::support::comfyui::Fault;
use crate::tunnel::Trap;
use crate::world::{HOST, World};

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_and_nobody_there_is_asked() {
    let world = World::start().await;
    let bridge = world.bridge();
    let trap = Trap::set(world.tunnel.port()).await;
    let url = world.tunnel.url();
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    for inside in
        ["127.0.0.1", "10.96.0.1", "169.254.169.254", "100.64.0.1", "::1", "::ffff:127.0.0.1"]
    {
        world.names.lead(HOST, &[&[address(inside)]]);
        let refusal = bridge.offer(&url, Mode::Do).await.unwrap_err();
        assert_eq!(refusal.reason(), "refused_address", "{inside}: {refusal}");
    }
    // One of several is enough.
    world.names.lead(HOST, &[&[world.tunnel.ip(), trap.address.ip()]]);
    let refusal = bridge.offer(&url, Mode::Do).await.unwrap_err();
    assert_eq!(refusal.reason(), "refused_address", "{refusal}");
    world.names.lead(HOST, &[&[]]);
    assert_eq!(bridge.offer(&url, Mode::Do).await.unwrap_err().reason(), "no_address");
    assert_eq!((trap.visits(), world.tunnel.comfyui.asked()), (0, vec![]));
    world.assert_untouched().await;
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_the_second_time_does_not_lead_there() {
    let world = World::start().await;
    let bridge = world.bridge();
    let trap = Trap::set(world.tunnel.port()).await;
    let (outside, inside) = (world.tunnel.ip(), trap.address.ip());
    world.names.lead(HOST, &[&[outside], &[inside]]);
    bridge.offer(&world.tunnel.url(), Mode::Do).await.unwrap();
    assert_eq!(world.tunnel.comfyui.asked(), ["/system_stats"], "looked up once, asked once");
    assert_eq!(trap.visits(), 0);
    let refusal = bridge.offer(&world.tunnel.url(), Mode::Do).await.unwrap_err();
    assert_eq!(refusal.reason(), "refused_address", "{refusal}");
    assert_eq!(trap.visits(), 0);
}

#[tokio::test]
async fn only_a_comfyui_with_a_gpu_is_taken() {
    let world = World::start().await;
    let bridge = world.bridge();
    let trap = Trap::set(0).await;
    let comfyui = &world.tunnel.comfyui;
    let cpu = json!({"system": {}, "devices": [{"type": "cpu", "vram_total": 9, "vram_free": 9}]});
    let mad = json!({"devices": [{"type": "cuda", "vram_total": 1, "vram_free": 2}]});
    for (fault, reason) in [
        (Fault::Redirect("http://169.254.169.254/latest/meta-data".to_owned()), "redirect"),
        (Fault::Redirect(format!("http://{}/system_stats", trap.address)), "redirect"),
        (Fault::Status(502), "status"),
        (Fault::Html, "not_json"),
        (Fault::Says("{}".to_owned()), "missing"),
        (Fault::Says(cpu.to_string()), "missing"),
        (Fault::Says(mad.to_string()), "impossible"),
        (Fault::Endless, "too_large"),
        (Fault::Drip, "timed_out"),
        (Fault::Hang, "timed_out"),
    ] {
        comfyui.fails("", fault.clone());
        let refusal = bridge.offer(&world.tunnel.url(), Mode::Do).await.unwrap_err();
        assert_eq!(refusal.reason(), reason, "{fault:?}: {refusal}");
    }
    assert_eq!(trap.visits(), 0);
    world.assert_untouched().await;
    comfyui.recovers();
    bridge.offer(&world.tunnel.url(), Mode::Do).await.unwrap();
}
