//! Values that cannot be meant are refused before anything reaches a cluster, with the key named.

use filmgate::config::Config;
use serde_json::Value;

use crate::support::helm::{rendered, rendered_for};
use crate::support::manifests::shipped;

#[test]
fn wrong_values_are_refused_by_their_key() {
    let wrong = [
        ("mode=sidcar", "mode"),
        ("config.mode=obsrve", "config/mode"),
        ("kubeScheduler.weight=0", "kubeScheduler/weight"),
        ("replicas=0", "replicas"),
        ("replcas=2", "replcas"),
        ("agent.nodeLabel=gpu", "nodeLabel"),
        ("config.headrom=1Gi", "headrom"),
        ("config.headroom=much", "config/headroom"),
        ("config.staleAfter=10", "config/staleAfter"),
        ("config.schedulerName=x", "schedulerName"),
        ("config.scoring.tightness=-1", "tightness"),
        ("priorityClass.value=2000000000", "priorityClass/value"),
        ("schedulerName=default-scheduler", "schedulerName"),
        ("kubeScheduler.migResources={gpu}", "migResources"),
    ];
    for (value, key) in wrong {
        let Some(outcome) = rendered(&["--set", value]) else { return };
        let error = outcome.expect_err(value);
        assert!(error.contains(key), "{value}: {error}");
    }
}

#[test]
fn a_cluster_without_a_mutating_policy_is_not_asked_for_one() {
    let Some(outcome) = rendered_for("1.30.0", &["--set", "admission.podDefaults=true"]) else {
        return;
    };
    let error = outcome.unwrap_err();
    assert!(error.contains("admission.podDefaults"), "{error}");
    let too_old = rendered_for("1.29.4", &[]).unwrap().unwrap_err();
    assert!(too_old.contains("1.30"), "{too_old}");
}

/// A vendor's version is that of the API server with something added: no image has such a tag.
#[test]
fn the_kube_scheduler_is_as_old_as_the_api_server() {
    for (cluster, tag) in [("1.34.1-gke.1829001", "v1.34.1"), ("1.30.2+k3s1", "v1.30.2")] {
        let Some(outcome) = rendered_for(cluster, &[]) else { return };
        let rendered = outcome.unwrap();
        assert!(rendered.contains(&format!("image: registry.k8s.io/kube-scheduler:{tag}\n")));
    }
    let set = rendered_for("1.34.1", &["--set", "kubeScheduler.image.tag=v1.33.9"]).unwrap();
    assert!(set.unwrap().contains("kube-scheduler:v1.33.9\n"));
}

/// Every setting of the extender that the chart does not see to can be set, and no other.
#[test]
fn the_schema_knows_every_setting_of_the_extender() {
    let schema =
        std::fs::read_to_string(shipped("deploy/helm/filmgate/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut known: Vec<&str> = schema["properties"]["config"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(|k| &**k)
        .collect();
    let by_the_chart = [
        "schedulerName",
        "leaderElection",
        "listen",
        "agents",
        "externalMetrics",
        "keda",
        "service",
        "kubeSchedulerVersion",
    ];
    known.extend(by_the_chart);
    known.sort_unstable();
    let unknown = Config::parse("no-such-key: 1\n").unwrap_err().to_string();
    let listed = unknown.split_once("expected one of ").expect(&unknown).1;
    let mut settings: Vec<&str> = listed.lines().next().unwrap().split(", ").collect();
    settings.sort_unstable();
    assert_eq!(known, settings);
}

/// What the chart writes is a configuration that the extender takes.
#[test]
fn the_rendered_configuration_is_one() {
    let everything = [
        "--set=externalMetrics.enabled=true",
        "--set=keda.enabled=true",
        "--set=config.mode=observe",
        "--set=config.headroom=1Gi",
        "--set=config.devicePlugin.allocation=packed",
    ];
    for mode in ["--set=mode=sidecar", "--set=mode=service"] {
        let arguments: Vec<&str> = everything.into_iter().chain([mode]).collect();
        let Some(outcome) = rendered(&arguments) else { return };
        let rendered = outcome.unwrap();
        let map = rendered
            .split("\n---\n")
            .filter(|document| document.contains("filmgate.yaml: |"))
            .find_map(|document| serde_saphyr::from_str::<Value>(document).ok())
            .expect("a ConfigMap");
        let config = Config::parse(map["data"]["filmgate.yaml"].as_str().unwrap()).unwrap();
        assert_eq!(config.scheduler_name, "filmgate");
        assert!(config.external_metrics.is_some() && config.keda.is_some());
    }
}
