use serde_json::{Value, json};

use super::*;
use crate::cluster::pod;

fn budget(namespace: &str, spec: &Value) -> PodDisruptionBudget {
    let metadata = json!({"name": "keep", "namespace": namespace, "uid": "b1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn labelled(labels: &Value) -> PodFacts {
    let resources = json!({"limits": {"nvidia.com/gpu": "1"}});
    let pod = json!({
        "metadata": {"name": "p", "namespace": "art", "uid": "u", "labels": labels},
        "spec": {"containers": [{"name": "main", "resources": resources}]},
    });
    pod::facts(&serde_json::from_value(pod).unwrap(), None).unwrap()
}

/// Budgets of which these were listed.
fn listed(budgets: Vec<PodDisruptionBudget>) -> Budgets {
    let (known, mut writer) = reflector::store();
    let store = Budgets { known, is_current: AtomicBool::new(false) };
    store.take(&Event::Init, &mut writer);
    for budget in budgets {
        store.take(&Event::InitApply(budget), &mut writer);
        assert!(store.protects(&labelled(&json!({"app": "web"}))), "the list is not complete");
    }
    store.take(&Event::InitDone, &mut writer);
    store
}

#[test]
fn until_they_are_known_every_pod_is_protected() {
    let pod = labelled(&json!({}));
    assert!(Budgets::unknown().protects(&pod));
    let known = listed(Vec::new());
    assert!(!known.protects(&pod));
    known.lose_sight(&watcher::Error::NoResourceVersion);
    assert!(known.protects(&pod));
}

#[test]
fn a_budget_protects_whom_it_selects_in_its_namespace() {
    let comfy = json!({"selector": {"matchLabels": {"app": "comfyui"}}, "maxUnavailable": 1});
    let is_protected = |namespace: &str, spec: &Value, labels: Value| {
        listed(vec![budget(namespace, spec)]).protects(&labelled(&labels))
    };
    assert!(is_protected("art", &comfy, json!({"app": "comfyui", "tier": "low"})));
    assert!(!is_protected("art", &comfy, json!({"app": "blender"})));
    assert!(!is_protected("lab", &comfy, json!({"app": "comfyui"})));
    let in_set = json!([{"key": "app", "operator": "In", "values": ["blender", "comfyui"]}]);
    let either = json!({"selector": {"matchExpressions": in_set}});
    assert!(is_protected("art", &either, json!({"app": "blender"})));
    assert!(is_protected("art", &json!({"selector": {}}), json!({})), "an empty one selects all");
    assert!(!is_protected("art", &json!({}), json!({})), "none selects nobody");
    let senseless = json!([{"key": "app", "operator": "Near", "values": ["x"]}]);
    let senseless = json!({"selector": {"matchExpressions": senseless}});
    assert!(is_protected("art", &senseless, json!({})), "who knows whom it means");
}
