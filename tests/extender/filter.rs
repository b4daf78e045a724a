//! Filter.

use filmgate::engine::{Policy, Reason, StalePolicy};
use filmgate::extender::GateSettings;
use serde_json::json;

use crate::site::{Site, asking, exclusive, plain};
use crate::support::node;

fn three() -> Site {
    Site::with(&[
        node("full").gpus(1).foreign(0, 20),
        node("roomy").gpus(1),
        node("roomier").gpus(2),
    ])
}

#[tokio::test]
async fn lets_pass_where_the_measured_memory_suffices() {
    let site = three();
    let answer = site.filter(&asking("p", "12Gi"), &["full", "roomy", "roomier"]).await;
    assert_eq!(answer["NodeNames"], json!(["roomy", "roomier"]));
    assert_eq!(answer["FailedAndUnresolvableNodes"], json!({"full": "not enough free VRAM"}));
    assert_eq!(answer["FailedNodes"], json!({}));
    assert_eq!(answer["Error"], "");
}

#[tokio::test]
async fn leaves_the_ledger_alone_where_several_nodes_remain() {
    let site = three();
    let before = site.state();
    site.filter(&asking("p", "12Gi"), &["full", "roomy", "roomier"]).await;
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn holds_the_node_that_alone_remains() {
    let site = three();
    assert_eq!(site.passing(&asking("p", "12Gi"), &["full", "roomy"]).await, ["roomy"]);
    assert!(site.is_held_on("p", "roomy"));
    assert_eq!(site.passing(&asking("q", "12Gi"), &["full", "roomy"]).await, [""; 0]);
}

#[tokio::test]
async fn a_pods_own_hold_is_not_in_its_way() {
    let site = three();
    for _ in 0..3 {
        assert_eq!(site.passing(&asking("p", "20Gi"), &["roomy"]).await, ["roomy"]);
    }
}

#[tokio::test]
async fn a_refusal_everywhere_puts_the_pod_in_the_line_and_says_why_once() {
    let site = three();
    let pod = asking("p", "40Gi");
    site.add(&pod);
    assert_eq!(site.passing(&pod, &["full", "roomy"]).await, [""; 0]);
    assert!(site.is_waiting("p"));
    let reports = site.script.reports();
    assert_eq!(
        reports,
        [(
            "p".to_owned(),
            "asked 40.0 GiB (declared); most free: 23.5 of 24.0 GiB on roomy GPU 0: 0.0 pods, \
             0.0 foreign, 0.0 held; read 0.0 s ago"
                .to_owned()
        )]
    );
}

#[tokio::test]
async fn what_is_said_of_equal_gpus_does_not_depend_on_the_order_of_the_offer() {
    let site = Site::with(&["n0", "n1", "n2"].map(|name| node(name).gpus(2)));
    let pod = asking("p", "40Gi");
    for offer in [["n0", "n1", "n2"], ["n1", "n2", "n0"], ["n2", "n0", "n1"]] {
        site.filter(&pod, &offer).await;
    }
    let reports = site.script.reports();
    assert!(reports[0].1.contains("on n0 GPU"), "{reports:?}");
    assert!(reports.iter().all(|report| *report == reports[0]), "{reports:?}");
}

#[tokio::test]
async fn a_pod_of_which_nothing_is_to_be_said_waits_in_silence() {
    let site = three();
    let pod = asking("p", "40Gi");
    site.add(&pod);
    site.script.want_refusals(false);
    site.filter(&pod, &["full", "roomy"]).await;
    assert!(site.is_waiting("p"));
    assert_eq!(site.script.reports(), []);
    site.script.want_refusals(true);
    site.filter(&pod, &["full", "roomy"]).await;
    assert_eq!(site.script.reports().len(), 1);
}

#[tokio::test]
async fn a_pod_that_fits_again_leaves_the_line() {
    let site = three();
    let pod = asking("p", "12Gi");
    site.add(&pod);
    site.filter(&pod, &["full"]).await;
    assert!(site.is_waiting("p"));
    site.filter(&pod, &["roomy", "roomier"]).await;
    assert!(!site.is_waiting("p"));
}

#[tokio::test]
async fn the_texts_of_refusals_do_not_change_from_try_to_try() {
    let site = three();
    let first = site.filter(&asking("p", "40Gi"), &["full", "roomy"]).await;
    site.read(&node("full").gpus(1).foreign(0, 7));
    let second = site.filter(&asking("p", "40Gi"), &["full", "roomy"]).await;
    assert_eq!(first["FailedAndUnresolvableNodes"], second["FailedAndUnresolvableNodes"]);
}

#[tokio::test]
async fn only_the_nominated_node_is_refused_as_one_where_preemption_may_help() {
    let site = three();
    let mut pod = asking("p", "40Gi");
    pod["status"]["nominatedNodeName"] = json!("roomy");
    let answer = site.filter(&pod, &["full", "roomy"]).await;
    assert_eq!(answer["FailedNodes"], json!({"roomy": "not enough free VRAM"}));
    assert_eq!(answer["FailedAndUnresolvableNodes"], json!({"full": "not enough free VRAM"}));
}

#[tokio::test]
async fn a_pod_without_a_gpu_passes_everywhere_and_leaves_no_trace() {
    let site = three();
    let before = site.state();
    let names = ["full", "nowhere", "roomy"];
    assert_eq!(site.passing(&plain("p"), &names).await, names);
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn nothing_is_said_before_everything_is_known() {
    let site = three();
    site.gate.set_ready(false);
    let before = site.state();
    let answer = site.filter(&asking("p", "12Gi"), &["roomy"]).await;
    assert_eq!(answer["Error"], "filmgate is not ready yet: it has not seen all pods and nodes");
    assert_eq!((&answer["NodeNames"], &answer["FailedNodes"]), (&json!(null), &json!({})));
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn full_nodes_come_back_as_they_came() {
    let site = three();
    let one = json!({"metadata": {"name": "roomy", "labels": {"a": "b"}}, "status": {"x": [1, 2]}});
    let other = json!({"metadata": {"name": "full"}});
    let body = json!({
        "Pod": asking("p", "12Gi"),
        "Nodes": {"metadata": {}, "items": [one, other]},
        "NodeNames": null
    });
    let answer = site.verb("/filter", &body).await;
    assert_eq!(answer["Nodes"], json!({"metadata": {}, "items": [one]}));
    assert_eq!(answer["NodeNames"], json!(null));
    assert_eq!(answer["FailedAndUnresolvableNodes"], json!({"full": "not enough free VRAM"}));
    assert!(site.is_held_on("p", "roomy"));
}

#[tokio::test]
async fn the_name_of_a_full_node_is_found_wherever_it_stands() {
    let site = three();
    let item = r#"{"spec":{"name":"no"},"metadata":{"labels":{"name":"no"},"name":"roomy"}}"#;
    let body = format!(
        r#"{{"Nodes":{{"items":[{item}]}},"Pod":{},"NodeNames":null}}"#,
        asking("p", "12Gi")
    );
    let answer = site.post("/filter", body).await;
    assert!(answer.text.contains(item), "verbatim: {}", answer.text);
}

#[tokio::test]
async fn a_node_that_was_never_read_is_refused() {
    let site = three();
    site.gate.apply_node(node("new").facts);
    let answer = site.filter(&asking("p", "1Gi"), &["new"]).await;
    assert_eq!(answer["FailedAndUnresolvableNodes"], json!({"new": Reason::NeverRead.text()}));
}

#[tokio::test]
async fn a_stale_node_is_refused_under_the_policy_reject_only() {
    for (policy, passes) in [(StalePolicy::Reject, false), (StalePolicy::Declared, true)] {
        let policy = Policy { stale_policy: policy, ..Policy::default() };
        let site = Site::governed_by(policy, &[node("n0").gpus(1), node("n1").gpus(1)]);
        site.clock.advance(std::time::Duration::from_secs(11));
        let passing = site.passing(&asking("p", "12Gi"), &["n0", "n1"]).await;
        assert_eq!(passing.is_empty(), !passes);
    }
}

#[tokio::test]
async fn observing_refuses_nobody_and_counts_whom_it_would() {
    let site = Site::observing(&[node("full").gpus(1).foreign(0, 20)]);
    let (pod, before) = (asking("p", "12Gi"), site.state());
    let names = ["full", "nowhere"];
    assert_eq!(site.passing(&pod, &names).await, names);
    assert_eq!(site.passing(&asking("q", "12GiB"), &["full"]).await, ["full"]);
    assert_eq!(site.state(), before);
    assert!(site.script.reports().is_empty());
    let counted = |reason| format!("filmgate_observed_refusals_total{{reason=\"{reason}\"}}");
    assert_eq!(site.metric(&counted("not_enough_vram")).await, "1");
    assert_eq!(site.metric(&counted("unknown_node")).await, "1");
    assert_eq!(site.metric(&counted("bad_request")).await, "1");
    assert_eq!(site.metric("filmgate_refusals_total{reason=\"not_enough_vram\"}").await, "0");
}

#[tokio::test]
async fn the_configured_default_stands_in_for_what_a_pod_does_not_declare() {
    let used = node("n0").gpus(1).foreign(0, 12);
    let site = Site::with(std::slice::from_ref(&used));
    assert_eq!(site.passing(&exclusive("p"), &["n0"]).await, [""; 0]);
    let default_vram = Some(filmgate::engine::Bytes::gib(8));
    let site = Site::under(GateSettings { default_vram, ..GateSettings::default() }, &[used]);
    assert_eq!(site.passing(&exclusive("p"), &["n0"]).await, ["n0"]);
}
