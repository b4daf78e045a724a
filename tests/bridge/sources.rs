//! Where nothing comes in from outside: a page that is polled, and a file.

use std::sync::Arc;
use std::time::Duration;

use filmgate::bridge::sources::Source;
use tokio_util::task::AbortOnDropHandle;

use crate::support::comfyui::Fault;
use crate::support::eventually::{eventually, throughout};
use crate::tunnel::Tunnel;
use crate::world::{LOCAL, World};

const PAGE: &str = "gist.example.org";
const EVERY: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(30);

async fn becomes(world: &World, url: &str) {
    eventually(DEADLINE, url, async || {
        let urls = world.urls().await;
        if urls == [url, url] { Ok(()) } else { Err(format!("{urls:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_page_is_polled_and_what_it_says_is_no_more_believed_than_what_is_posted() {
    let world = World::start().await;
    let page = Tunnel::start(&world.authority, PAGE).await;
    world.names.lead(PAGE, &[&[page.ip()]]);
    let polled = format!("https://{PAGE}:{}/me/raw/comfyui-url", page.port());
    let bridge = world.bridge_to(&[world.tunnel.ip(), page.ip()], world.cluster.admin());
    let bridge = Arc::new(bridge);
    let source = Source::Page(polled.parse().unwrap());
    page.comfyui.fails("", Fault::Says("https://example.org".to_owned()));
    let following = source.follow(bridge.clone(), EVERY);
    let _following = AbortOnDropHandle::new(tokio::spawn(following));
    let refused = || bridge.seen().told.values().sum::<u64>();
    eventually(DEADLINE, "a refusal", async || (refused() > 0).then_some(())).await;
    world.assert_untouched().await;
    assert!(page.comfyui.asked().iter().all(|path| path == "/me/raw/comfyui-url"));

    page.comfyui.fails("", Fault::Says(format!("{}\n", world.tunnel.url())));
    becomes(&world, &world.tunnel.url()).await;
    // It is counted when what reads it has been restarted, too.
    let told = eventually(DEADLINE, "the change counted", async || {
        let told = bridge.seen().told;
        (told.get("changed") == Some(&1)).then_some(told)
    })
    .await;
    throughout(EVERY * 20, async || assert_eq!(bridge.seen().told, told, "once is enough")).await;
}

#[tokio::test]
async fn a_page_that_leads_elsewhere_or_inside_is_not_read() {
    let world = World::start().await;
    let page = Tunnel::start(&world.authority, PAGE).await;
    world.names.lead(PAGE, &[&[page.ip()]]);
    let polled = format!("https://{PAGE}:{}/", page.port());
    // The page's own address is not allowed.
    let bridge = Arc::new(world.bridge());
    let source = Source::Page(polled.parse().unwrap());
    page.comfyui.fails("", Fault::Says(world.tunnel.url()));
    let inside = AbortOnDropHandle::new(tokio::spawn(source.clone().follow(bridge, EVERY)));
    throughout(EVERY * 20, async || assert_eq!(page.comfyui.asked(), [""; 0])).await;
    drop(inside);

    let bridge = world.bridge_to(&[world.tunnel.ip(), page.ip()], world.cluster.admin());
    page.comfyui.fails("", Fault::Redirect(format!("{}/elsewhere", world.tunnel.url())));
    let following = source.follow(Arc::new(bridge), EVERY);
    let _following = AbortOnDropHandle::new(tokio::spawn(following));
    eventually(DEADLINE, "a look", async || (page.comfyui.asked().len() > 2).then_some(())).await;
    assert_eq!(world.tunnel.comfyui.asked(), [""; 0]);
    world.assert_untouched().await;
}

#[tokio::test]
async fn a_file_is_read_when_it_changes() {
    let world = World::start().await;
    let file = world.cluster.folder().join("url");
    let bridge = Arc::new(world.bridge());
    let following = Source::File(file.clone()).follow(bridge, EVERY);
    let _following = AbortOnDropHandle::new(tokio::spawn(following));
    assert_eq!(world.urls().await, [LOCAL, LOCAL]);
    std::fs::write(&file, format!("{}\n", world.tunnel.url())).unwrap();
    becomes(&world, &world.tunnel.url()).await;
}
