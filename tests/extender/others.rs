//! Pods of others, forged annotations, growth and strays: what metrics, events and `explain` say.

use serde_json::{Value, json};

use crate::site::{Site, asking, bound};
use crate::support::{Node, node};

fn n0() -> Node {
    node("n0").gpus(2).replicas(4)
}

/// The pod as its owner made it, with this on it too.
fn carrying(mut pod: Value, key: &str, value: &str) -> Value {
    pod["metadata"]["annotations"][key] = json!(value);
    pod
}

/// What a round told: pod and reason.
fn told(site: &Site) -> Vec<(String, &'static str)> {
    site.gate.round();
    let notices = site.script.notices().into_iter();
    notices.map(|(pod, reason, _)| (pod, reason)).collect()
}

/// What pods were told that are not where they were sent.
fn strays(site: &Site) -> Vec<String> {
    site.gate.round();
    let notices = site.script.notices().into_iter();
    notices.filter(|(_, reason, _)| *reason == "OnAnotherGPU").map(|(_, _, text)| text).collect()
}

#[tokio::test]
async fn pods_that_others_bound_are_counted_and_explain_names_them() {
    let site = Site::with(&[n0(), node("n1").gpus(1)]);
    site.add(&bound(asking("theirs", "12Gi"), "n0"));
    site.add(&asking("ours", "4Gi"));
    site.bind("ours", "n0").await;
    assert_eq!(site.metric("filmgate_unmanaged_pods{node=\"n0\"}").await, "1");
    assert_eq!(site.metric("filmgate_unmanaged_pods{node=\"n1\"}").await, "0");
    let theirs = site.get("/explain?pod=default/theirs").await.json();
    assert_eq!((&theirs["isUnmanaged"], &theirs["claim"]), (&json!(true), &json!("bound")));
    let ours = site.get("/explain?pod=default/ours").await.json();
    assert_eq!(ours["isUnmanaged"], false);
    let n0 = ours["nodes"].as_array().unwrap().iter().find(|node| node["node"] == "n0").unwrap();
    let tenant = &n0["gpus"][1]["tenants"][0];
    assert_eq!(tenant["pod"], "default/theirs");
    assert_eq!(tenant["isUnmanaged"], true);
}

#[tokio::test]
async fn a_second_scheduler_of_the_same_name_is_told_of() {
    let site = Site::with(&[n0()]);
    let metric = "filmgate_pods_bound_by_another_total";
    site.add(&asking("ours", "4Gi"));
    assert_eq!(site.bind("ours", "n0").await, "");
    site.add(&bound(asking("ours", "4Gi"), "n0"));
    site.add(&bound(asking("never-waited", "4Gi"), "n0"));
    let mut elsewhere = asking("elsewhere", "4Gi");
    elsewhere["spec"]["schedulerName"] = json!("default-scheduler");
    site.add(&elsewhere);
    site.add(&bound(elsewhere, "n0"));
    assert!(told(&site).is_empty());
    assert_eq!(site.metric(metric).await, "0");

    site.add(&asking("theirs", "4Gi"));
    site.add(&bound(asking("theirs", "4Gi"), "n0"));
    assert_eq!(told(&site), [("theirs".to_owned(), "BoundByAnother")]);
    assert_eq!(site.metric(metric).await, "1");
}

/// Who observes lets pods be bound that it would have refused.
#[tokio::test]
async fn who_observes_says_nothing_of_pods_that_it_let_pass() {
    let site = Site::observing(&[n0()]);
    site.add(&asking("theirs", "4Gi"));
    site.add(&bound(asking("theirs", "4Gi"), "n0"));
    assert!(told(&site).is_empty());
}

#[tokio::test]
async fn an_annotation_that_only_filmgate_writes_is_ignored_and_told() {
    let site = Site::with(&[n0()]);
    let preset = carrying(asking("p", "12Gi"), "filmgate.dev/gpu", "GPU-x");
    site.add(&carrying(preset, "filmgate.dev/wake", "now"));
    assert_eq!(told(&site), [("p".to_owned(), "ForgedAnnotations")]);
    assert_eq!(site.metric("filmgate_forged_annotations_total").await, "2");
    assert_eq!(site.bind("p", "n0").await, "");
    let sent = site.script.sent().remove(0).admission.annotations;
    assert!(sent.contains(&("filmgate.dev/gpu".to_owned(), "GPU-n0-0".to_owned())), "{sent:?}");
}

