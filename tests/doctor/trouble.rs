//! What goes wrong in running pods, volumes and GPUs.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};

use super::clinic::{Clinic, quiet_fleet};
use super::support::objects::node;

const NAMESPACE: &str = "ai-film";

async fn start(fleet: Value) -> Clinic {
    let clinic = Clinic::start(fleet).await;
    clinic.cluster.add_nodes([node("gpu-1").gpus(4)]).await;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    clinic.apply(&[namespace]).await;
    clinic
}

fn pod(name: &str, node: Option<&str>) -> Value {
    json!({
        "metadata": {
            "name": name, "labels": {"app": "comfyui"},
            "annotations": {"filmgate.dev/gpu": "GPU-gpu-1-0"},
        },
        "spec": {
            "schedulerName": "filmgate", "nodeName": node,
            "containers": [{"name": "main", "image": "comfyui:1"}],
        },
    })
}

/// A pod on the node, as far as its kubelet says.
async fn add(clinic: &Clinic, name: &str, state: Value) {
    clinic.add_pod(NAMESPACE, &pod(name, Some("gpu-1"))).await;
    clinic.runs(NAMESPACE, name).await;
    let mut container = json!({
        "name": "main", "image": "comfyui:1", "imageID": "", "ready": false, "restartCount": 7,
    });
    container.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
    let unready = json!([{"type": "Ready", "status": "False"}]);
    let status = json!({"conditions": unready, "containerStatuses": [container]});
    clinic.set_status(NAMESPACE, name, status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_wrong_nothing_is_found() {
    let clinic = start(quiet_fleet()).await;
    clinic.add_pod(NAMESPACE, &pod("comfyui-0", Some("gpu-1"))).await;
    clinic.runs(NAMESPACE, "comfyui-0").await;
    let findings = clinic.examine("trouble");
    findings.assert("comfyui-start", "ok: all 1 pods of ComfyUI are ready");
    findings.assert("crash-loops", "ok: no container is in CrashLoopBackOff");
    findings.assert("gpu-health", "ok: all 3 GPUs take work");
    findings.assert("wrong-gpu", "ok: every pod is on the GPU that it was sent to");
    findings.assert("storage", "skipped: no claims");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comfyui_that_does_not_start_is_told_with_the_cause() {
    let mut fleet = quiet_fleet();
    fleet["pending"] = json!([{
        "pod": {"namespace": NAMESPACE, "name": "no-vram", "uid": "u"}, "state": "waiting",
        "waitingSeconds": 90.0, "beforeIt": 0, "asks": [], "priority": 0,
        "nearestMiss": "asked 30.0 GiB (declared); most free: 23.5 of 24.0 GiB on gpu-2 GPU 1",
    }]);
    let clinic = start(fleet).await;
    clinic.add_pod(NAMESPACE, &pod("no-vram", None)).await;
    let unscheduled = json!([{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 not enough free VRAM.",
    }]);
    clinic.set_status(NAMESPACE, "no-vram", json!({"conditions": unscheduled})).await;
    let waiting = json!({"reason": "ImagePullBackOff", "message": "no such image"});
    add(&clinic, "no-image", json!({"state": {"waiting": waiting}})).await;
    add(&clinic, "no-answer", json!({"state": {"running": {}}})).await;
    let pods: Api<Pod> = Api::namespaced(clinic.cluster.admin(), NAMESPACE);
    let uid = pods.get("no-answer").await.unwrap().metadata.uid.unwrap();
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": "e", "namespace": NAMESPACE}, "type": "Warning", "reason": "Unhealthy",
        "involvedObject": {"kind": "Pod", "namespace": NAMESPACE, "name": "no-answer", "uid": uid},
        "message": "Readiness probe failed: connection refused", "count": 3,
        "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    clinic.apply(&[event]).await;

    let findings = clinic.examine("trouble");
    findings.assert("comfyui-start", "fail: ai-film/no-vram has no node: asked 30.0 GiB");
    findings.assert(
        "comfyui-start",
        "fail: ai-film/no-image: the image comfyui:1 cannot be pulled: no such image",
    );
    findings.assert(
        "comfyui-start",
        "fail: ai-film/no-answer on GPU-gpu-1-0 runs and is not ready: Readiness probe failed",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_sick_gpus_and_strays_are_found() {
    let mut fleet = quiet_fleet();
    fleet["nodes"][0]["gpus"][0]["closed"] = json!("unhealthy: XID 79");
    fleet["nodes"][1]["gpus"][0]["tenants"][0]["isElsewhere"] = json!(true);
    let clinic = start(fleet).await;
    for (name, reason, code) in [("killed", "OOMKilled", 137), ("ended", "Error", 3)] {
        let last = json!({"exitCode": code, "reason": reason});
        let state = json!({
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": last},
        });
        add(&clinic, name, state).await;
    }
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "images-pvc", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    clinic.apply(&[claim]).await;

    let findings = clinic.examine("trouble");
    findings.assert("crash-loops", "fail: ai-film/killed main: OOMKilled (exit code 137)");
    findings.assert("crash-loops", "fail: ai-film/ended main: exit code 3; 7 restarts");
    findings
        .assert("gpu-health", "fail: gpu-1 GPU 0 (GPU-gpu-1-0): unhealthy: XID 79: the GPU fell");
    findings.assert("wrong-gpu", "warn: default/small is not on the GPU that it was sent to");
    // kwok answers no questions about volumes: that is said, and nothing is called well.
    findings.assert("storage", "skipped: the kubelet of gpu-1: ");
    findings.assert("storage", "skipped: claim images-pvc is in no running pod");
}
