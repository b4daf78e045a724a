use serde_json::{Value, json};

use super::*;

/// A pod of one GPU container, with `change` merged into it.
fn pod(change: Value) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": "comfy", "namespace": "art", "uid": "u1", "resourceVersion": "7",
            "creationTimestamp": "1970-01-01T00:01:40Z",
        },
        "spec": {"containers": [gpu_container("main", 1)]},
    });
    merge(&mut pod, change);
    serde_json::from_value(pod).unwrap()
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn gpu_container(name: &str, gpus: u32) -> Value {
    json!({"name": name, "resources": {"limits": {"nvidia.com/gpu": gpus.to_string()}}})
}

fn annotated(key: &str, value: &str) -> Pod {
    pod(json!({"metadata": {"annotations": {key: value}}}))
}

fn ask_of(pod: &Pod) -> GpuAsk {
    facts(pod, None).unwrap().ask.unwrap()
}

fn container_with(resources: Value) -> Pod {
    pod(json!({"spec": {"containers": [{"name": "main", "resources": resources}]}}))
}

fn devices_of(resources: Value) -> Option<u32> {
    facts(&container_with(resources), None).map(|facts| facts.ask.unwrap().devices())
}

fn refusal(pod: &Pod) -> String {
    facts(pod, None).unwrap().ask.unwrap_err().to_string()
}

#[test]
fn tells_who_and_what_a_waiting_pod_is() {
    let facts = facts(&pod(json!({"spec": {"priority": 5}})), None).unwrap();
    let id = PodRef { namespace: "art".into(), name: "comfy".into(), uid: "u1".into() };
    assert_eq!((facts.id, facts.node, facts.priority), (id, None, 5));
    assert_eq!((facts.created_at, &*facts.resource_version, facts.has_ended), (100, "7", false));
    assert_eq!(facts.decision, None);
    let ask = facts.ask.unwrap();
    assert_eq!((ask.devices(), ask.most_per_gpu(), ask.is_steered()), (1, None, false));
}

#[test]
fn a_pod_without_a_gpu_is_none_of_ours() {
    assert_eq!(devices_of(json!({})), None);
    assert_eq!(devices_of(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), None);
    assert_eq!(devices_of(json!({"limits": {"amd.com/gpu": "1"}})), None);
    assert_eq!(devices_of(json!({"limits": {"nvidia.com/gpu": "0"}})), None);
    assert_eq!(facts(&Pod::default(), None), None);
    assert!(!asks_for_gpu(&Pod::default()));
    assert!(asks_for_gpu(&pod(json!({}))));
}

#[test]
fn takes_requests_and_limits_where_there_are_none() {
    let gpu = |count: &str| json!({"nvidia.com/gpu": count});
    assert_eq!(devices_of(json!({"limits": gpu("2")})), Some(2));
    assert_eq!(devices_of(json!({"requests": gpu("3")})), Some(3));
    assert_eq!(devices_of(json!({"requests": gpu("3"), "limits": gpu("4")})), Some(3));
    assert_eq!(devices_of(json!({"requests": gpu("0"), "limits": gpu("4")})), None);
}

#[test]
fn every_gpu_resource_counts() {
    for name in ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb"] {
        let ask = ask_of(&container_with(json!({"limits": {name: "1"}})));
        assert_eq!(&*ask.shares[0].resource, name);
    }
}

#[test]
fn counts_as_kubernetes_writes_them_and_caps_what_no_node_has() {
    let count = |amount: &str| devices_of(json!({"limits": {"nvidia.com/gpu": amount}}));
    for (amount, devices) in
        [("8", 8), ("1k", 1000), ("2000m", 2), ("65536", 65535), ("9E", 65535), ("many", 65535)]
    {
        assert_eq!(count(amount), Some(devices), "{amount}");
    }
    assert_eq!(count("-1"), None);
}

