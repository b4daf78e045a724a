//! The Secrets and the APIService, in the API server. What fails says of which object, and nothing
//! of what is in it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::material::Data;
use crate::cluster::in_a_line;

/// Why an object could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nobody has made the Secret; this process may not.
    #[error(
        "there is no secret {namespace}/{name}. It is only filled here: apply it with the rest of \
         filmgate, or run: kubectl create secret generic {name} --namespace {namespace}"
    )]
    Missing {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Somebody else changed it meanwhile.
    #[error("{0} was changed by somebody else meanwhile")]
    Conflict(String),
    /// The API server refused, or did not answer.
    #[error("{what}: {why}")]
    Failed {
        /// The object.
        what: String,
        /// What is wrong.
        why: String,
    },
}

/// One Secret as it was read or written last.
#[derive(Clone)]
pub(super) struct Stored {
    /// As the settings call it: `name`, or `namespace/name` elsewhere than in the usual namespace.
    called: String,
    secret: Secret,
}

impl Stored {
    pub(super) fn name(&self) -> &str {
        &self.called
    }

    pub(super) fn data(&self) -> &Data {
        static EMPTY: Data = BTreeMap::new();
        self.secret.data.as_ref().unwrap_or(&EMPTY)
    }

    pub(super) fn data_mut(&mut self) -> &mut Data {
        self.secret.data.get_or_insert_default()
    }

    pub(super) fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.secret.metadata.annotations.as_ref()
    }

    pub(super) fn annotations_mut(&mut self) -> &mut BTreeMap<String, String> {
        self.secret.metadata.annotations.get_or_insert_default()
    }
}

/// What became of an APIService.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bundled {
    /// It has the bundle now.
    Written,
    /// It had it.
    Same,
    /// It belongs to somebody else, and was left alone.
    Foreign(String),
}

pub(super) struct Store {
    client: Client,
    services: Api<APIService>,
    namespace: String,
}

impl Store {
    pub(super) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            client: client.clone(),
            services: Api::all(client.clone()),
            namespace: namespace.to_owned(),
        }
    }

    pub(super) async fn read(&self, name: &str) -> Result<Stored, StoreError> {
        let (namespace, simple) = self.place_of(name);
        match self.secrets(namespace).get_opt(simple).await {
            Ok(Some(secret)) => Ok(Stored { called: name.to_owned(), secret }),
            Ok(None) => {
                let (namespace, name) = (namespace.to_owned(), simple.to_owned());
                Err(StoreError::Missing { namespace, name })
            }
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// Writes it where nobody has changed it since it was read.
    pub(super) async fn write(&self, stored: &mut Stored) -> Result<(), StoreError> {
        let (namespace, simple) = self.place_of(&stored.called);
        let secrets = self.secrets(namespace);
        let written = secrets.replace(simple, &PostParams::default(), &stored.secret).await;
        stored.secret = written.map_err(|error| self.failed(&stored.called, error))?;
        Ok(())
    }

    /// Namespace and name of a Secret as the settings call it.
    fn place_of<'a>(&'a self, called: &'a str) -> (&'a str, &'a str) {
        called.split_once('/').unwrap_or((&self.namespace, called))
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn failed(&self, name: &str, error: kube::Error) -> StoreError {
        let (namespace, name) = self.place_of(name);
        failed(format!("secret {namespace}/{name}"), error)
    }

    /// Has the API server believe these authorities when it calls the Service behind the API, where
    /// that is in this namespace.
    pub(super) async fn bundle(
        &self,
        name: &str,
        bundle: &ByteString,
    ) -> Result<Bundled, StoreError> {
        let what = || format!("APIService {name}");
        let found = self.services.get(name).await.map_err(|error| failed(what(), error))?;
        let spec = found.spec.unwrap_or_default();
        let service = spec.service.unwrap_or_default();
        let namespace = service.namespace.unwrap_or_default();
        if namespace != self.namespace {
            return Ok(Bundled::Foreign(match namespace.as_str() {
                "" => "the API server itself".to_owned(),
                other => format!("the service {other}/{}", service.name.unwrap_or_default()),
            }));
        }
        if spec.ca_bundle.as_ref() == Some(bundle) {
            return Ok(Bundled::Same);
        }
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": found.metadata.resource_version},
            "spec": {"caBundle": bundle},
        }));
        let patched = self.services.patch(name, &PatchParams::default(), &patch).await;
        patched.map(|_| Bundled::Written).map_err(|error| failed(what(), error))
    }
}

fn failed(what: String, error: kube::Error) -> StoreError {
    match error {
        kube::Error::Api(status) if status.is_conflict() => StoreError::Conflict(what),
        error @ (kube::Error::Api(_) | kube::Error::Service(_)) => {
            StoreError::Failed { what, why: in_a_line(error) }
        }
        // Their texts may quote what was being read.
        _ => StoreError::Failed { what, why: "the answer cannot be read".to_owned() },
    }
}
