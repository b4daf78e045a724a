//! The checklist of the AI film pipeline's deployment. Where its namespace is not, nothing of it is
//! looked at.

mod parts;
mod web;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

pub(super) use parts::{ingress, secrets, volumes, workloads};
pub(super) use web::{comfyui, dagster};

use crate::doctor::finding::{Outcome, Verdict};
use crate::doctor::ground::{Ground, get};

/// Whether the pipeline's namespace exists. The rest of the group depends on it.
pub(super) async fn namespace(ground: &Ground) -> Outcome {
    let name = &ground.place.pipeline;
    let namespace: Option<Namespace> = get(&Api::all(ground.client.clone()), name).await?;
    Ok(vec![judge_namespace(namespace.as_ref(), name)])
}

fn judge_namespace(namespace: Option<&Namespace>, name: &str) -> Verdict {
    match namespace {
        None => Verdict::skipped(format!("no namespace {name}: the pipeline is not deployed here")),
        Some(one) if one.metadata.deletion_timestamp.is_some() => Verdict::fail(
            format!("namespace {name} is being deleted"),
            format!("kubectl get namespace {name} -o jsonpath={{.status.conditions}}"),
        ),
        Some(_) => Verdict::ok(format!("namespace {name} exists")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_namespace_that_goes_is_none() {
        let namespace =
            |metadata| serde_json::from_value::<Namespace>(json!({"metadata": metadata})).unwrap();
        let there = namespace(json!({"name": "n"}));
        let going = namespace(json!({"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!(judge_namespace(None, "n").level, Level::Skipped);
        assert_eq!(judge_namespace(Some(&there), "n").level, Level::Ok);
        assert_eq!(judge_namespace(Some(&going), "n").level, Level::Fail);
    }
}
