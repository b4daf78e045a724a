//! What pods' ComfyUIs say is shown, and decides nothing.

use std::time::Duration;

use filmgate::engine::comfyui::{Queue, Trouble};
use serde_json::{Value, json};

use crate::exposition::Metrics;
use crate::site::{Site, asking};
use crate::support::{Node, node};

const GIB: u64 = 1 << 30;

fn n0() -> Node {
    node("n0").gpus(1).replicas(8)
}

/// A pod that is charged 4 GiB and holds 9.
async fn site() -> Site {
    let site = Site::with(&[n0()]);
    site.add(&asking("film", "4Gi"));
    site.bind("film", "n0").await;
    site.read(&n0().uses("film", 0, 9));
    site
}

async fn tenant(site: &Site) -> Value {
    site.get("/fleet").await.json()["nodes"][0]["gpus"][0]["tenants"][0].clone()
}

async fn page(site: &Site) -> Metrics {
    Metrics::of(site.ops("/metrics").await.text)
}

const OF_FILM: [(&str, &str); 2] = [("namespace", "default"), ("pod", "film")];

fn trouble() -> Trouble {
    Trouble { code: "status", text: "/prompt answers 500".into() }
}

#[tokio::test]
async fn memory_above_the_charge_is_cache_while_there_is_no_prompt() {
    let site = site().await;
    let split = async |site: &Site| {
        let page = page(site).await;
        let of = |name| page.value(name, &OF_FILM).map(|bytes| bytes as u64 / GIB);
        (of("filmgate_pod_working_bytes"), of("filmgate_pod_cache_bytes"))
    };
    assert_eq!(split(&site).await, (None, None), "nobody knows");
    assert_eq!(tenant(&site).await["cacheBytes"], Value::Null);
    site.told_by_comfyui("film", 0, 0);
    assert_eq!(split(&site).await, (Some(4), Some(5)));
    let idle = tenant(&site).await;
    assert_eq!((&idle["queueDepth"], &idle["cacheBytes"]), (&json!(0), &json!(5 * GIB)));
    site.told_by_comfyui("film", 1, 2);
    assert_eq!(split(&site).await, (Some(9), Some(0)));
    let busy = tenant(&site).await;
    assert_eq!((&busy["queueDepth"], &busy["cacheBytes"]), (&json!(3), &json!(0)));
    site.read(&n0().uses("film", 0, 3));
    site.told_by_comfyui("film", 0, 0);
    assert_eq!(split(&site).await, (Some(3), Some(0)), "within its charge nothing is cache");
    site.clock.advance(Duration::from_secs(15));
    assert_eq!(split(&site).await, (None, None), "unknown, and not zero");
}

#[tokio::test]
async fn gauges_show_prompts_torch_and_whether_it_answers() {
    let site = site().await;
    site.told_by_comfyui("film", 1, 2);
    let page_now = page(&site).await;
    let of = |name, label| page_now.value(name, &[OF_FILM[1], label]);
    let prompts = "filmgate_comfyui_queue_prompts";
    assert_eq!(of(prompts, ("state", "running")), Some(1.0));
    assert_eq!(of(prompts, ("state", "pending")), Some(2.0));
    let torch = "filmgate_comfyui_torch_vram_bytes";
    assert_eq!(of(torch, ("kind", "total")), Some((6 * GIB) as f64));
    assert_eq!(of(torch, ("kind", "free")), Some(GIB as f64));
    assert_eq!(page_now.value("filmgate_comfyui_up", &OF_FILM), Some(1.0));
    site.comfyui_says("film", Err(trouble()), Err(trouble()));
    assert_eq!(page(&site).await.value("filmgate_comfyui_up", &OF_FILM), Some(0.0));
    site.gate.delete_pod(&"film".into(), None);
    let gone = page(&site).await;
    for name in ["filmgate_comfyui_up", prompts, torch] {
        assert!(gone.series(name).is_empty(), "{name} outlives its pod");
    }
}

#[tokio::test]
async fn explain_tells_what_it_does_or_why_that_is_not_known() {
    let site = site().await;
    let comfyui =
        async |site: &Site| site.get("/explain?pod=default/film").await.json()["comfyui"].clone();
    assert_eq!(comfyui(&site).await, Value::Null);
    site.told_by_comfyui("film", 1, 2);
    site.clock.advance(Duration::from_secs(2));
    let device = json!({
        "name": "cuda:0 NVIDIA L4", "index": 0,
        "torchTotalBytes": 6 * GIB, "torchFreeBytes": GIB,
    });
    let says = json!({
        "isUp": true, "queue": {"running": 1, "pending": 2}, "ageSeconds": 2.0, "devices": [device],
    });
    assert_eq!(comfyui(&site).await, says);
    site.clock.advance(Duration::from_secs(20));
    site.comfyui_says("film", Err(trouble()), Err(trouble()));
    let trouble = json!({"code": "status", "text": "/prompt answers 500"});
    let lost = json!({"isUp": false, "trouble": trouble, "ageSeconds": 0.0, "devices": []});
    assert_eq!(comfyui(&site).await, lost);
}

/// What is asked of two sites must come out alike.
async fn decisions(site: &Site) -> Vec<Value> {
    let mut seen = Vec::new();
    for vram in ["1Gi", "10Gi", "14Gi", "15Gi"] {
        let name = format!("next-{vram}");
        site.add(&asking(&name, vram));
        let nodes = json!({"Pod": asking(&name, vram), "Nodes": null, "NodeNames": ["n0"]});
        seen.push(site.verb("/filter", &nodes).await);
        seen.push(site.verb("/prioritize", &nodes).await);
        seen.push(site.bind(&name, "n0").await.into());
    }
    seen
}

#[tokio::test]
async fn nothing_that_a_comfyui_says_changes_a_decision() {
    let silent = site().await;
    let expected = decisions(&silent).await;
    assert!(expected.contains(&json!("")), "one is bound: {expected:?}");
    assert!(expected.iter().any(|one| one.as_str().is_some_and(|error| !error.is_empty())));
    for queue in [Ok(Queue::default()), Ok(Queue { running: 1, pending: u64::MAX }), Err(trouble())]
    {
        let talking = site().await;
        let before = talking.state();
        talking.comfyui_says("film", queue.clone(), Ok(Vec::new()));
        assert_eq!(talking.state(), before, "the ledger does not know it");
        assert_eq!(decisions(&talking).await, expected, "{queue:?}");
    }
}
