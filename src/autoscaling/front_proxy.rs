//! The API server's front proxy: it calls with a certificate of its own, and says in headers for
//! whom. Whose certificates and which headers count is in a ConfigMap of the cluster's.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;

use super::reviews::Caller;
use crate::tls::PeerCertificates;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

const ROOTS: &str = "requestheader-client-ca-file";
const ALLOWED_NAMES: &str = "requestheader-allowed-names";
const USER_HEADERS: &str = "requestheader-username-headers";
const GROUP_HEADERS: &str = "requestheader-group-headers";
const EXTRA_PREFIXES: &str = "requestheader-extra-headers-prefix";

/// Whose word about callers is taken, and where it is written.
#[derive(Debug, Clone)]
pub struct FrontProxy {
    roots: Arc<RootCertStore>,
    /// Common names; empty: any.
    names: Vec<String>,
    user_headers: Vec<String>,
    group_headers: Vec<String>,
    /// In small letters.
    extra_prefixes: Vec<String>,
}

/// Why nothing can be told from the ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} of ConfigMap {NAMESPACE}/{NAME}: {why}")]
pub struct FrontProxyError {
    key: &'static str,
    why: String,
}

impl FrontProxy {
    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// The first entry that cannot be used.
    pub fn read(data: &BTreeMap<String, String>) -> Result<Self, FrontProxyError> {
        let mut extra_prefixes = list(data, EXTRA_PREFIXES)?;
        extra_prefixes.iter_mut().for_each(|prefix| prefix.make_ascii_lowercase());
        Ok(Self {
            roots: Arc::new(roots(data)?),
            names: list(data, ALLOWED_NAMES)?,
            user_headers: list(data, USER_HEADERS)?,
            group_headers: list(data, GROUP_HEADERS)?,
            extra_prefixes,
        })
    }

    /// For whom the front proxy calls.
    ///
    /// # Errors
    /// Why this is not the front proxy, or calls for nobody.
    pub fn caller(&self, shown: &PeerCertificates, headers: &HeaderMap) -> Result<Caller, String> {
        shown.check_signed_by(&self.roots)?;
        self.check_name(shown)?;
        let user = self.user_headers.iter().find_map(|name| texts(headers, name).next());
        let user = user.filter(|user| !user.is_empty());
        let groups = self.group_headers.iter().flat_map(|name| texts(headers, name));
        Ok(Caller {
            user: user.ok_or("the front proxy names no user")?.to_owned(),
            groups: groups.map(str::to_owned).collect(),
            extra: self.extra(headers),
        })
    }

    fn check_name(&self, shown: &PeerCertificates) -> Result<(), String> {
        let name = shown.own().and_then(common_name).unwrap_or_default();
        if self.names.is_empty() || self.names.contains(&name) {
            Ok(())
        } else {
            Err(format!("{name:?} is not one of the {ALLOWED_NAMES}"))
        }
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            // Names of headers are in small letters here.
            let key = self.extra_prefixes.iter().find_map(|one| name.as_str().strip_prefix(one));
            let (Some(key), Ok(value)) = (key, value.to_str()) else { continue };
            let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra.entry(key).or_default().push(value.to_owned());
        }
        extra
    }
}

fn texts<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    Some(name.as_str().ok()?.to_owned())
}

fn roots(data: &BTreeMap<String, String>) -> Result<RootCertStore, FrontProxyError> {
    let wrong = |why: String| FrontProxyError { key: ROOTS, why };
    let pem = data.get(ROOTS).map_or("", String::as_str);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong(
            "there is none: the API server has no --requestheader-client-ca-file".into(),
        ));
    }
    Ok(roots)
}

/// Lists are JSON within the ConfigMap.
fn list(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Vec<String>, FrontProxyError> {
    let Some(text) = data.get(key) else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|error| FrontProxyError { key, why: error.to_string() })
}

/// Keeps up to date what the ConfigMap says, until nobody listens. What cannot be used, and a
/// ConfigMap that is gone, leave what was said before in force.
pub async fn watch_config(client: Client, told: watch::Sender<Option<Arc<FrontProxy>>>) {
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut events = watcher(api, config).default_backoff().boxed();
    loop {
        let event = tokio::select! {
            () = told.closed() => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(%error, "watch of ConfigMap {NAMESPACE}/{NAME}; trying again");
            }
            Some(Ok(Event::Apply(found) | Event::InitApply(found))) => {
                match FrontProxy::read(&found.data.unwrap_or_default()) {
                    Ok(proxy) => drop(told.send_replace(Some(Arc::new(proxy)))),
                    Err(error) => tracing::warn!(%error, "callers by the API server are unknown"),
                }
            }
            Some(Ok(_)) => {}
        }
    }
}
