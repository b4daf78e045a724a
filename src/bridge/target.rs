//! The ConfigMap, the Secret, and the workloads that read them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, PodTemplateSpec, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::decision::{Wish, Written};
use super::readers::Source;
use crate::cluster::in_a_line;

/// Who owns the fields that are written: what Argo CD is told to ignore.
pub const FIELD_MANAGER: &str = "filmgate-bridge";
/// Who reports events.
const CONTROLLER: &str = "filmgate.dev/bridge";
/// The API server takes notes of up to 1,024 bytes.
const LONGEST_NOTE: usize = 1024;
/// On the ConfigMap: the tunnel that was told last.
pub const TUNNEL: &str = "filmgate.dev/comfyui-tunnel";
/// On the ConfigMap, `true` or `false`: not all that read the URL have been restarted since it was
/// written. It is never taken away, which only the last of its owners could.
pub const RESTART_DUE: &str = "filmgate.dev/restart-due";
/// On a workload's pods: what `kubectl rollout restart` writes.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// What is written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The namespace of all of it.
    pub namespace: String,
    /// The ConfigMap.
    pub config_map: String,
    /// The key in it.
    pub config_key: String,
    /// The Secret and the key in it, where one is kept.
    pub secret: Option<(String, String)>,
}

/// Why something cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Somebody has to create it: the bridge may only change what is there.
    #[error("there is no {kind} {namespace}/{name}: kubectl create {create} {name} -n {namespace}")]
    Missing {
        /// The kind.
        kind: &'static str,
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// What kubectl calls it.
        create: &'static str,
    },
    /// Somebody else wrote at the same time.
    #[error("{0} was written by somebody else at the same time")]
    Conflict(String),
    /// Anything else.
    #[error("{what}: {why}")]
    Failed {
        /// What was done.
        what: String,
        /// What the API server says.
        why: String,
    },
}

/// A workload whose pods read the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Deployment or StatefulSet.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.to_ascii_lowercase(), self.name)
    }
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    /// In one word.
    pub reason: &'static str,
    /// For people.
    pub note: String,
}

/// What was read, and its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What it says.
    pub written: Written,
    config_version: Option<String>,
    secret_version: Option<String>,
}

/// Reads and writes.
#[derive(Clone)]
pub struct Target {
    client: Client,
    place: Place,
}

impl Target {
    /// There, by that client.
    #[must_use]
    pub fn new(client: Client, place: Place) -> Self {
        Self { client, place }
    }

