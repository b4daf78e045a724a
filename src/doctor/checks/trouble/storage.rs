//! Volumes that are nearly full, by the kubelet's own figures, and whether they can grow.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use http::Request;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, ResourceExt as _};
use serde::Deserialize;

use crate::doctor::finding::{Outcome, Unmade, Verdict};
use crate::doctor::ground::{Ground, list, unmade};
use crate::engine::Bytes;

/// In percent of the volume.
const NEARLY_FULL: u64 = 80;
const FULL: u64 = 95;
/// A volume is made larger by half.
const GROWTH_PERCENT: u64 = 150;

/// How full each of the pipeline's volumes is.
pub(in super::super) async fn storage(ground: &Ground) -> Outcome {
    let namespace = &ground.place.pipeline;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(ground.client.clone(), namespace);
    let claims = list(&claims, "").await?;
    if claims.is_empty() {
        return Ok(vec![Verdict::skipped(format!("no claims in {namespace}"))]);
    }
    let pods = ground.pods(namespace, "").await?;
    let node_of = |pod: &k8s_openapi::api::core::v1::Pod| pod.spec.as_ref()?.node_name.clone();
    let nodes: BTreeSet<String> = pods.iter().filter_map(node_of).collect();
    let asked = join_all(nodes.iter().map(|node| summary(ground, node))).await;
    let mut usage = BTreeMap::new();
    let mut verdicts = Vec::new();
    for (node, answer) in nodes.iter().zip(asked) {
        match answer {
            Ok(summary) => usage.extend(usage_of(summary, namespace)),
            Err(unmade) => {
                verdicts.push(Verdict::skipped(format!("the kubelet of {node}: {unmade}")));
            }
        }
    }
    // Without the right to read classes, whether a volume can grow is not known.
    let classes: Vec<StorageClass> =
        list(&Api::all(ground.client.clone()), "").await.unwrap_or_default();
    verdicts.extend(judge(&claims, &usage, &classes, namespace));
    Ok(verdicts)
}

/// The kubelet's `/stats/summary`, as far as it is about volumes.
#[derive(Debug, Deserialize)]
struct Summary {
    #[serde(default)]
    pods: Vec<PodStats>,
}

#[derive(Debug, Deserialize)]
struct PodStats {
    #[serde(default)]
    volume: Vec<VolumeStats>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeStats {
    pvc_ref: Option<PvcRef>,
    used_bytes: Option<u64>,
    available_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct PvcRef {
    name: String,
    namespace: String,
}

/// Of one volume, in bytes. What is reserved for root counts as neither.
#[derive(Debug, Clone, Copy)]
struct Usage {
    used: u64,
    available: u64,
}

impl Usage {
    fn percent(self) -> u64 {
        let all = u128::from(self.used) + u128::from(self.available);
        let percent = (u128::from(self.used) * 100).checked_div(all).unwrap_or(0);
        u64::try_from(percent).unwrap_or(100)
    }
}

async fn summary(ground: &Ground, node: &str) -> Result<Summary, Unmade> {
    let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
    let request = Request::get(path).body(Vec::new()).map_err(|error| Unmade(error.to_string()))?;
    ground.client.request(request).await.map_err(unmade)
}

fn usage_of(summary: Summary, namespace: &str) -> BTreeMap<String, Usage> {
    let volumes = summary.pods.into_iter().flat_map(|pod| pod.volume);
    let own = volumes.filter_map(|volume| {
        let claim = volume.pvc_ref.filter(|claim| claim.namespace == namespace)?;
        let usage = Usage { used: volume.used_bytes?, available: volume.available_bytes? };
        Some((claim.name, usage))
    });
    own.collect()
}

fn judge(
    claims: &[PersistentVolumeClaim],
    usage: &BTreeMap<String, Usage>,
    classes: &[StorageClass],
    namespace: &str,
) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut fine = Vec::new();
    for claim in claims {
        let name = claim.name_any();
        match usage.get(&name) {
            None => verdicts.push(Verdict::skipped(format!("claim {name} is in no running pod"))),
            Some(usage) if usage.percent() < NEARLY_FULL => {
                fine.push(format!("{name} {} %", usage.percent()));
            }
            Some(usage) => verdicts.push(judge_full(claim, *usage, classes, namespace)),
        }
    }
    if !fine.is_empty() {
        verdicts.push(Verdict::ok(format!("room is left: {}", fine.join(", "))));
    }
    verdicts
}

fn judge_full(
    claim: &PersistentVolumeClaim,
    usage: Usage,
    classes: &[StorageClass],
    namespace: &str,
) -> Verdict {
    let name = claim.name_any();
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone());
    let class = class.unwrap_or_default();
    let grows = classes.iter().find(|one| one.name_any() == class);
    let can_grow = grows.and_then(|class| class.allow_volume_expansion) == Some(true);
    let percent = usage.percent();
    let free = Bytes::new(usage.available);
    let found = format!("claim {name} is {percent} % full, {free} are left");
    let (found, mend) = if can_grow {
        let size = gib_after_growth(usage);
        let patch =
            format!("{{\"spec\":{{\"resources\":{{\"requests\":{{\"storage\":\"{size}Gi\"}}}}}}}}");
        (found, format!("kubectl -n {namespace} patch pvc {name} -p '{patch}'"))
    } else {
        let found = format!("{found}; its class \"{class}\" does not let it grow");
        (
            found,
            format!(
                "kubectl -n {namespace} get pods -o wide # delete files in it, or move it to a larger claim"
            ),
        )
    };
    if percent >= FULL { Verdict::fail(found, mend) } else { Verdict::warn(found, mend) }
}

