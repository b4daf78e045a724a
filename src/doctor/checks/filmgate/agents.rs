//! An agent on every GPU node: running, heard of late, and able to tell pods' memory apart.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;

use super::{AGENTS, has_gpu, is_ready, some_of};
use crate::doctor::finding::{Outcome, Verdict};
use crate::doctor::ground::Ground;
use crate::top::answer::Fleet;

/// Whether an agent runs on every GPU node, and whether the extender hears it.
pub(in super::super) async fn agents(ground: &Ground) -> Outcome {
    let namespace = &ground.place.filmgate;
    let pods = ground.pods(namespace, AGENTS).await?;
    let mut verdicts = judge_pods(ground.nodes().await?, &pods, namespace);
    match ground.fleet().await {
        Ok(fleet) => verdicts.extend(judge_readings(fleet, namespace)),
        Err(unmade) => verdicts.push(Verdict::skipped(format!("readings: {unmade}"))),
    }
    Ok(verdicts)
}

fn judge_pods(nodes: &[Node], pods: &[Pod], namespace: &str) -> Vec<Verdict> {
    let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let has_agent: BTreeSet<_> = pods.iter().filter_map(node_of).collect();
    let with_gpus: Vec<_> = nodes.iter().filter(|node| has_gpu(node)).map(Node::name_any).collect();
    let without: Vec<_> =
        with_gpus.iter().filter(|node| !has_agent.contains(*node)).cloned().collect();
    let unready: Vec<_> = pods.iter().filter(|pod| !is_ready(pod)).map(Pod::name_any).collect();
    let mut verdicts = Vec::new();
    if !without.is_empty() {
        verdicts.push(Verdict::fail(
            format!("no agent on {}: pods are refused there", some_of(&without)),
            format!("kubectl -n {namespace} describe daemonset filmgate-agent"),
        ));
    }
    if !unready.is_empty() {
        verdicts.push(Verdict::fail(
            format!("agents that are not ready: {}", some_of(&unready)),
            format!("kubectl -n {namespace} logs {} --tail=20", unready[0]),
        ));
    }
    if verdicts.is_empty() {
        verdicts
            .push(Verdict::ok(format!("an agent is ready on all {} GPU nodes", with_gpus.len())));
    }
    verdicts
}

fn judge_readings(fleet: &Fleet, namespace: &str) -> Vec<Verdict> {
    let troubled = fleet.nodes.iter().filter_map(|node| {
        let trouble = node.trouble.as_ref()?;
        let age = node.reading_age_seconds;
        let age = age.map_or("never read".to_owned(), |age| format!("read {age:.0} s ago"));
        Some(Verdict::fail(
            format!("{}: {} ({age})", node.node, trouble.text),
            format!(
                "kubectl -n {namespace} get pods -l {AGENTS} -o wide --field-selector spec.nodeName={}",
                node.node
            ),
        ))
    });
    let verdicts: Vec<_> = troubled.collect();
    if !verdicts.is_empty() {
        return verdicts;
    }
    let ages = fleet.nodes.iter().filter_map(|node| node.reading_age_seconds);
    let oldest = ages.fold(0.0, f64::max);
    vec![Verdict::ok(format!("{} nodes are read, {oldest:.1} s ago or less", fleet.nodes.len()))]
}

/// Whether memory can be told apart by pod on every node.
pub(in super::super) async fn attribution(ground: &Ground) -> Outcome {
    Ok(judge_attribution(ground.fleet().await?, &ground.place.filmgate))
}

fn judge_attribution(fleet: &Fleet, namespace: &str) -> Vec<Verdict> {
    let degraded = fleet.nodes.iter().filter_map(|node| {
        let why = node.unattributed.as_ref()?;
        Some(Verdict::warn(
            format!("{}: {why}; one pod per GPU is admitted there", node.node),
            format!(
                "kubectl -n {namespace} get daemonset filmgate-agent -o yaml | grep -A3 hostPID"
            ),
        ))
    });
    let verdicts: Vec<_> = degraded.collect();
    if verdicts.is_empty() {
        let count = fleet.nodes.len();
        return vec![Verdict::ok(format!("memory is told apart by pod on all {count} nodes"))];
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::finding::Level;
    use crate::explain::answer::Refusal;

    const FLEET: &str = include_str!("../../../../tests/extender/golden/fleet.json");

    fn nodes() -> Vec<Node> {
        let node = |name: &str, devices| json!({"metadata": {"name": name}, "status": {"allocatable": devices}});
        let nodes = json!([
            node("gpu-1", json!({"nvidia.com/gpu": "1"})),
            node("gpu-2", json!({"nvidia.com/gpu": "1"})),
            node("cpu", json!({"cpu": "1"})),
        ]);
        serde_json::from_value(nodes).unwrap()
    }

    fn agent(node: &str, ready: &str) -> Pod {
        let pod = json!({
            "metadata": {"name": format!("agent-{node}")}, "spec": {"containers": [], "nodeName": node},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn every_gpu_node_has_a_ready_agent() {
        let both = [agent("gpu-1", "True"), agent("gpu-2", "True")];
        assert_eq!(judge_pods(&nodes(), &both, "f")[0].level, Level::Ok);
        let one = judge_pods(&nodes(), &both[..1], "f");
        assert_eq!(one[0].level, Level::Fail);
        assert!(one[0].found.contains("no agent on gpu-2:"), "{}", one[0].found);
        let sick = [agent("gpu-1", "True"), agent("gpu-2", "False")];
        let sick = judge_pods(&nodes(), &sick, "f");
        assert_eq!(sick[0].mend.as_deref(), Some("kubectl -n f logs agent-gpu-2 --tail=20"));
    }

    #[test]
    fn readings_are_fresh_and_whole() {
        let mut fleet: Fleet = serde_json::from_str(FLEET).unwrap();
        assert_eq!(judge_readings(&fleet, "f")[0].level, Level::Ok);
        assert_eq!(judge_attribution(&fleet, "f")[0].level, Level::Ok);
        fleet.nodes[0].trouble = Some(Refusal { text: "no fresh GPU telemetry".to_owned() });
        fleet.nodes[0].reading_age_seconds = Some(31.0);
        fleet.nodes[1].unattributed = Some("no hostPID".to_owned());
        let stale = judge_readings(&fleet, "f");
        assert_eq!(stale[0].level, Level::Fail);
        assert_eq!(stale[0].found, "gpu-1: no fresh GPU telemetry (read 31 s ago)");
        let degraded = judge_attribution(&fleet, "f");
        assert_eq!(degraded[0].level, Level::Warn);
        assert!(degraded[0].found.starts_with("gpu-2: no hostPID"));
    }
}