#[test]
fn sums_of_huge_requests_do_not_wrap() {
    let huge = |name: &str| json!({"name": name, "resources": {"limits": {"nvidia.com/gpu": "4000000000"}}});
    let pod = pod(json!({"spec": {"containers": [huge("a"), huge("b")]}}));
    assert_eq!(ask_of(&pod).devices(), 2 * 65535);
}

#[test]
fn init_containers_run_alone_and_sidecars_stay() {
    let mut sidecar = gpu_container("probe", 1);
    merge(&mut sidecar, json!({"restartPolicy": "Always"}));
    let early = [gpu_container("download", 3), sidecar];
    let ask = ask_of(&pod(json!({"spec": {"initContainers": early}})));
    let names = |shares: &[request::Share]| -> Vec<String> {
        shares.iter().map(|share| share.container.to_string()).collect()
    };
    assert_eq!(names(&ask.shares), ["probe", "main"]);
    assert_eq!((names(&ask.early), ask.devices()), (vec!["download".to_owned()], 3));
}

fn with_env(env: Value) -> Pod {
    let mut container = gpu_container("main", 1);
    merge(&mut container, json!({"env": env}));
    pod(json!({"spec": {"containers": [container]}}))
}

fn from_field(path: &str) -> Value {
    json!({"name": VISIBLE_DEVICES, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

#[test]
fn a_container_that_reads_its_devices_from_the_annotation_is_steered() {
    let path = "metadata.annotations['filmgate.dev/gpu']";
    let ask = ask_of(&with_env(json!([{"name": "HOME", "value": "/"}, from_field(path)])));
    assert_eq!(ask.shares[0].steered_by.as_deref(), Some("filmgate.dev/gpu"));
}

#[test]
fn anything_else_in_that_variable_does_not_steer() {
    let path = "metadata.annotations['filmgate.dev/gpu']";
    let fixed = json!({"name": VISIBLE_DEVICES, "value": "all"});
    for env in [
        json!([fixed.clone()]),
        json!([from_field("metadata.labels['filmgate.dev/gpu']")]),
        json!([from_field("metadata.annotations")]),
        json!([from_field("metadata.annotations['example.com/gpu']")]),
        json!([from_field("metadata.annotations['']")]),
        json!([from_field(path), fixed]),
    ] {
        assert!(!ask_of(&with_env(env.clone())).is_steered(), "{env}");
    }
}

#[test]
fn bad_declarations_are_refused_by_name_value_and_example() {
    for (value, says) in [
        ("12GiB", "is not a quantity of memory"),
        ("-1", "must be above zero"),
        ("0", "must be above zero"),
        ("12", "is 12 bytes, less than 64 MiB and surely a mistake"),
        ("12345678901234567890", "is larger than any GPU"),
        ("99999999999999999999", "is larger than any GPU"),
        ("", "is not a quantity of memory"),
    ] {
        let error = refusal(&annotated("filmgate.dev/vram", value));
        let quoted = format!("annotation filmgate.dev/vram: {value:?} ");
        assert!(error.starts_with(&quoted) && error.contains(says), "{error}");
        assert!(error.ends_with("write for example 12Gi"), "{error}");
    }
}

#[test]
fn bad_declarations_of_one_container_are_refused_too() {
    let error = refusal(&annotated("filmgate.dev/vram.main", "12GiB"));
    assert!(error.starts_with("annotation filmgate.dev/vram.main: \"12GiB\""), "{error}");
    let error = refusal(&annotated("filmgate.dev/vram.other", "12Gi"));
    assert!(error.contains("no container named \"other\" asks for a GPU"), "{error}");
}

#[test]
fn the_namespace_comes_before_the_configuration() {
    let annotations = |value: &str| [(DEFAULT_VRAM_ANNOTATION.to_owned(), value.to_owned())].into();
    let configured = Some(Bytes::gib(4));
    assert_eq!(default_vram("art", None, configured), Ok(configured));
    assert_eq!(default_vram("art", Some(&BTreeMap::new()), configured), Ok(configured));
    let own = default_vram("art", Some(&annotations("8Gi")), configured);
    assert_eq!(own, Ok(Some(Bytes::gib(8))));
    let declared = annotated("filmgate.dev/vram", "12Gi");
    let vram = |pod: &Pod| facts_in(pod, &own).unwrap().ask.unwrap().shares[0].vram;
    assert_eq!(vram(&pod(json!({}))), Vram::Default(Bytes::gib(8)));
    assert_eq!(vram(&declared), Vram::Declared(Bytes::gib(12)));
}

#[test]
fn a_bad_default_of_the_namespace_refuses_the_pods_that_rely_on_it_alone() {
    let annotations = [(DEFAULT_VRAM_ANNOTATION.to_owned(), "8GiB".to_owned())].into();
    let bad = default_vram("art", Some(&annotations), Some(Bytes::gib(4)));
    let error = facts_in(&pod(json!({})), &bad).unwrap().ask.unwrap_err().to_string();
    let named = "annotation filmgate.dev/default-vram of namespace art: \"8GiB\" is not";
    assert!(error.starts_with(named), "{error}");
    let declared = annotated("filmgate.dev/vram", "12Gi");
    assert!(facts_in(&declared, &bad).unwrap().ask.is_ok());
}

#[test]
fn an_earlier_decision_is_read_back() {
    let facts = facts(&annotated("filmgate.dev/vram-charged", "GPU-a=5"), None).unwrap();
    assert_eq!(facts.decision.unwrap().charged, [("GPU-a".into(), Bytes::new(5))]);
}

#[test]
fn an_empty_node_name_is_no_node() {
    let node = |name: &str| facts(&pod(json!({"spec": {"nodeName": name}})), None).unwrap().node;
    assert_eq!(node(""), None);
    assert_eq!(node("n0"), Some("n0".into()));
}

/// Whether a bound pod has ended in this state.
fn ended(is_deleting: bool, status: Value) -> bool {
    let deletion = if is_deleting { json!("2026-01-01T00:00:00Z") } else { Value::Null };
    let pod = pod(json!({
        "metadata": {"deletionTimestamp": deletion},
        "spec": {"nodeName": "n0", "initContainers": [{"name": "init"}]},
        "status": status,
    }));
    facts(&pod, None).unwrap().has_ended
}

fn statuses(main: &str, init: &str) -> Value {
    let status = |name: &str, state: &str| {
        let state = match state {
            "terminated" => json!({"terminated": {"exitCode": 0}}),
            "running" => json!({"running": {}}),
            _ => json!({"waiting": {}}),
        };
        json!([{"name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0}])
    };
    json!({"phase": "Running", "containerStatuses": status("main", main), "initContainerStatuses": status("init", init)})
}

#[test]
fn a_terminal_phase_ends_a_pod() {
    assert!(ended(false, json!({"phase": "Succeeded"})));
    assert!(ended(false, json!({"phase": "Failed"})));
    assert!(!ended(false, json!({"phase": "Running"})));
    assert!(!ended(false, json!({"phase": "Unknown"})));
}

#[test]
fn a_deletion_ends_a_pod_when_every_container_has_terminated() {
    assert!(ended(true, statuses("terminated", "terminated")));
    assert!(!ended(true, statuses("running", "terminated")));
    assert!(!ended(true, statuses("terminated", "running")));
    assert!(!ended(true, statuses("waiting", "terminated")));
    assert!(!ended(true, json!({"phase": "Pending"})));
}

#[test]
fn terminated_containers_of_a_pod_that_stays_may_start_again() {
    assert!(!ended(false, statuses("terminated", "terminated")));
}

#[test]
fn a_pod_deleted_before_it_was_bound_never_starts() {
    let deletion = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert!(facts(&pod(deletion), None).unwrap().has_ended);
}
