//! The page as a person sees it, in a real browser.

use std::path::PathBuf;

use filmgate::engine::Health;

use crate::browser::Browser;
use crate::site::{Site, asking};
use crate::support::{Node, node};

/// A fleet with something of everything.
fn nodes() -> [Node; 3] {
    let first = node("gpu-a").gpus(2).total(80).replicas(4);
    let first = first.foreign(0, 8).uses("title", 0, 9).uses("film", 1, 31).each(|gpu| {
        gpu.model = "NVIDIA A100-SXM4-80GB".into();
        gpu.reserved = filmgate::engine::Bytes::mib(600);
        gpu.utilization_ratio = Some(0.37);
        gpu.temperature_celsius = Some(61.0);
    });
    let second = node("gpu-b").gpus(2).replicas(4).foreign(0, 3);
    let broken = second
        .uses("post", 0, 7)
        .gpu(1, |gpu| gpu.health = Health::Unhealthy { why: "XID 79".into() });
    [first, broken, node("gpu-c").gpus(1).replicas(4)]
}

async fn site() -> Site {
    let site = Site::with(&nodes());
    for (pod, vram, at) in
        [("film", "38Gi", "gpu-a"), ("title", "12Gi", "gpu-a"), ("post", "6Gi", "gpu-b")]
    {
        site.add(&asking(pod, vram));
        site.bind(pod, at).await;
    }
    let big = asking("epic", "76Gi");
    site.add(&big);
    site.filter(&big, &["gpu-a", "gpu-b", "gpu-c"]).await;
    site
}

async fn open(site: &Site, is_dark: bool) -> Option<Browser> {
    let address = site.serve().await;
    Browser::open(&format!("http://{address}/ui"), is_dark).await
}

fn picture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/figures").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_loads_and_shows_what_changes() {
    let site = site().await;
    let Some(browser) = open(&site, false).await else { return };
    browser.shows("#link", "live").await;
    browser.shows("#totals", "GPUs\n5").await;
    browser.shows("#pending", "default/epic").await;
    browser.shows("#pending", "asked 76.0 GiB (declared); most free: ").await;
    browser.shows("[data-key=gpu-b]", "unhealthy: XID 79").await;
    browser.screenshot(&picture("page-light.png")).await;
    // Somebody's process outside Kubernetes takes 20 GiB of a free GPU.
    site.read(&node("gpu-c").gpus(1).replicas(4).foreign(0, 20));
    browser.shows("[data-key=gpu-c]", "3.5 of 24.0 GiB free").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_shown_with_its_numbers() {
    let site = site().await;
    let Some(browser) = open(&site, true).await else { return };
    browser.shows("#pending", "default/epic").await;
    browser.click("#pending .name").await;
    browser.shows("#explain-title", "default/epic").await;
    browser.shows("#explain-body", "nearest miss: asked 76.0 GiB").await;
    browser.shows("#explain-body td", "not enough free VRAM").await;
    browser.screenshot(&picture("page-dark.png")).await;
    browser.click("#explain-close").await;
    browser.click("#what-if button").await;
    browser.shows("#what-if-answer", "what if it were asked for now").await;
    browser.shows("#what-if-answer tr.fits", "fits, chosen").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough() {
    let site = site().await;
    let Some(browser) = open(&site, false).await else { return };
    browser.shows("#nodes", "gpu-c").await;
    browser.press("/").await;
    browser.press("default/post").await;
    browser.shows("#node-count", "on 1 nodes").await;
    assert_eq!(browser.text("#nodes h3").await, "gpu-b");
    let focus = "return document.activeElement.id";
    assert_eq!(browser.ask(focus).await, "match", "typing goes on where it was");
    // Every thing to press is a thing that Tab reaches.
    let deaf = "return [...document.querySelectorAll('[onclick], div[role=button]')].length";
    assert_eq!(browser.ask(deaf).await, 0);
    browser.close().await;
}
