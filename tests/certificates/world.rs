//! Empty Secrets, their keeper, and its clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use filmgate::certificates::keeper::Expiries;
use filmgate::certificates::material::{Certificate, Data, Pair, authorities_in};
use filmgate::certificates::plan::Subject;
use filmgate::certificates::{Keeper, Settings};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;

use crate::support::cluster::{Cluster, ClusterOptions};
use crate::support::eventually::eventually;
use crate::support::kubeconfig::User;
use crate::support::manifests::{self, apply_objects, apply_rights, objects, shipped};
use crate::support::site::START_DEADLINE;

pub const NAMESPACE: &str = "filmgate";
pub const AUTHORITY: &str = "filmgate-authority";
pub const AGENT: &str = "filmgate-agent-tls";
pub const SERVICE: &str = "filmgate-service-tls";
pub const CLIENT: &str = "filmgate-scheduler-client";
pub const AGENT_NAME: &str = "filmgate-agent.filmgate.svc";
pub const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
pub const LEAVES: [&str; 3] = [AGENT, SERVICE, CLIENT];

/// A control plane with the shipped Secrets, which are empty.
pub struct World {
    pub cluster: Cluster,
    now: Arc<Mutex<Timestamp>>,
}

impl World {
    pub async fn start() -> Self {
        let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
        let admin = cluster.admin();
        apply_rights(&admin, manifests::SERVICE).await;
        apply_objects(&admin, secrets()).await;
        let own: Api<Secret> = Api::namespaced(cluster.client(User::Certificates).await, NAMESPACE);
        eventually(START_DEADLINE, "the rights in force", async || own.get(AUTHORITY).await).await;
        Self { cluster, now: Arc::new(Mutex::new(Timestamp::now())) }
    }

    pub fn now(&self) -> Timestamp {
        *self.now.lock()
    }

    pub fn pass(&self, time: SignedDuration) {
        *self.now.lock() += time;
    }

    pub async fn client(&self) -> Client {
        self.cluster.client(User::Certificates).await
    }

    /// With the rights that are shipped, and the test's clock.
    pub async fn keeper(&self) -> Keeper {
        self.keeper_with(settings()).await
    }

    pub async fn keeper_with(&self, settings: Settings) -> Keeper {
        let now = Arc::clone(&self.now);
        Keeper::new(&self.client().await, settings, move || *now.lock())
    }

    /// Does all that is due.
    pub async fn round(&self) -> Expiries {
        self.keeper().await.round().await.unwrap()
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.cluster.admin(), NAMESPACE)
    }

    pub async fn data(&self, name: &str) -> Data {
        self.secrets().get(name).await.unwrap().data.unwrap_or_default()
    }

    pub async fn pair(&self, name: &str) -> Pair {
        Pair::in_data(&self.data(name).await).unwrap_or_else(|| panic!("no pair in {name}"))
    }

    /// As somebody would with kubectl; without a key, everything.
    pub async fn empty(&self, name: &str, key: Option<&str>) {
        let data = match key {
            Some(key) => json!({"data": {key: null}}),
            None => json!({"data": null}),
        };
        let patch = Patch::Merge(data);
        self.secrets().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Everything as it is now.
    pub async fn look(&self) -> View {
        let mut view = View::default();
        for name in LEAVES {
            let data = self.data(name).await;
            view.shown.insert(name, Pair::in_data(&data).unwrap().certificate);
            view.believed.insert(name, authorities_in(&data));
        }
        view
    }
}

/// What everyone shows and whom everyone believes at one time.
#[derive(Clone, Default)]
pub struct View {
    pub shown: BTreeMap<&'static str, Certificate>,
    pub believed: BTreeMap<&'static str, Vec<Certificate>>,
}

impl View {
    /// Whoever still has what lay in the Secrets before, and whoever has what lies there now,
    /// believe each other.
    pub fn assert_goes_on_from(&self, before: &Self) {
        for (shows, believes) in [(self, self), (before, self), (self, before)] {
            for (name, shown) in &shows.shown {
                for (other, believed) in &believes.believed {
                    let is_believed = believed.iter().any(|one| shown.is_signed_by(one));
                    assert!(is_believed, "{other} does not believe {name}");
                }
            }
        }
    }
}

pub fn settings() -> Settings {
    let server = |name: &str| Subject::Server(vec![name.to_owned()]);
    Settings {
        namespace: NAMESPACE.to_owned(),
        authority: AUTHORITY.to_owned(),
        leaves: vec![
            (AGENT.to_owned(), server(AGENT_NAME)),
            (SERVICE.to_owned(), server("filmgate.filmgate.svc")),
            (CLIENT.to_owned(), Subject::Client("kube-scheduler".to_owned())),
        ],
        api_service: None,
    }
}

pub fn secrets() -> impl Iterator<Item = DynamicObject> {
    let shipped = objects(&shipped(manifests::SERVICE)).into_iter();
    shipped.filter(|object| object.types.as_ref().is_some_and(|types| types.kind == "Secret"))
}

pub fn text(data: &Data, key: &str) -> String {
    let ByteString(bytes) = &data[key];
    String::from_utf8(bytes.clone()).unwrap()
}

pub fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}
