//! The AI film pipeline's checklist.

use axum::Router;
use axum::routing::get;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::clinic::{Clinic, quiet_fleet};
use super::support::eventually::eventually;
use super::support::kubeconfig::User;
use super::support::site::START_DEADLINE;

const NAMESPACE: &str = "ai-film";

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_pipeline_one_line_says_so() {
    let clinic = Clinic::start(quiet_fleet()).await;
    let findings = clinic.examine("pipeline");
    findings.assert_all("pipeline", "skipped");
    findings.assert("namespace", "skipped: no namespace ai-film");
    assert_eq!(findings.of("secrets"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_deployed_is_healthy() {
    let clinic = Clinic::start(quiet_fleet()).await;
    let web = web().await;
    deploy(&clinic, &web).await;
    let findings = clinic.examine_as(User::Admin, "pipeline", &["--dagster", &format!("{web}/")]);
    for check in ["namespace", "secrets", "volumes", "workloads", "ingress", "dagster"] {
        let found = findings.of(check);
        assert!(found.iter().all(|one| one.starts_with("ok: ")), "{check}: {found:?}");
    }
    findings.assert("comfyui", "ok: ComfyUI by 127.0.0.1 answers");
    // Its Service has no endpoint here.
    findings.assert("comfyui", "fail: ComfyUI in the cluster ");
    assert!(!findings.0.to_string().contains("hunter22"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_that_is_missing_or_broken_is_found() {
    let clinic = Clinic::start(quiet_fleet()).await;
    clinic.apply(&[namespace()]).await;
    let findings =
        clinic.examine_as(User::Admin, "pipeline", &["--dagster", "http://127.0.0.1:1/"]);
    findings.assert("secrets", "fail: no secret comfyui-secret");
    findings.assert("volumes", "fail: no claim images-pvc");
    findings.assert("workloads", "fail: no statefulset postgres");
    findings.assert("ingress", "fail: no ingress");
    findings.assert("comfyui", "skipped: no COMFYUI_URL is set");
    findings.assert("dagster", "fail: Dagster's page at 127.0.0.1:1 does not answer");

    deploy(&clinic, "http://127.0.0.1:1").await;
    let admin = clinic.cluster.admin();
    let secret = json!({"stringData": {"POSTGRES_PASSWORD": "changeme"}});
    patch(&admin, "v1", "Secret", "postgres-secret", false, secret).await;
    let phase = json!({"status": {"phase": "Lost"}});
    patch(&admin, "v1", "PersistentVolumeClaim", "videos-pvc", true, phase).await;
    let status = json!({"status": {"availableReplicas": 0}});
    patch(&admin, "apps/v1", "Deployment", "ffmpeg", true, status).await;
    let no_address = json!({"status": {"loadBalancer": {"ingress": null}}});
    patch(&admin, "networking.k8s.io/v1", "Ingress", "ai-film", true, no_address).await;
    let findings =
        clinic.examine_as(User::Admin, "pipeline", &["--dagster", "http://no-such-host.invalid/"]);
    findings.assert("secrets", "fail: POSTGRES_PASSWORD in secret postgres-secret is empty or a");
    findings.assert("volumes", "fail: claim videos-pvc is Lost");
    findings.assert("workloads", "fail: deployment ffmpeg has 0 of 1 replicas");
    findings.assert("ingress", "fail: ingress ai-film has no address");
    findings.assert("comfyui", "fail: ComfyUI by 127.0.0.1 does not answer");
    findings.assert("dagster", "warn: this machine does not know the name no-such-host.invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_may_not_be_read_are_not_called_missing() {
    let clinic = Clinic::start(quiet_fleet()).await;
    clinic.apply(&[namespace()]).await;
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "sees-namespaces"},
        "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "sees-namespaces"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "sees-namespaces",
        },
        "subjects": [{
            "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": User::Certificates.name(),
        }],
    });
    clinic.apply(&[rights, binding]).await;
    let look =
        || clinic.examine_as(User::Certificates, "pipeline", &["--dagster", "http://127.0.0.1:1/"]);
    // The API server learns of new rights with a little delay.
    let findings = eventually(START_DEADLINE, "the rights in force", async || {
        let findings = look();
        let has_come = findings.of("namespace")[0].starts_with("ok");
        has_come.then_some(findings)
    })
    .await;
    for check in ["secrets", "volumes", "workloads", "ingress"] {
        let found = findings.of(check);
        assert!(found.iter().all(|one| one.starts_with("skipped: ")), "{check}: {found:?}");
    }
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

/// Everything by the names of the pipeline's manifests, available.
async fn deploy(clinic: &Clinic, comfyui: &str) {
    let object = |api: &str, kind: &str, name: &str, rest: Value| {
        let mut object = json!({
            "apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE},
        });
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    let mut objects = vec![
        namespace(),
        object("v1", "Secret", "comfyui-secret", json!({"stringData": {"COMFYUI_URL": comfyui}})),
        object(
            "v1",
            "Secret",
            "postgres-secret",
            json!({"stringData": {"POSTGRES_PASSWORD": "hunter22"}}),
        ),
        object("v1", "Service", "comfyui", json!({"spec": {"ports": [{"port": 8188}]}})),
    ];
    let mut after = Vec::new();
    for name in ["dagster-pvc", "images-pvc", "videos-pvc", "models-pvc", "postgres-pvc"] {
        let spec = json!({"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }});
        objects.push(object("v1", "PersistentVolumeClaim", name, spec));
        after.push(("v1", "PersistentVolumeClaim", name, json!({"status": {"phase": "Bound"}})));
    }
    let pods = |name: &str| {
        json!({"spec": {
            "selector": {"matchLabels": {"app": name}}, "serviceName": null,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": name}]},
            },
        }})
    };
    for name in ["comfyui", "blender", "opencv", "ffmpeg", "dagster", "langgraph", "upload"] {
        let mut spec = pods(name);
        spec["spec"].as_object_mut().unwrap().remove("serviceName");
        objects.push(object("apps/v1", "Deployment", name, spec));
        let status = json!({"status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}});
        after.push(("apps/v1", "Deployment", name, status));
    }
    for name in ["postgres", "redis"] {
        let mut spec = pods(name);
        spec["spec"]["serviceName"] = json!(name);
        objects.push(object("apps/v1", "StatefulSet", name, spec));
        after.push((
            "apps/v1",
            "StatefulSet",
            name,
            json!({"status": {"replicas": 1, "readyReplicas": 1}}),
        ));
    }
    let backend = json!({"service": {"name": "upload", "port": {"number": 80}}});
    objects.push(object(
        "networking.k8s.io/v1",
        "Ingress",
        "ai-film",
        json!({"spec": {"defaultBackend": backend}}),
    ));
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    after.push(("networking.k8s.io/v1", "Ingress", "ai-film", address));
    clinic.apply(&objects).await;
    for (api, kind, name, status) in after {
        patch(&clinic.cluster.admin(), api, kind, name, true, status).await;
    }
}

async fn patch(admin: &Client, api: &str, kind: &str, name: &str, is_status: bool, change: Value) {
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, kind));
    let objects: Api<DynamicObject> = Api::namespaced_with(admin.clone(), NAMESPACE, &resource);
    let (parameters, change) = (PatchParams::default(), Patch::Merge(change));
    let patched = match is_status {
        true => objects.patch_status(name, &parameters, &change).await,
        false => objects.patch(name, &parameters, &change).await,
    };
    patched.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
}

/// Answers every question with an empty page.
async fn web() -> String {
    let router = Router::new().fallback(get(|| async { "" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}
