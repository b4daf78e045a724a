//! What people call the pods of one owner.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// The label with which a Deployment, or what is made after it, ends its ReplicaSets' names.
const HASH_LABEL: &str = "pod-template-hash";
/// A CronJob ends its Jobs' names with the minutes since 1970: eight digits from 1989 to 2160.
const MINUTES_DIGITS: usize = 8;

/// The pod's workload: the Deployment of its ReplicaSet, the CronJob of its Job, else its owner,
/// else the pod itself. Told by names alone, so a ReplicaSet or Job that somebody named as a
/// controller would is taken for that controller's.
#[must_use]
pub(super) fn workload(pod: &Pod) -> Arc<str> {
    let name = pod.metadata.name.as_deref().unwrap_or("");
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
    // A static pod is its node's.
    let owner = owner.filter(|owner| owner.kind != "Node" && !owner.name.is_empty());
    Arc::from(owner.map_or(name, |owner| above(owner, pod)))
}

fn above<'a>(owner: &'a OwnerReference, pod: &Pod) -> &'a str {
    let name = owner.name.as_str();
    let labels = pod.metadata.labels.as_ref();
    let parent = match owner.kind.as_str() {
        "ReplicaSet" => labels
            .and_then(|labels| labels.get(HASH_LABEL))
            .and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-')),
        "Job" => name.rsplit_once('-').filter(|(_, end)| is_minutes(end)).map(|(name, _)| name),
        _ => None,
    };
    parent.filter(|parent| !parent.is_empty()).unwrap_or(name)
}

fn is_minutes(end: &str) -> bool {
    end.len() == MINUTES_DIGITS && end.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(owner: Value, labels: Value) -> String {
        let pod = json!({"metadata": {
            "name": "pod-1", "labels": labels, "ownerReferences": owner,
        }});
        workload(&serde_json::from_value(pod).unwrap()).to_string()
    }

    fn owned(kind: &str, name: &str, labels: Value) -> String {
        let owner = json!([
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "u0"},
            {"apiVersion": "v1", "kind": kind, "name": name, "uid": "u1", "controller": true},
        ]);
        of(owner, labels)
    }

    #[test]
    fn a_pod_of_a_deployment_is_the_deployments() {
        let hash = json!({"pod-template-hash": "5d59d67564"});
        assert_eq!(owned("ReplicaSet", "comfy-ui-5d59d67564", hash.clone()), "comfy-ui");
        assert_eq!(owned("ReplicaSet", "by-hand", hash), "by-hand");
        assert_eq!(owned("ReplicaSet", "by-hand-5d59d67564", json!({})), "by-hand-5d59d67564");
    }

    #[test]
    fn a_run_of_a_cron_job_is_the_cron_jobs() {
        assert_eq!(owned("Job", "nightly-29391840", json!({})), "nightly");
        assert_eq!(owned("Job", "train-2026", json!({})), "train-2026");
        assert_eq!(owned("Job", "-29391840", json!({})), "-29391840");
    }

    #[test]
    fn other_owners_give_their_name() {
        assert_eq!(owned("StatefulSet", "studio", json!({})), "studio");
        assert_eq!(owned("RayCluster", "ray", json!({})), "ray");
    }

    #[test]
    fn a_pod_without_a_controller_is_its_own_workload() {
        assert_eq!(of(json!(null), json!({})), "pod-1");
        let mere_owner = json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u"}]);
        assert_eq!(of(mere_owner, json!({})), "pod-1");
        assert_eq!(owned("Node", "gpu-7", json!({})), "pod-1");
    }
}