/// Rounded up.
fn gib_after_growth(usage: Usage) -> u64 {
    const GIB: u64 = 1 << 30;
    let all = usage.used.saturating_add(usage.available);
    (all / 100).saturating_mul(GROWTH_PERCENT).div_ceil(GIB).max(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::finding::Level;

    const GIB: u64 = 1 << 30;

    fn judged(used: u64, available: u64, grows: bool) -> Verdict {
        let claim =
            json!({"metadata": {"name": "images-pvc"}, "spec": {"storageClassName": "fast"}});
        let claim = serde_json::from_value(claim).unwrap();
        let class = json!({
            "metadata": {"name": "fast"}, "provisioner": "p", "allowVolumeExpansion": grows,
        });
        let class = serde_json::from_value(class).unwrap();
        let summary = json!({"pods": [{"volume": [
            {"name": "tmp", "usedBytes": 1, "availableBytes": 1},
            {"name": "v", "usedBytes": used, "availableBytes": available,
             "pvcRef": {"name": "images-pvc", "namespace": "n"}},
            {"name": "w", "usedBytes": 0, "availableBytes": 1,
             "pvcRef": {"name": "images-pvc", "namespace": "other"}},
        ]}, {}]});
        let usage = usage_of(serde_json::from_value(summary).unwrap(), "n");
        judge(&[claim], &usage, &[class], "n").remove(0)
    }

    #[test]
    fn a_volume_is_told_before_it_is_full() {
        for (used, available, level) in [
            (79, 21, Level::Ok),
            (80, 20, Level::Warn),
            (94, 6, Level::Warn),
            (95, 5, Level::Fail),
            (0, 0, Level::Ok),
            (u64::MAX, u64::MAX, Level::Ok),
        ] {
            assert_eq!(judged(used, available, true).level, level, "{used} {available}");
        }
    }

    #[test]
    fn one_that_can_grow_is_patched_to_half_as_much_again() {
        let full = judged(48 * GIB, 2 * GIB, true);
        let patch = "kubectl -n n patch pvc images-pvc -p \
                     '{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"75Gi\"}}}}'";
        assert_eq!(full.mend.as_deref(), Some(patch));
        let fixed = judged(48 * GIB, 2 * GIB, false);
        assert!(fixed.found.contains("does not let it grow"), "{}", fixed.found);
    }

    #[test]
    fn a_claim_without_figures_is_not_called_well() {
        let claim = serde_json::from_value(json!({"metadata": {"name": "c"}})).unwrap();
        assert_eq!(judge(&[claim], &BTreeMap::new(), &[], "n")[0].level, Level::Skipped);
    }
}
