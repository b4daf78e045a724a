//! What the gate shows is what the catalogue says, neither more nor less.

use std::time::Duration;

use filmgate::metrics::catalogue::CHAPTERS;

use crate::exposition::Metrics;
use crate::site::{Site, asking};
use crate::support::{Node, node};

fn n0() -> Node {
    node("n0").gpus(1).replicas(4)
}

/// A site in which everything that has a metric has come about.
async fn eventful() -> Site {
    let site = Site::with(&[n0()]);
    site.add(&asking("grown", "4Gi"));
    site.bind("grown", "n0").await;
    site.read(&n0().uses("grown", 0, 9));
    site.gate.round();
    site.filter(&asking("refused", "40Gi"), &["n0"]).await;
    site.told_by_comfyui("grown", 1, 2);
    site.gate.set_kube_scheduler_skew(1);
    site
}

async fn page(site: &Site) -> Metrics {
    Metrics::of(site.ops("/metrics").await.text)
}

#[tokio::test]
async fn the_leader_shows_the_catalogue_and_nothing_else() {
    let [replica, fleet, ..] = CHAPTERS;
    let differences = page(&eventful().await).await.differences(&[replica, fleet]);
    assert!(differences.is_empty(), "{differences:#?}");
}

#[tokio::test]
async fn a_standby_shows_what_it_knows_of_itself_and_nothing_of_the_fleet() {
    let [replica, ..] = CHAPTERS;
    let site = eventful().await;
    site.gate.stand_by();
    let differences = page(&site).await.differences(&[replica]);
    assert!(differences.is_empty(), "{differences:#?}");
}

#[tokio::test]
async fn sums_over_two_replicas_are_those_of_the_fleet() {
    let (leader, standby) = (eventful().await, eventful().await);
    let alone = page(&leader).await.sum("filmgate_gpu_charged_bytes", &[]);
    standby.gate.stand_by();
    let both = [page(&leader).await, page(&standby).await];
    let sum = |name| both.iter().map(|page| page.sum(name, &[])).sum::<f64>();
    assert!(alone > 0.0);
    assert_eq!((sum("filmgate_gpu_charged_bytes"), sum("filmgate_leader")), (alone, 1.0));
    standby.gate.lead_until(standby.clock.now() + Duration::from_secs(10));
    leader.gate.stand_by();
    let both = [page(&leader).await, page(&standby).await];
    let sum = |name| both.iter().map(|page| page.sum(name, &[])).sum::<f64>();
    assert_eq!((sum("filmgate_gpu_charged_bytes"), sum("filmgate_leader")), (alone, 1.0));
}
