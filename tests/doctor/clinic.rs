//! A cluster to be examined, and the command that does it.

use std::process::{Command, Output};

use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, ClusterOptions};
use crate::support::eventually::eventually;
use crate::support::kubeconfig::User;
use crate::support::manifests::{self, apply_objects, objects, objects_of, shipped};
use crate::support::objects::node;
use crate::support::site::START_DEADLINE;

pub const FLEET: &str = include_str!("../extender/golden/fleet.json");

/// A control plane, and an extender that answers with a fleet.
pub struct Clinic {
    pub cluster: Cluster,
    server: String,
}

impl Clinic {
    /// An empty cluster.
    pub async fn start(fleet: Value) -> Self {
        let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
        let router = Router::new().route("/fleet", get(async move || Json(fleet)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { cluster, server }
    }

    /// With GPU nodes, and filmgate as it is shipped, up and leading.
    pub async fn with_filmgate(fleet: Value) -> Self {
        let clinic = Self::start(fleet).await;
        clinic.cluster.add_nodes(["gpu-1", "gpu-2"].map(|name| node(name).gpus(4))).await;
        let admin = clinic.cluster.admin();
        manifests::apply_rights(&admin, manifests::SIDECAR).await;
        let is_config = |object: &kube::api::DynamicObject| {
            object.types.as_ref().is_some_and(|types| types.kind == "ConfigMap")
        };
        let shipped = objects(&shipped(manifests::SIDECAR));
        apply_objects(&admin, shipped.into_iter().filter(is_config)).await;
        for (name, node, container, labels) in [
            ("filmgate-0", "gpu-1", "extender", EXTENDER),
            ("agent-1", "gpu-1", "agent", AGENT),
            ("agent-2", "gpu-2", "agent", AGENT),
        ] {
            clinic.add_pod("filmgate", &part(name, node, container, labels)).await;
            clinic.runs("filmgate", name).await;
        }
        clinic.renew_lease("filmgate-0_x").await;
        clinic
    }

    /// The command's output.
    pub fn run(&self, user: User, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
        command.arg("doctor").args(arguments).args(["--server", &self.server]);
        command.arg("--kubeconfig").arg(self.cluster.kubeconfig(user)).output().unwrap()
    }

    /// What it found about `group`, and whether it ended well.
    pub fn examine(&self, group: &str) -> Findings {
        self.examine_as(User::Admin, group, &[])
    }

    /// With the rights of that user, and more arguments.
    pub fn examine_as(&self, user: User, group: &str, more: &[&str]) -> Findings {
        let output = self.run(user, &[&["-o", "json", "--only", group], more].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
        let worst = report["worst"] == "fail";
        assert_eq!(output.status.code(), Some(i32::from(worst)), "{report:#}");
        Findings(report)
    }

    pub async fn add_pod(&self, namespace: &str, pod: &Value) {
        let pods: Api<Pod> = Api::namespaced(self.cluster.admin(), namespace);
        let pod = serde_json::from_value(pod.clone()).unwrap();
        pods.create(&Default::default(), &pod).await.unwrap();
    }

    /// kwok has done its part, and leaves the pod alone from now on.
    pub async fn runs(&self, namespace: &str, pod: &str) {
        let pods: Api<Pod> = Api::namespaced(self.cluster.admin(), namespace);
        eventually(START_DEADLINE, &format!("{pod} running"), async || {
            let status = pods.get(pod).await?.status.unwrap_or_default();
            let is_running = status.phase.as_deref() == Some("Running");
            if is_running { Ok(()) } else { Err(anyhow::anyhow!("{status:?}")) }
        })
        .await;
    }

    pub async fn set_status(&self, namespace: &str, pod: &str, status: Value) {
        let pods: Api<Pod> = Api::namespaced(self.cluster.admin(), namespace);
        let patch = Patch::Merge(json!({"status": status}));
        pods.patch_status(pod, &PatchParams::default(), &patch).await.unwrap();
    }

    /// As kubectl apply would.
    pub async fn apply(&self, objects: &[Value]) {
        for object in objects {
            apply_objects(&self.cluster.admin(), objects_of(&object.to_string())).await;
        }
    }

    /// As kube-scheduler would, now.
    pub async fn renew_lease(&self, holder: &str) {
        let leases: Api<Lease> = Api::namespaced(self.cluster.admin(), "filmgate");
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "filmgate-kube-scheduler"},
            "spec": {
                "holderIdentity": holder, "leaseDurationSeconds": 3600,
                "renewTime": format!("{:.6}", Timestamp::now()),
            },
        });
        let parameters = PatchParams::apply("kube-scheduler").force();
        leases.patch("filmgate-kube-scheduler", &parameters, &Patch::Apply(lease)).await.unwrap();
    }
}

pub const EXTENDER: &str = "extender";
pub const AGENT: &str = "agent";

/// A pod of filmgate's, as its Deployment or DaemonSet makes it.
fn part(name: &str, node: &str, container: &str, kind: &str) -> Value {
    let labels = match kind {
        EXTENDER => {
            json!({"app.kubernetes.io/name": "filmgate", "app.kubernetes.io/component": "extender"})
        }
        _ => json!({"app.kubernetes.io/name": "filmgate-agent"}),
    };
    let mut containers = vec![json!({"name": container, "image": "filmgate:0.1.0"})];
    if kind == EXTENDER {
        let image = "registry.k8s.io/kube-scheduler:v1.37.2";
        containers.push(json!({"name": "kube-scheduler", "image": image}));
    }
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": containers},
    })
}

/// The fleet that is healthy but for a waiting pod.
pub fn fleet() -> Value {
    serde_json::from_str(FLEET).unwrap()
}

/// The same without the waiting pod.
pub fn quiet_fleet() -> Value {
    let mut fleet = fleet();
    fleet["pending"] = json!([]);
    fleet
}

/// A report.
pub struct Findings(pub Value);

impl Findings {
    /// `level: found` of a check.
    pub fn of(&self, check: &str) -> Vec<String> {
        let all = self.0["findings"].as_array().unwrap();
        let own = all.iter().filter(|finding| finding["check"] == check);
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let words = own.map(|one| format!("{}: {}", text(one, "level"), text(one, "found")));
        words.collect()
    }

    /// One of the check's findings begins so.
    #[track_caller]
    pub fn assert(&self, check: &str, begin: &str) {
        let found = self.of(check);
        assert!(found.iter().any(|one| one.starts_with(begin)), "{check}: {begin}: {found:#?}");
    }

    /// What mends the first of the check's findings.
    pub fn mend(&self, check: &str) -> String {
        let all = self.0["findings"].as_array().unwrap();
        let own = all.iter().find(|finding| finding["check"] == check).unwrap();
        own["mend"].as_str().unwrap_or_default().to_owned()
    }

    /// All findings of the group are of that level.
    #[track_caller]
    pub fn assert_all(&self, group: &str, level: &str) {
        let all = self.0["findings"].as_array().unwrap();
        let mut own = all.iter().filter(|finding| finding["group"] == group).peekable();
        assert!(own.peek().is_some(), "no findings of {group}");
        own.for_each(|one| assert_eq!(one["level"], level, "{one:#}"));
    }
}