    /// What is written, and where.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.place.namespace)
    }

    /// What lies there.
    ///
    /// # Errors
    /// When the ConfigMap or the Secret is not there, or cannot be read.
    pub async fn read(&self) -> Result<Held, TargetError> {
        let Place { config_map, config_key, .. } = &self.place;
        let config: ConfigMap = self.get("ConfigMap", "configmap", config_map).await?;
        let annotations = config.metadata.annotations.unwrap_or_default();
        let mut held = Held {
            written: Written {
                config: config.data.and_then(|mut data| data.remove(config_key)),
                secret: None,
                tunnel: annotations.get(TUNNEL).cloned(),
                is_restart_due: annotations.get(RESTART_DUE).is_some_and(|due| due == "true"),
            },
            config_version: config.metadata.resource_version,
            secret_version: None,
        };
        if let Some((name, key)) = &self.place.secret {
            let secret: Secret = self.get("Secret", "secret generic", name).await?;
            let url = secret.data.and_then(|mut data| data.remove(key));
            // What is no text is no URL, and is replaced.
            held.written.secret = Some(url.and_then(|ByteString(url)| String::from_utf8(url).ok()));
            held.secret_version = secret.metadata.resource_version;
        }
        Ok(held)
    }

    async fn get<K>(
        &self,
        kind: &'static str,
        create: &'static str,
        name: &str,
    ) -> Result<K, TargetError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
        K: Clone + fmt::Debug + DeserializeOwned,
    {
        let found = self.api::<K>().get_opt(name).await;
        let found = found.map_err(|why| failed(format!("{kind} {name}"), why))?;
        let (namespace, name) = (self.place.namespace.clone(), name.to_owned());
        found.ok_or(TargetError::Missing { kind, namespace, name, create })
    }

    /// Writes the wish over what was read, unless somebody else did since. Returns what is read
    /// now.
    ///
    /// # Errors
    /// When either cannot be written. Of two that are written at once only one is.
    pub async fn write(
        &self,
        held: &Held,
        wish: &Wish,
        is_restart_due: bool,
    ) -> Result<Held, TargetError> {
        let config_version = self.write_config(held, wish, is_restart_due).await?;
        let mut now = Held { config_version, ..held.clone() };
        now.written.config = Some(wish.url.clone());
        now.written.tunnel.clone_from(&wish.tunnel);
        now.written.is_restart_due = is_restart_due;
        if let Some((name, key)) = &self.place.secret
            && held.written.secret.as_ref().and_then(Option::as_ref) != Some(&wish.url)
        {
            now.secret_version = self.write_secret(held, name, key, &wish.url).await?;
            now.written.secret = Some(Some(wish.url.clone()));
        }
        Ok(now)
    }

    async fn write_config(
        &self,
        held: &Held,
        wish: &Wish,
        is_restart_due: bool,
    ) -> Result<Option<String>, TargetError> {
        let Place { config_map, config_key, .. } = &self.place;
        let tunnel = wish.tunnel.iter().map(|tunnel| (TUNNEL.to_owned(), tunnel.clone()));
        let due = [(RESTART_DUE.to_owned(), is_restart_due.to_string())];
        let metadata =
            metadata(config_map, held.config_version.as_ref(), tunnel.chain(due).collect());
        let data = BTreeMap::from([(config_key.clone(), wish.url.clone())]);
        let config = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        let written = apply(&self.api::<ConfigMap>(), config_map, &config).await?;
        Ok(written.metadata.resource_version)
    }

    async fn write_secret(
        &self,
        held: &Held,
        name: &str,
        key: &str,
        url: &str,
    ) -> Result<Option<String>, TargetError> {
        let metadata = metadata(name, held.secret_version.as_ref(), BTreeMap::new());
        let data = BTreeMap::from([(key.to_owned(), ByteString(url.as_bytes().to_vec()))]);
        let secret = Secret { metadata, data: Some(data), ..Secret::default() };
        let written = apply(&self.api::<Secret>(), name, &secret).await?;
        Ok(written.metadata.resource_version)
    }

    /// The workloads whose pods read the URL.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn readers(&self) -> Result<Vec<Workload>, TargetError> {
        let mut readers = self.reading::<Deployment>("Deployment").await?;
        readers.extend(self.reading::<StatefulSet>("StatefulSet").await?);
        Ok(readers)
    }

    async fn reading<K: Restartable>(
        &self,
        kind: &'static str,
    ) -> Result<Vec<Workload>, TargetError> {
        let Place { config_map, config_key, secret, .. } = &self.place;
        let secret = secret.as_ref().map(|(name, key)| (&**name, &**key));
        let source = Source { config: (config_map, config_key), secret };
        let listed = self.api::<K>().list(&ListParams::default()).await;
        let listed = listed.map_err(|why| failed(format!("{kind}s"), why))?.into_iter();
        let reading = listed.filter(|one| {
            let pod = one.template().spec.as_ref();
            pod.is_some_and(|pod| source.is_read_by(pod))
        });
        let named = reading.map(|one| {
            let ObjectMeta { name, uid, .. } = one.meta().clone();
            Workload { kind, name: name.unwrap_or_default(), uid: uid.unwrap_or_default() }
        });
        Ok(named.collect())
    }

    /// Restarts it as `kubectl rollout restart` does.
    ///
    /// # Errors
    /// When it cannot be changed. That it is gone is none.
    pub async fn restart(&self, workload: &Workload, at: Timestamp) -> Result<(), TargetError> {
        let name = &workload.name;
        // To the fraction: the same second again would restart nothing.
        let at = at.to_string();
        let template = json!({"metadata": {"annotations": {RESTARTED_AT: at}}});
        let patch = Patch::Strategic(json!({"spec": {"template": template}}));
        let parameters = PatchParams::default();
        let patched = match workload.kind {
            "StatefulSet" => self.api::<StatefulSet>().patch(name, &parameters, &patch).await.err(),
            _ => self.api::<Deployment>().patch(name, &parameters, &patch).await.err(),
        };
        match patched {
            Some(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Some(why) => Err(failed(format!("restart of {workload}"), why)),
            None => Ok(()),
        }
    }

    /// Writes an event on each. What cannot be written is only logged.
    pub async fn tell(&self, workloads: &[Workload], news: &News) {
        for workload in workloads {
            let event = self.event(workload, news, Timestamp::now());
            if let Err(why) = self.api::<Event>().create(&PostParams::default(), &event).await {
                tracing::warn!(%workload, why = in_a_line(why), "event not written");
            }
        }
    }

    fn event(&self, workload: &Workload, news: &News, now: Timestamp) -> Event {
        let Workload { kind, name, uid } = workload;
        let note = &news.note[..news.note.floor_char_boundary(LONGEST_NOTE)];
        Event {
            metadata: ObjectMeta {
                generate_name: Some("filmgate-bridge-".to_owned()),
                namespace: Some(self.place.namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(news.type_.to_owned()),
            reason: Some(news.reason.to_owned()),
            action: Some("Watching".to_owned()),
            note: Some(note.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: Some((*kind).to_owned()),
                namespace: Some(self.place.namespace.clone()),
                name: Some(name.clone()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(FIELD_MANAGER.to_owned()),
            ..Event::default()
        }
    }
}

/// What has a template of pods.
trait Restartable:
    Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
    + Clone
    + fmt::Debug
    + DeserializeOwned
{
    fn template(&self) -> &PodTemplateSpec;
}

impl Restartable for Deployment {
    fn template(&self) -> &PodTemplateSpec {
        &self.spec.template
    }
}

impl Restartable for StatefulSet {
    fn template(&self) -> &PodTemplateSpec {
        &self.spec.template
    }
}

/// With a version the API server refuses what somebody else has changed since.
fn metadata(
    name: &str,
    version: Option<&String>,
    annotations: BTreeMap<String, String>,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        resource_version: version.cloned(),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

async fn apply<K>(api: &Api<K>, name: &str, object: &K) -> Result<K, TargetError>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let what = format!("{} {name}", K::kind(&()));
    match api.patch(name, &parameters, &Patch::Apply(object)).await {
        Ok(written) => Ok(written),
        Err(kube::Error::Api(status)) if status.code == 409 => Err(TargetError::Conflict(what)),
        Err(why) => Err(failed(what, why)),
    }
}

fn failed(what: String, why: kube::Error) -> TargetError {
    TargetError::Failed { what, why: in_a_line(why) }
}
