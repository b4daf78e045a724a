//! A namespace with a pipeline in it, and a bridge that may change it.

use std::net::IpAddr;
use std::sync::Arc;

use filmgate::bridge::address::AddressRules;
use filmgate::bridge::probe::Probe;
use filmgate::bridge::target::{Place, Target};
use filmgate::bridge::token::TokenFile;
use filmgate::bridge::url::UrlRules;
use filmgate::bridge::{Bridge, http};
use filmgate::clock::ManualClock;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::authority::Authority;
use crate::support::cluster::{Cluster, ClusterOptions};
use crate::support::manifests::{apply_objects, namespace};
use crate::tunnel::{Names, Tunnel, authority};

pub const NAMESPACE: &str = "ai-film";
pub const HOST: &str = "so-odd-4-words.trycloudflare.com";
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// What the pipeline asks before anybody tells another.
pub const LOCAL: &str = "http://comfyui.ai-film.svc:8188";

/// What a restart leaves on a workload's pods.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

pub struct World {
    pub cluster: Cluster,
    pub authority: Authority,
    pub tunnel: Tunnel,
    pub names: Names,
    pub clock: ManualClock,
}

impl World {
    /// A pipeline that asks the ComfyUI beside it, and a tunnel that nobody knows of yet.
    pub async fn start() -> Self {
        let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
        apply_objects(&cluster.admin(), pipeline()).await;
        let authority = authority(cluster.folder());
        let tunnel = Tunnel::start(&authority, HOST).await;
        let names = Names::default();
        names.lead(HOST, &[&[tunnel.ip()]]);
        Self { cluster, authority, tunnel, names, clock: ManualClock::new() }
    }

    /// One that goes to the tunnel's address, and to no other of this machine's.
    pub fn bridge(&self) -> Bridge {
        self.bridge_by(self.cluster.admin())
    }

    pub fn bridge_by(&self, client: Client) -> Bridge {
        self.bridge_to(&[self.tunnel.ip()], client)
    }

    /// One that goes to these addresses of this machine.
    pub fn bridge_to(&self, allowed: &[IpAddr], client: Client) -> Bridge {
        let tls = filmgate::tls::internet(Some(&self.authority.roots())).unwrap();
        let addresses = AddressRules { allowed: allowed.iter().map(|ip| (*ip).into()).collect() };
        let probe = Probe::new(Arc::new(self.names.clone()), addresses, Arc::new(tls));
        let hosts = vec!["*.trycloudflare.com".parse().unwrap()];
        let rules = UrlRules { hosts, port: self.tunnel.port() };
        Bridge::new(rules, probe, Target::new(client, place()))
    }

    /// The same behind its listener.
    pub async fn door(&self) -> Door {
        let token = self.cluster.folder().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let token = TokenFile::open(&token).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = http::router(Arc::new(self.bridge()), token, self.clock.clock());
        let stop = CancellationToken::new();
        tokio::spawn(http::serve(listener, router, stop.clone()));
        Door { address, _stop: stop.drop_guard() }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.admin(), NAMESPACE)
    }

    pub async fn config(&self) -> ConfigMap {
        self.api().get("comfyui-config").await.unwrap()
    }

    pub async fn secret(&self) -> Secret {
        self.api().get("comfyui-secret").await.unwrap()
    }

    /// What clients read, in the ConfigMap and in the Secret.
    pub async fn urls(&self) -> [String; 2] {
        let config = self.config().await.data.unwrap()["COMFYUI_URL"].clone();
        let secret = self.secret().await.data.unwrap()["COMFYUI_URL"].0.clone();
        [config, String::from_utf8(secret).unwrap()]
    }

    /// When the director, the renderer and the editor were restarted last.
    pub async fn restarts(&self) -> [Option<String>; 3] {
        let director: Deployment = self.api().get("director").await.unwrap();
        let renderer: StatefulSet = self.api().get("renderer").await.unwrap();
        let editor: Deployment = self.api().get("editor").await.unwrap();
        [director.spec.template, renderer.spec.template, editor.spec.template].map(restarted_at)
    }

    /// What a workload's events say, in one word each.
    pub async fn told(&self, name: &str) -> Vec<String> {
        let mut events = self.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        events.retain(|one| one.regarding.as_ref().unwrap().name.as_deref() == Some(name));
        events.sort_by_key(|one| one.event_time.as_ref().unwrap().0);
        events.into_iter().map(|one| one.reason.unwrap()).collect()
    }

    /// Nobody has written anything.
    pub async fn assert_untouched(&self) {
        assert_eq!(self.urls().await, [LOCAL, LOCAL]);
        assert_eq!(self.restarts().await, [None, None, None]);
        assert_eq!(self.config().await.metadata.annotations, None);
    }
}

fn restarted_at(template: PodTemplateSpec) -> Option<String> {
    template.metadata?.annotations?.get(RESTARTED_AT).cloned()
}

pub fn place() -> Place {
    Place {
        namespace: NAMESPACE.to_owned(),
        config_map: "comfyui-config".to_owned(),
        config_key: "COMFYUI_URL".to_owned(),
        secret: Some(("comfyui-secret".to_owned(), "COMFYUI_URL".to_owned())),
    }
}

/// The director has the URL as a variable, the renderer as a file, the editor not at all.
fn pipeline() -> Vec<kube::api::DynamicObject> {
    let key = json!({"name": "comfyui-config", "key": "COMFYUI_URL"});
    let variable = json!({"name": "COMFYUI_URL", "valueFrom": {"configMapKeyRef": key}});
    let volume = json!({"name": "url", "secret": {"secretName": "comfyui-secret"}});
    let objects = [
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "comfyui-config"},
            "data": {"COMFYUI_URL": LOCAL, "STEPS": "20"},
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "comfyui-secret"},
            "stringData": {"COMFYUI_URL": LOCAL, "KEY": "word"},
        }),
        workload("Deployment", "director", &json!([variable]), &json!([])),
        workload("StatefulSet", "renderer", &json!([]), &json!([volume])),
        workload("Deployment", "editor", &json!([]), &json!([])),
    ];
    let objects = objects.into_iter().map(|mut object| {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        serde_json::from_value(object).unwrap()
    });
    [namespace(NAMESPACE, &[])].into_iter().chain(objects).collect()
}

fn workload(kind: &str, name: &str, env: &Value, volumes: &Value) -> Value {
    let labels = json!({"app": name});
    let container = json!({"name": "main", "image": "film", "env": env});
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "volumes": volumes},
            },
        },
    })
}

/// Where URLs are told. It ends with the value.
pub struct Door {
    pub address: std::net::SocketAddr,
    _stop: DropGuard,
}

impl Door {
    /// A telling with a token.
    pub fn request(&self, token: &str) -> RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.post(format!("http://{}/comfyui-url", self.address)).bearer_auth(token)
    }

    /// Tells that URL, as one who may.
    pub async fn tell(&self, url: &str) -> (StatusCode, Value) {
        answer(self.request(TOKEN).json(&json!({"url": url}))).await
    }
}

pub async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, response.json().await.unwrap_or_default())
}
