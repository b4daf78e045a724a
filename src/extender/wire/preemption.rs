//! `ExtenderPreemptionArgs` and `ExtenderPreemptionResult`.
//!
//! Victims come as UIDs (`nodeCacheCapable: true`) or as full pods. The reply names UIDs in both
//! cases. In it kube-scheduler fails the whole call over a node without victims, and over a UID
//! that it does not find on the node.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::engine::{Candidate, NodeName, PodUid, Victim};

/// `ExtenderPreemptionArgs`: the body of preempt.
#[derive(Debug, Deserialize)]
pub struct PreemptionArgs<'a> {
    /// The pod, unparsed.
    #[serde(rename = "Pod", borrow, default)]
    pub pod: Option<&'a RawValue>,
    /// Victims as full pods (`nodeCacheCapable: false`).
    #[serde(rename = "NodeNameToVictims", default)]
    pub victims: Option<BTreeMap<String, Victims<VictimPod>>>,
    /// Victims as UIDs (`nodeCacheCapable: true`).
    #[serde(rename = "NodeNameToMetaVictims", default)]
    pub meta_victims: Option<BTreeMap<String, Victims<MetaPod>>>,
}

/// `Victims` and `MetaVictims`.
#[derive(Debug, Deserialize, Serialize)]
pub struct Victims<P> {
    /// Who would have to leave, the highest priority first.
    #[serde(rename = "Pods")]
    pub pods: Option<Vec<P>>,
    /// How many of them a `PodDisruptionBudget` protects.
    #[serde(rename = "NumPDBViolations", default)]
    pub pdb_violations: i64,
}

/// `MetaPod`.
#[derive(Debug, Deserialize, Serialize)]
pub struct MetaPod {
    /// `metadata.uid`.
    #[serde(rename = "UID")]
    pub uid: String,
}

/// A victim as a full pod, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub struct VictimPod {
    metadata: VictimMetadata,
    #[serde(default)]
    spec: Option<VictimSpec>,
    #[serde(default)]
    status: Option<VictimStatus>,
}

#[derive(Debug, Deserialize)]
struct VictimMetadata {
    #[serde(default)]
    uid: String,
}

#[derive(Debug, Deserialize)]
struct VictimSpec {
    #[serde(default)]
    priority: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct VictimStatus {
    #[serde(rename = "startTime", default)]
    start_time: Option<Time>,
}

/// Why the candidates cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCandidates {
    /// Neither map is there.
    #[error("it has neither NodeNameToMetaVictims nor NodeNameToVictims")]
    NoMap,
    /// A victim without a UID.
    #[error("a victim on node {0} has no UID")]
    NoUid(String),
}

impl PreemptionArgs<'_> {
    /// kube-scheduler's candidates, in the order of their names: UIDs where there are some, else
    /// full pods.
    ///
    /// # Errors
    /// Where there are neither, or a victim has no UID.
    pub fn candidates(self) -> Result<Vec<Candidate>, NoCandidates> {
        match (self.meta_victims, self.victims) {
            (Some(nodes), _) => candidates(nodes),
            (None, Some(nodes)) => candidates(nodes),
            (None, None) => Err(NoCandidates::NoMap),
        }
    }
}

fn candidates<P: Into<Victim>>(
    nodes: BTreeMap<String, Victims<P>>,
) -> Result<Vec<Candidate>, NoCandidates> {
    let candidate = |(node, victims): (String, Victims<P>)| {
        let pods = victims.pods.unwrap_or_default();
        let pods: Vec<Victim> = pods.into_iter().map(Into::into).collect();
        if pods.iter().any(|victim| victim.uid.as_str().is_empty()) {
            return Err(NoCandidates::NoUid(node));
        }
        let pdb_violations = victims.pdb_violations;
        Ok(Candidate { node: NodeName::from(node), victims: pods, pdb_violations })
    };
    nodes.into_iter().map(candidate).collect()
}

impl From<MetaPod> for Victim {
    fn from(pod: MetaPod) -> Self {
        Self { uid: PodUid::from(pod.uid), priority: None, started_at: None }
    }
}

impl From<VictimPod> for Victim {
    /// Without a priority class a pod has priority 0, as kube-scheduler counts.
    fn from(pod: VictimPod) -> Self {
        let started = pod.status.and_then(|status| status.start_time);
        Self {
            uid: PodUid::from(pod.metadata.uid),
            priority: Some(pod.spec.and_then(|spec| spec.priority).unwrap_or(0)),
            started_at: started.map(|started| started.0.as_second()),
        }
    }
}

/// `ExtenderPreemptionResult`.
#[derive(Debug, Default, Serialize)]
pub struct PreemptionResult {
    /// Whom to evict where.
    #[serde(rename = "NodeNameToMetaVictims")]
    pub nodes: BTreeMap<String, Victims<MetaPod>>,
}

impl PreemptionResult {
    /// Answers these candidates, but for those that have nobody to evict.
    pub fn of<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Self {
        let clears = |candidate: &&Candidate| !candidate.victims.is_empty();
        let entry = |candidate: &Candidate| {
            let victims = candidate.victims.iter();
            let pods = victims.map(|victim| MetaPod { uid: victim.uid.to_string() }).collect();
            let victims = Victims { pods: Some(pods), pdb_violations: candidate.pdb_violations };
            (candidate.node.to_string(), victims)
        };
        Self { nodes: candidates.into_iter().filter(clears).map(entry).collect() }
    }
}
