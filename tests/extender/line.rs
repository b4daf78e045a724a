//! The waiting line, as far as the gate has a part in it.

use std::sync::Arc;
use std::time::Duration;

use filmgate::engine::{NodeName, Reading};
use filmgate::extender::gate::{FreshReading, SamplingSource};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;

use crate::site::{Site, asking, bound};
use crate::support::{Node, node};

fn full() -> Node {
    node("n0").gpus(1).foreign(0, 20)
}

#[tokio::test]
async fn memory_that_becomes_free_wakes_the_waiting_pod_and_holds_it() {
    let site = Site::with(&[full()]);
    let pod = asking("p", "12Gi");
    site.add(&pod);
    site.filter(&pod, &["n0"]).await;
    site.gate.round();
    assert!(site.script.wakes().is_empty());
    site.clock.advance(Duration::from_secs(1));
    site.read(&node("n0").gpus(1));
    site.gate.round();
    assert_eq!(site.script.wakes(), ["p"]);
    assert!(site.is_held_on("p", "n0"));
    assert_eq!(site.metric("filmgate_wakes_total").await, "1");
    assert_eq!(site.metric("filmgate_waiting_pods").await, "1");
}

#[tokio::test]
async fn a_pod_that_has_waited_too_long_has_a_place_reserved_and_is_told() {
    let n0 = node("n0").gpus(1).replicas(4);
    let site = Site::with(std::slice::from_ref(&n0));
    site.add(&bound(asking("other", "16Gi"), "n0"));
    let big = asking("big", "20Gi");
    site.add(&big);
    site.filter(&big, &["n0"]).await;
    site.clock.advance(Duration::from_secs(119));
    site.gate.round();
    assert_eq!(site.metric("filmgate_reserved_claims").await, "0");
    site.clock.advance(Duration::from_secs(1));
    site.gate.round();
    assert_eq!(site.metric("filmgate_reserved_claims").await, "1");
    let text = "has waited for long: what becomes free on GPU 0 of n0 is kept for it";
    assert_eq!(site.script.notices(), [("big".to_owned(), "GPUReserved", text.to_owned())]);
    let explained = site.get("/explain?pod=default/big").await.json();
    assert_eq!((&explained["state"], &explained["reservedOn"]), (&json!("waiting"), &json!("n0")));
    let small = asking("small", "4Gi");
    site.add(&small);
    assert!(site.passing(&small, &["n0"]).await.is_empty());
}

#[tokio::test]
async fn a_standby_reserves_nothing() {
    let site = Site::with(&[node("n0").gpus(1).replicas(4)]);
    site.add(&bound(asking("other", "16Gi"), "n0"));
    let big = asking("big", "20Gi");
    site.add(&big);
    site.filter(&big, &["n0"]).await;
    site.gate.stand_by();
    site.clock.advance(Duration::from_secs(120));
    site.gate.round();
    assert_eq!(site.gate.with_ledger(|ledger| ledger.reservations()), 0);
}

#[tokio::test]
async fn a_pod_that_was_refused_before_the_watch_showed_it_is_woken_all_the_same() {
    let site = Site::with(&[full()]);
    let pod = asking("p", "12Gi");
    site.filter(&pod, &["n0"]).await;
    assert!(!site.is_waiting("p"));
    site.add(&pod);
    assert!(site.is_waiting("p"));
    site.clock.advance(Duration::from_secs(1));
    site.read(&node("n0").gpus(1));
    site.gate.round();
    assert_eq!(site.script.wakes(), ["p"]);
}

#[tokio::test]
async fn a_pod_that_found_a_node_before_the_watch_showed_it_does_not_wait() {
    let site = Site::with(&[full(), node("n1").gpus(1)]);
    let pod = asking("p", "12Gi");
    site.filter(&pod, &["n0"]).await;
    site.filter(&pod, &["n0", "n1"]).await;
    site.add(&pod);
    assert!(!site.is_waiting("p"));
}

#[tokio::test]
async fn nobody_is_woken_while_nobody_is_answered() {
    let site = Site::with(&[full()]);
    let pod = asking("p", "12Gi");
    site.add(&pod);
    site.filter(&pod, &["n0"]).await;
    site.gate.set_ready(false);
    site.clock.advance(Duration::from_secs(1));
    site.read(&node("n0").gpus(1));
    site.gate.round();
    assert!(site.script.wakes().is_empty());
    site.gate.set_ready(true);
    site.gate.round();
    assert_eq!(site.script.wakes(), ["p"]);
}

/// An agent that answers with what the test has last said.
struct Agent {
    now: Mutex<Reading>,
    asked: Mutex<u64>,
    site: Arc<Site>,
}

impl SamplingSource for Agent {
    fn sample_now<'a>(&'a self, _: &'a NodeName) -> BoxFuture<'a, Result<FreshReading, String>> {
        *self.asked.lock() += 1;
        let mut reading = self.now.lock();
        reading.sampling = u64::MAX / 2 + *self.asked.lock();
        let at = self.site.clock.now();
        let fresh = FreshReading {
            reading: Arc::new(reading.clone()),
            received_at: at,
            began_after: Some(at),
        };
        async move { Ok(fresh) }.boxed()
    }
}

#[tokio::test]
async fn the_loop_asks_for_a_sampling_when_a_pod_is_gone_and_wakes_the_next() {
    let site = Arc::new(Site::with(&[node("n0").gpus(1)]));
    let (first, second) = (asking("p", "20Gi"), asking("q", "20Gi"));
    site.add(&first);
    site.add(&second);
    assert_eq!(site.bind("p", "n0").await, "");
    site.filter(&second, &["n0"]).await;
    let reading = node("n0").gpus(1).uses("p", 0, 20).reading;
    let agent = Agent { now: Mutex::new(reading), asked: Mutex::new(0), site: site.clone() };
    let agent = Arc::new(agent);
    let running = tokio::spawn(site.gate.clone().run(agent.clone()));

    site.gate.delete_pod(&"p".into(), None);
    site.clock.advance(Duration::from_secs(31));
    passing_time(&site, || site.claim("p").is_none()).await;
    assert_eq!(*agent.asked.lock(), 1);
    assert!(site.script.wakes().is_empty(), "its memory is still in use");
    let freed = node("n0").gpus(1).sampling(u64::MAX).reading;
    site.gate.apply_reading(freed.into(), site.clock.now(), None);
    passing_time(&site, || site.is_held_on("q", "n0")).await;
    assert_eq!(site.script.wakes(), ["q"]);
    site.gate.drain(Duration::from_secs(1)).await;
    running.await.unwrap();
}

/// The clock goes on until it is so.
async fn passing_time(site: &Site, mut is_so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        site.clock.advance(Duration::from_millis(2));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came about");
}
