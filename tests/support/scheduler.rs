//! The configuration under which a test's kube-scheduler runs.

use std::path::Path;

use serde_json::{Value, json};

/// The schedulerName that filmgate's pods carry.
pub const SCHEDULER_NAME: &str = "filmgate";

/// The resources that make kube-scheduler ask the extender.
const MANAGED_RESOURCES: [&str; 2] = ["nvidia.com/gpu", "nvidia.com/gpu.shared"];

/// An extender, as kube-scheduler's configuration names it.
#[derive(Clone)]
pub struct Extender {
    /// Where it listens, e.g. `http://127.0.0.1:9110`.
    pub url: String,
    /// Its verbs by kube-scheduler's field names, e.g. `("filterVerb", "filter")`.
    pub verbs: Vec<(&'static str, &'static str)>,
    /// What one point of its score counts.
    pub weight: i64,
    /// Whether it is asked with node names only.
    pub node_cache_capable: bool,
    /// It is asked about pods that want one of these; where there are none, about every pod. No two
    /// extenders may name the same.
    pub managed_resources: Vec<&'static str>,
}

impl Extender {
    /// An extender as filmgate's users set it up: it filters, prioritizes,
    /// preempts and binds, by node names.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            verbs: vec![
                ("filterVerb", "filter"),
                ("prioritizeVerb", "prioritize"),
                ("preemptVerb", "preempt"),
                ("bindVerb", "bind"),
            ],
            weight: 160,
            node_cache_capable: true,
            managed_resources: MANAGED_RESOURCES.to_vec(),
        }
    }

    fn render(&self) -> Value {
        let managed = |name: &&str| json!({"name": name, "ignoredByScheduler": false});
        let mut extender = json!({
            "urlPrefix": self.url,
            "weight": self.weight,
            "nodeCacheCapable": self.node_cache_capable,
            "ignorable": false,
            "httpTimeout": "5s",
            "managedResources": self.managed_resources.iter().map(managed).collect::<Vec<_>>(),
        });
        for (field, verb) in &self.verbs {
            extender[*field] = json!(verb);
        }
        extender
    }
}

/// A KubeSchedulerConfiguration as filmgate ships it (all nodes are considered, a
/// refused pod is soon tried again) but without leader election. A test may change
/// fields of it; its text is JSON, which is YAML too.
pub fn configuration(kubeconfig: &Path, extenders: &[Extender]) -> Value {
    let preemption = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "DefaultPreemptionArgs",
        "minCandidateNodesPercentage": 100,
    });
    json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 1000, "burst": 2000},
        "leaderElection": {"leaderElect": false},
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 2,
        "percentageOfNodesToScore": 100,
        "profiles": [{
            "schedulerName": SCHEDULER_NAME,
            "pluginConfig": [{"name": "DefaultPreemption", "args": preemption}],
        }],
        "extenders": extenders.iter().map(Extender::render).collect::<Vec<_>>(),
    })
}