#[tokio::test]
async fn growth_past_the_charge_is_counted_and_told() {
    let site = Site::with(&[n0()]);
    site.add(&asking("p", "4Gi"));
    site.bind("p", "n0").await;
    let series =
        "filmgate_pod_over_charge_bytes{namespace=\"default\",pod=\"p\",node=\"n0\",gpu=\"0\"}";
    assert!(!site.ops("/metrics").await.text.contains(series));
    site.read(&n0().uses("p", 0, 9));
    site.gate.round();
    let notices = site.script.notices();
    let [(_, reason, text)] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!(*reason, "GrewPastCharge");
    assert_eq!(text, "holds 9.0 GiB on n0 GPU 0 and is charged 4.0 GiB: 5.0 GiB past its charge");
    assert_eq!(site.metric(series).await, (5_u64 << 30).to_string());
    assert_eq!(site.metric("filmgate_pods_grown_past_charge_total").await, "1");
    let explained = site.get("/explain?pod=default/p").await.json();
    assert_eq!(explained["nodes"][0]["gpus"][0]["tenants"], json!([]), "its own is left out");
    site.add(&asking("q", "4Gi"));
    let explained = site.get("/explain?pod=default/q").await.json();
    let tenant = &explained["nodes"][0]["gpus"][0]["tenants"][0];
    assert_eq!(tenant["overChargeBytes"], 5_u64 << 30);
    site.read(&n0().uses("p", 0, 4));
    assert!(!site.ops("/metrics").await.text.contains(series));
}

#[tokio::test]
async fn hits_and_misses_are_counted_and_a_stray_is_told() {
    let site = Site::with(&[n0()]);
    for name in ["hit", "miss"] {
        site.add(&asking(name, "4Gi"));
        site.bind(name, "n0").await;
    }
    site.read(&n0().uses("hit", 0, 4).uses("miss", 1, 4));
    let [text] = strays(&site).try_into().unwrap();
    for why in ["sent to GPU 0 of n0 and is on GPU 1", "cdi-", "volume-mounts", "privileged"] {
        assert!(text.contains(why), "{why}: {text}");
    }
    assert_eq!(site.metric("filmgate_gpu_prediction_total{result=\"hit\"}").await, "1");
    assert_eq!(site.metric("filmgate_gpu_prediction_total{result=\"miss\"}").await, "1");
}

#[tokio::test]
async fn a_wrong_prediction_is_told_as_one_and_not_as_a_runtime_that_does_not_obey() {
    let site = Site::with(&[n0()]);
    let mut unsteered = asking("p", "4Gi");
    unsteered["spec"]["containers"][0]["env"] = json!([]);
    site.add(&bound(asking("neighbour", "4Gi"), "n0"));
    let book = n0().lists("neighbour", 0);
    site.read(&book);
    site.add(&unsteered);
    assert_eq!(site.bind("p", "n0").await, "");
    site.read(&book.lists("p", 0));
    let [text] = strays(&site).try_into().unwrap();
    assert!(text.contains("sent to GPU 1 of n0 and is on GPU 0"), "{text}");
    assert!(text.contains("devicePlugin.allocation") && !text.contains("cdi"), "{text}");
}

#[tokio::test]
async fn only_who_answers_tells() {
    let site = Site::with(&[n0()]);
    site.gate.set_ready(false);
    site.add(&carrying(asking("p", "12Gi"), "filmgate.dev/gpu", "GPU-x"));
    assert_eq!(told(&site), []);
    site.gate.set_ready(true);
    assert_eq!(told(&site).len(), 1);
}

#[tokio::test]
async fn what_became_of_wakes_and_events_is_counted() {
    let site = Site::with(&[]);
    for (series, value) in [
        ("filmgate_wake_writes_total{outcome=\"sent\"}", "7"),
        ("filmgate_wake_writes_total{outcome=\"failed\"}", "2"),
        ("filmgate_wake_writes_total{outcome=\"dropped\"}", "1"),
        ("filmgate_event_writes_total{outcome=\"sent\"}", "3"),
    ] {
        assert_eq!(site.metric(series).await, value);
    }
}
