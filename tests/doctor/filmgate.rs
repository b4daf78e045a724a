//! filmgate's own checks.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::clinic::{Clinic, fleet, quiet_fleet};
use super::support::kubeconfig::User;
use super::support::objects::node;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shipped_and_runs_is_healthy() {
    let clinic = Clinic::with_filmgate(quiet_fleet()).await;
    let findings = clinic.examine("filmgate");
    findings.assert_all("cluster", "ok");
    findings.assert_all("filmgate", "ok");

    let table = clinic.run(User::Admin, &["--only", "filmgate"]);
    assert!(table.status.success());
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("filmgate-0_x leads"), "{table}");
    assert!(table.contains("0 fail, 0 warn, 0 skipped"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_broken_part_is_found() {
    let mut sick = fleet();
    sick["nodes"][0]["trouble"] =
        json!({"code": "stale_reading", "text": "no fresh GPU telemetry"});
    sick["nodes"][0]["readingAgeSeconds"] = json!(31.0);
    sick["nodes"][1]["unattributed"] = json!("the agent sees no other process: no hostPID");
    let clinic = Clinic::with_filmgate(sick).await;
    let admin = clinic.cluster.admin();
    clinic
        .cluster
        .add_nodes([node("gpu-3").gpus(0), node("gpu-4").resource("nvidia.com/mig-1g.10gb", "7")])
        .await;
    let pods: Api<Pod> = Api::namespaced(admin.clone(), "filmgate");
    clinic
        .set_status(
            "filmgate",
            "agent-2",
            json!({"conditions": [{"type": "Ready", "status": "False"}]}),
        )
        .await;
    let labels = json!({"metadata": {"labels": {"app.kubernetes.io/version": "0.0.1"}}});
    pods.patch("agent-1", &PatchParams::default(), &Patch::Merge(labels)).await.unwrap();
    let configs: Api<ConfigMap> = Api::namespaced(admin.clone(), "filmgate");
    let text = configs.get("filmgate").await.unwrap().data.unwrap()["kube-scheduler.yaml"]
        .replace("ignorable: false", "ignorable: true");
    let changed = Patch::Merge(json!({"data": {"kube-scheduler.yaml": text}}));
    configs.patch("filmgate", &PatchParams::default(), &changed).await.unwrap();
    let leases: Api<Lease> = Api::namespaced(admin.clone(), "filmgate");
    leases.delete("filmgate-kube-scheduler", &Default::default()).await.unwrap();
    let roles: Api<ClusterRole> = Api::all(admin);
    roles.delete("filmgate", &Default::default()).await.unwrap();

    let findings = clinic.examine("filmgate");
    findings.assert("device-plugin", "fail: gpu-3 offers none of its GPUs");
    findings.assert("agents", "fail: no agent on gpu-3, gpu-4");
    findings.assert("agents", "fail: agents that are not ready: agent-2");
    findings.assert("agents", "fail: gpu-1: no fresh GPU telemetry (read 31 s ago)");
    findings.assert("attribution", "warn: gpu-2: the agent sees no other process");
    findings.assert("scheduler", "fail: nobody holds the Lease filmgate-kube-scheduler");
    findings.assert("extender-config", "fail: ignorable: true");
    findings.assert("extender-config", "fail: managedResources lacks nvidia.com/mig-1g.10gb");
    findings.assert("rights", "fail: system:serviceaccount:filmgate:filmgate may not: ");
    findings.assert("versions", "warn: filmgate 0.0.1 runs");
    findings.assert("waiting-pods", "warn: default/big waits for 0 s: asked 30.0 GiB");
    assert_eq!(findings.mend("waiting-pods"), "filmgate explain default/big");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cluster_has_no_filmgate() {
    let clinic = Clinic::start(quiet_fleet()).await;
    let findings = clinic.examine("filmgate");
    findings.assert("device-plugin", "fail: no node offers nvidia.com/gpu");
    findings.assert("scheduler", "fail: no scheduler pod in namespace filmgate");
    findings.assert("versions", "skipped: no pods of filmgate");
    findings.assert("extender-config", "skipped: no kube-scheduler.yaml");
}

/// Nothing is said to be well that was not looked at.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_skipped_with_the_reason() {
    let clinic = Clinic::start(quiet_fleet()).await;
    let findings = clinic.examine_as(User::Certificates, "filmgate", &[]);
    for check in ["device-plugin", "agents", "scheduler", "extender-config", "rights", "versions"] {
        let found = findings.of(check);
        assert!(found.iter().all(|one| one.starts_with("skipped: ")), "{check}: {found:?}");
        assert!(found.iter().any(|one| one.contains("forbidden")), "{check}: {found:?}");
    }
    findings.assert("waiting-pods", "ok: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_is_the_only_finding() {
    let mut clinic = Clinic::start(quiet_fleet()).await;
    clinic.cluster.kill_api_server();
    let findings = clinic.examine("filmgate");
    findings.assert("api-server", "fail: Kubernetes does not answer");
    assert_eq!(findings.of("agents"), Vec::<String>::new());
}
