//! A cluster whose API server asks the extender for external metrics.

use std::fs;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Request};
use filmgate::tls::Identity;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::DynamicObject;
use kube::config::AuthInfo;
use kube::core::Status;
use kube::{Api, Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::authority::Authority;
use crate::support::eventually::eventually;
use crate::support::manifests::{apply_objects, objects, shipped};
use crate::support::port::ReservedPort;
use crate::support::replicas::{Election, Replicas, Terms};
use crate::support::simulated::SimulatedNode;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const NAME: &str = "filmgate-external-metrics.filmgate.svc";
const ROOT: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// How a caller proves itself to the extender without the API server between them.
#[derive(Default)]
pub(crate) struct Proof {
    pub(crate) token: Option<String>,
    pub(crate) certificate: Option<Identity>,
    /// For whom it says that it calls.
    pub(crate) user: Option<&'static str>,
}

pub(crate) struct World {
    pub(crate) replicas: Replicas,
    port: ReservedPort,
    authority: Authority,
    pub(crate) files: TempDir,
}

impl World {
    /// A node with one GPU of 24 GiB.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more lines of filmgate's configuration.
    pub(crate) async fn start_with(settings: &str) -> Self {
        Self::start_on(vec![SimulatedNode::new("n0", &[24])], settings).await
    }

    /// The same with these nodes.
    pub(crate) async fn start_on(nodes: Vec<SimulatedNode>, settings: &str) -> Self {
        let files = TempDir::new().unwrap();
        let authority = Authority::create(files.path(), "serving");
        let identity = authority.issued(NAME);
        let port = ReservedPort::reserve();
        let served = json!({
            "listen": port.address(),
            "certificateFile": identity.certificate,
            "keyFile": identity.key,
        });
        let settings = format!("externalMetrics: {served}\n{settings}");
        let replicas = Replicas::start_with(nodes, Election::Off, Terms::SHORT, &settings).await;
        let world = Self { replicas, port, authority, files };
        world.aggregate().await;
        world
    }

    /// Applies what is shipped, and waits until the API server finds the extender.
    async fn aggregate(&self) {
        let admin = self.replicas.cluster.admin();
        let shipped = objects(&shipped("deploy/autoscaling/external-metrics.yaml"));
        apply_objects(&admin, shipped.into_iter().map(|object| self.reachable(object))).await;
        eventually(DEADLINE, "external metrics through the API server", async || {
            admin
                .request_text(get(&format!("{ROOT}/namespaces/default/filmgate-pending-pods")))
                .await
        })
        .await;
    }

    /// Here is no network of pods: the Service is another name of this machine.
    fn reachable(&self, mut object: DynamicObject) -> DynamicObject {
        match object.types.as_ref().map(|types| &*types.kind) {
            Some("Service") => {
                object.data =
                    json!({"spec": {"type": "ExternalName", "externalName": "localhost"}});
            }
            Some("APIService") => {
                let roots = fs::read(self.authority.roots()).unwrap();
                let spec = &mut object.data["spec"];
                spec["caBundle"] = json!(k8s_openapi::ByteString(roots));
                spec["service"]["port"] = json!(self.port.number());
            }
            _ => {}
        }
        object
    }

    /// What a client gets that asks the API server, or the extender itself.
    pub(crate) async fn ask(client: &Client, question: &str) -> Result<Value, Box<Status>> {
        let path = format!("{ROOT}/namespaces/default/{question}");
        match client.request_text(get(&path)).await {
            Ok(text) => Ok(serde_json::from_str(&text).unwrap()),
            Err(kube::Error::Api(status)) => Err(status),
            Err(error) => panic!("{question}: {error}"),
        }
    }

    /// A client of the extender without the API server between them.
    pub(crate) fn directly(&self, proof: Proof) -> Client {
        let mut config = Config::new(format!("https://{}", self.port.address()).parse().unwrap());
        let roots = CertificateDer::pem_file_iter(self.authority.roots()).unwrap();
        config.root_cert = Some(roots.map(|root| root.unwrap().to_vec()).collect());
        config.tls_server_name = Some(NAME.to_owned());
        let certificate = proof.certificate.as_ref();
        let path = |path: &std::path::Path| path.display().to_string();
        config.auth_info = AuthInfo {
            token: proof.token.map(Into::into),
            client_certificate: certificate.map(|one| path(&one.certificate)),
            client_key: certificate.map(|one| path(&one.key)),
            ..AuthInfo::default()
        };
        let header =
            |user| (HeaderName::from_static("x-remote-user"), HeaderValue::from_static(user));
        config.headers = proof.user.map(header).into_iter().collect();
        Client::try_from(config).unwrap()
    }

    /// The ConfigMap in which the API server says how it proves itself.
    pub(crate) async fn authentication(&self) -> ConfigMap {
        let maps: Api<ConfigMap> = Api::namespaced(self.replicas.cluster.admin(), "kube-system");
        maps.get("extension-apiserver-authentication").await.unwrap()
    }
}

fn get(path: &str) -> Request<Vec<u8>> {
    Request::get(path).body(Vec::new()).unwrap()
}
