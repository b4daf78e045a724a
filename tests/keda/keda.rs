//! KEDA's operator and its adapter, with the rights that its release gives them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use filmgate::tls::Identity;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::json;

use crate::support::authority::Authority;
use crate::support::cluster::Cluster;
use crate::support::eventually::eventually;
use crate::support::kubeconfig;
use crate::support::manifests::{apply, apply_objects, objects};
use crate::support::process::Process;
use crate::support::site::flag;
use crate::world::DEADLINE;

const NAMESPACE: &str = "keda";
const ACCOUNT: &str = "keda-operator";
/// By these names its parts are looked for.
const OPERATOR_NAME: &str = "keda-operator.keda.svc.cluster.local";
const ADAPTER_NAME: &str = "keda-metrics-apiserver.keda.svc";
const ADAPTER_PORT: u16 = 6443;
const HEALTH: &str = "127.0.0.1:8081";

/// Of what its release puts into a cluster, in order; the rest is how its pods are started.
const OBJECTS: [&str; 8] = [
    "general/namespace.yaml",
    "service_account/service_account.yaml",
    "rbac/role.yaml",
    "rbac/role_binding.yaml",
    "metrics-server/role.yaml",
    "metrics-server/role_binding.yaml",
    "metrics-server/service.yaml",
    "metrics-server/api_service.yaml",
];

/// A running KEDA. It ends with the value.
pub(crate) struct Keda {
    operator: Process,
    adapter: Process,
}

impl Keda {
    /// Starts what `folder` (see tools/keda.sh) has, and returns when the API server finds it.
    pub(crate) async fn start(folder: &Path, cluster: &Cluster) -> Self {
        let authority = Authority::create(cluster.folder(), "keda");
        let config = folder.join("config");
        for file in fs::read_dir(config.join("crd/bases")).unwrap() {
            apply(&cluster.admin(), &file.unwrap().path()).await;
        }
        let shipped = OBJECTS.into_iter().flat_map(|file| objects(&config.join(file)));
        apply_objects(&cluster.admin(), shipped.map(|one| reachable(one, &authority))).await;

        let kubeconfig = kubeconfig_of_account(cluster).await;
        let operator = operator(folder, cluster, &kubeconfig, &authority);
        let adapter = adapter(folder, cluster, &kubeconfig, &authority);
        let mut keda = Self { operator, adapter };
        eventually(DEADLINE, "KEDA ready", async || {
            keda.operator.assert_running();
            keda.adapter.assert_running();
            let ready = reqwest::get(format!("http://{HEALTH}/readyz")).await?;
            ready.error_for_status()?;
            let metrics = "/apis/external.metrics.k8s.io/v1beta1";
            let request = axum::http::Request::get(metrics).body(Vec::new()).unwrap();
            cluster.admin().request_text(request).await?;
            anyhow::Ok(())
        })
        .await;
        keda
    }

    /// What its operator has logged so far.
    pub(crate) fn log(&self) -> String {
        self.operator.log()
    }
}

fn operator(folder: &Path, cluster: &Cluster, kubeconfig: &Path, authority: &Authority) -> Process {
    let certificates = certificates(cluster, authority, OPERATOR_NAME);
    let mut command = command(&folder.join("keda"), kubeconfig);
    command.args([
        flag("metrics-bind-address", 0),
        flag("health-probe-bind-address", HEALTH),
        flag("cert-dir", certificates.display()),
        flag("zap-encoder", "console"),
    ]);
    Process::spawn("keda-operator", command, cluster.folder())
}

fn adapter(folder: &Path, cluster: &Cluster, kubeconfig: &Path, authority: &Authority) -> Process {
    let certificates = certificates(cluster, authority, ADAPTER_NAME);
    let mut command = command(&folder.join("keda-adapter"), kubeconfig);
    command.args([
        flag("secure-port", ADAPTER_PORT),
        flag("port", 8082),
        flag("cert-dir", certificates.display()),
        flag("tls-cert-file", certificates.join("tls.crt").display()),
        flag("tls-private-key-file", certificates.join("tls.key").display()),
        flag("lister-kubeconfig", kubeconfig.display()),
        flag("authentication-kubeconfig", kubeconfig.display()),
        flag("authorization-kubeconfig", kubeconfig.display()),
        flag("metrics-service-address", format!("{OPERATOR_NAME}:9666")),
    ]);
    Process::spawn("keda-adapter", command, cluster.folder())
}

fn command(program: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("KUBECONFIG", kubeconfig).env("WATCH_NAMESPACE", "");
    command.env("POD_NAMESPACE", NAMESPACE).env("KEDA_CLUSTER_OBJECT_NAMESPACE", NAMESPACE);
    command
}

/// The folder of one part's certificate, as a secret is mounted.
fn certificates(cluster: &Cluster, authority: &Authority, name: &str) -> PathBuf {
    let folder = cluster.folder().join(name);
    fs::create_dir(&folder).unwrap();
    let identity = Identity { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
    authority.issue(&identity, name);
    fs::copy(authority.roots(), folder.join("ca.crt")).unwrap();
    folder
}

/// Here is no network of pods: the Service is another name of this machine.
fn reachable(mut object: DynamicObject, authority: &Authority) -> DynamicObject {
    match object.types.as_ref().map(|types| &*types.kind) {
        Some("Service") => {
            object.data = json!({"spec": {"type": "ExternalName", "externalName": "localhost"}});
        }
        Some("APIService") => {
            let spec = &mut object.data["spec"];
            spec["caBundle"] = json!(ByteString(fs::read(authority.roots()).unwrap()));
            spec["service"]["port"] = json!(ADAPTER_PORT);
        }
        _ => {}
    }
    object
}

async fn kubeconfig_of_account(cluster: &Cluster) -> PathBuf {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.admin(), NAMESPACE);
    let request = TokenRequest::default();
    let issued = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await;
    let token = issued.unwrap().status.unwrap().token.unwrap();
    let path = cluster.folder().join("keda.kubeconfig");
    fs::write(&path, kubeconfig::render(&cluster.api_url(), &cluster.ca(), &token)).unwrap();
    path
}
