//! What the device plugin offers on each node, and how it shares.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use super::{devices_of, has_gpu, some_of};
use crate::doctor::finding::{Outcome, Verdict};
use crate::doctor::ground::Ground;

/// NVIDIA's feature discovery writes these.
const STRATEGY: &str = "nvidia.com/gpu.sharing-strategy";
const REPLICAS: &str = "nvidia.com/gpu.replicas";
const COUNT: &str = "nvidia.com/gpu.count";

const PLUGIN: &str = "kubectl get pods -A -o wide | grep -i device-plugin";

/// Whether a device plugin offers every GPU, and how it shares them.
pub(in super::super) async fn device_plugin(ground: &Ground) -> Outcome {
    Ok(judge(ground.nodes().await?))
}

fn judge(nodes: &[Node]) -> Vec<Verdict> {
    let with_gpus: Vec<_> = nodes.iter().filter(|node| has_gpu(node)).collect();
    if with_gpus.is_empty() {
        let found = "no node offers nvidia.com/gpu: no device plugin runs, or there is no GPU";
        return vec![Verdict::fail(found, PLUGIN)];
    }
    let complaints: Vec<_> = with_gpus.iter().filter_map(|node| complaint(node)).collect();
    if !complaints.is_empty() {
        return complaints;
    }
    let mut by_strategy = BTreeMap::<&str, Vec<String>>::new();
    for node in with_gpus {
        by_strategy.entry(strategy(node)).or_default().push(node.name_any());
    }
    let told = by_strategy.iter();
    told.map(|(mode, names)| Verdict::ok(format!("{}: {}", words(mode), some_of(names)))).collect()
}

fn words(mode: &str) -> String {
    match mode {
        "none" => "not shared (a GPU takes one pod)".to_owned(),
        other => format!("shared by {other}"),
    }
}

fn strategy(node: &Node) -> &str {
    let labels = node.labels();
    match labels.get(STRATEGY) {
        Some(strategy) => strategy,
        None if number(node, REPLICAS).is_some_and(|replicas| replicas > 1) => "time-slicing",
        None => "none",
    }
}

fn number(node: &Node, label: &str) -> Option<u64> {
    node.labels().get(label)?.parse().ok()
}

fn complaint(node: &Node) -> Option<Verdict> {
    let name = node.name_any();
    let on_node = || format!("{PLUGIN} | grep {name}");
    let devices = devices_of(node);
    if devices.values().all(|count| *count == 0) {
        let why = match devices.is_empty() {
            true => "has a GPU by its labels, and no device plugin offers it",
            false => "offers none of its GPUs: they are unhealthy, or the device plugin is gone",
        };
        return Some(Verdict::fail(format!("{name} {why}"), on_node()));
    }
    let offered = devices.get("nvidia.com/gpu").or_else(|| devices.get("nvidia.com/gpu.shared"))?;
    let expected = number(node, COUNT)? * number(node, REPLICAS).unwrap_or(1).max(1);
    (*offered < expected).then(|| {
        let found = format!("{name} offers {offered} of {expected} devices: some are unhealthy");
        Verdict::warn(found, format!("kubectl describe node {name}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::finding::Level;

    fn node(labels: serde_json::Value, devices: serde_json::Value) -> Node {
        let node = json!({
            "metadata": {"name": "n", "labels": labels}, "status": {"allocatable": devices},
        });
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn says_how_gpus_are_shared() {
        let labels = json!({STRATEGY: "time-slicing", REPLICAS: "4", COUNT: "2"});
        let verdicts = judge(&[node(labels, json!({"nvidia.com/gpu": "8", "cpu": "4"}))]);
        assert_eq!(verdicts, [Verdict::ok("shared by time-slicing: n")]);
        let verdicts = judge(&[node(json!({}), json!({"nvidia.com/gpu": "1"}))]);
        assert_eq!(verdicts, [Verdict::ok("not shared (a GPU takes one pod): n")]);
        let mps = node(json!({STRATEGY: "mps"}), json!({"nvidia.com/gpu": "8"}));
        let plain = node(json!({}), json!({"nvidia.com/gpu": "1"}));
        assert_eq!(judge(&[mps, plain]).len(), 2, "each way is told");
    }

    #[test]
    fn a_gpu_that_nobody_offers_is_a_failure() {
        for (labels, devices) in [
            (json!({"nvidia.com/gpu.present": "true"}), json!({"cpu": "4"})),
            (json!({}), json!({"nvidia.com/gpu": "0"})),
        ] {
            assert_eq!(judge(&[node(labels, devices)])[0].level, Level::Fail);
        }
        let plain = node(json!({"nvidia.com/gpu.present": "false"}), json!({"cpu": "4"}));
        assert!(judge(&[plain])[0].found.starts_with("no node offers"));
    }

    #[test]
    fn devices_that_are_missing_are_counted() {
        let labels = json!({REPLICAS: "4", COUNT: "2"});
        let verdicts = judge(&[node(labels, json!({"nvidia.com/gpu": "7"}))]);
        assert_eq!(verdicts[0].level, Level::Warn);
        assert!(verdicts[0].found.contains("7 of 8"));
    }

    #[test]
    fn mig_instances_are_devices() {
        let verdicts = judge(&[node(json!({}), json!({"nvidia.com/mig-1g.10gb": "7"}))]);
        assert_eq!(verdicts[0].level, Level::Ok);
    }
}
