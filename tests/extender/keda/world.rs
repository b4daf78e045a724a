//! A scaler that listens, and its clients.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use filmgate::autoscaling::Figures;
use filmgate::autoscaling::keda::serve;
use filmgate::autoscaling::keda::wire::external_scaler_client::ExternalScalerClient;
use filmgate::autoscaling::keda::wire::{
    GetMetricsRequest, MetricSpec, MetricValue, ScaledObjectRef,
};
use filmgate::clock::{Clock, ManualClock};
use filmgate::tls::{Identity, MutualTls, Served};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::authority::Authority;
use crate::port::ReservedPort;
use crate::site::{Site, asking, bound};
use crate::support::node;

pub(super) const DEADLINE: Duration = Duration::from_secs(30);
const NAME: &str = "filmgate-keda.filmgate.svc";
/// The time for which figures are shared, and more.
const LATER: Duration = Duration::from_secs(1);

pub(super) type Client = ExternalScalerClient<Channel>;

pub(super) struct World {
    pub(super) site: Site,
    pub(super) authority: Authority,
    /// What the scaler shows.
    pub(super) identity: Identity,
    pub(super) files: TempDir,
    port: ReservedPort,
    stop: Option<DropGuard>,
    looked: Arc<Mutex<Instant>>,
}

impl World {
    /// Three pending pods, two of them with a label; a bound one that holds 3 GiB, with that label;
    /// one of another namespace.
    pub(super) async fn usual() -> Self {
        let n0 = node("n0").gpus(1).replicas(8);
        let site = Site::with(std::slice::from_ref(&n0));
        for name in ["film-0", "film-1", "other"] {
            site.add(&labelled(name));
        }
        let mut far = labelled("film-far");
        far["metadata"]["namespace"] = json!("far");
        site.add(&far);
        site.add(&bound(labelled("film-2"), "n0"));
        site.read(&n0.each(|gpu| gpu.utilization_ratio = Some(0.375)).uses("film-2", 0, 3));
        Self::of(site).await
    }

    /// Over TLS.
    pub(super) async fn of(site: Site) -> Self {
        let files = TempDir::new().unwrap();
        let authority = Authority::create(files.path(), "ours");
        let identity = authority.issued(NAME);
        let tls = MutualTls { identity: identity.clone(), client_roots: authority.roots() };
        let port = ReservedPort::reserve();
        let stop = CancellationToken::new();
        let looked = Arc::new(Mutex::new(Instant::now()));
        let figures = Figures::of(site.gate.clone(), noting(&looked, site.clock.clone()));
        let served = Served { listen: port.address(), tls: Some(tls) };
        serve(&served, figures, &stop).await.unwrap();
        Self { site, authority, identity, files, port, stop: Some(stop.drop_guard()), looked }
    }

    /// How long nobody has looked at the figures.
    pub(super) fn idle_for(&self) -> Duration {
        self.looked.lock().elapsed()
    }

    /// The replica ends.
    pub(super) fn end(&mut self) {
        self.stop = None;
    }

    /// A client with a certificate that the scaler takes.
    pub(super) async fn client(&self) -> Client {
        self.client_with(Some(&self.authority.issued("keda-operator"))).await.unwrap()
    }

    pub(super) async fn client_with(&self, shown: Option<&Identity>) -> Result<Client, String> {
        self.connect(client_config(&self.authority.roots(), shown)).await
    }

    /// A client that trusts those roots.
    pub(super) async fn client_under(
        &self,
        roots: &Path,
        shown: &Identity,
    ) -> Result<Client, String> {
        self.connect(client_config(roots, Some(shown))).await
    }

    async fn connect(&self, config: ClientConfig) -> Result<Client, String> {
        let connector = TlsConnector::from(Arc::new(config));
        let address = self.port.address();
        let dial = service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from(NAME).unwrap();
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://scaler");
        let channel = endpoint.connect_with_connector(dial).await;
        channel.map(Client::new).map_err(|error| format!("{error:?}"))
    }

    /// Figures are shared for a while: after it.
    pub(super) fn wait(&self) {
        self.site.clock.advance(LATER);
    }
}

/// The clock, and a note of when it was read last.
fn noting(looked: &Arc<Mutex<Instant>>, clock: ManualClock) -> Clock {
    let looked = Arc::clone(looked);
    Clock::from_fn(move || {
        *looked.lock() = Instant::now();
        clock.now()
    })
}

fn client_config(roots: &Path, shown: Option<&Identity>) -> ClientConfig {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(roots).unwrap() {
        store.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config =
        config.with_safe_default_protocol_versions().unwrap().with_root_certificates(store);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let certificates = CertificateDer::pem_file_iter(&identity.certificate).unwrap();
            let certificates = certificates.map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
            config.with_client_auth_cert(certificates, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub(super) fn labelled(name: &str) -> Value {
    let mut pod = asking(name, "12Gi");
    if name.starts_with("film") {
        pod["metadata"]["labels"] = json!({"app": "film"});
    }
    pod
}

/// What KEDA sends of a trigger with that `metadata`, which is more than its author wrote.
pub(super) fn asked(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let kedas = [("scalerAddress", "filmgate-keda.filmgate:9115"), ("enableTLS", "true")];
    let metadata = kedas.iter().chain(metadata);
    let metadata = metadata.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    ScaledObjectRef {
        name: "film".to_owned(),
        namespace: "default".to_owned(),
        scaler_metadata: metadata.collect::<HashMap<_, _>>(),
    }
}

/// For a metric of the film's pods, one replica for each.
pub(super) fn of_film(metric: &str) -> ScaledObjectRef {
    asked(&[("metric", metric), ("selector", "app=film"), ("target", "1")])
}

/// The one value that is given for the one metric that is named.
pub(super) async fn value(client: &mut Client, asked: &ScaledObjectRef) -> Result<f64, Status> {
    let MetricSpec { metric_name, .. } = spec(client, asked).await?;
    Ok(metric(client, asked, &metric_name).await?.metric_value_float)
}

pub(super) async fn metric(
    client: &mut Client,
    asked: &ScaledObjectRef,
    name: &str,
) -> Result<MetricValue, Status> {
    let request =
        GetMetricsRequest { scaled_object_ref: Some(asked.clone()), metric_name: name.to_owned() };
    let mut values = client.get_metrics(request).await?.into_inner().metric_values;
    assert_eq!(values.len(), 1, "{values:?}");
    Ok(values.remove(0))
}

pub(super) async fn spec(
    client: &mut Client,
    asked: &ScaledObjectRef,
) -> Result<MetricSpec, Status> {
    let mut specs = client.get_metric_spec(asked.clone()).await?.into_inner().metric_specs;
    assert_eq!(specs.len(), 1, "{specs:?}");
    Ok(specs.remove(0))
}

pub(super) async fn is_active(
    client: &mut Client,
    asked: &ScaledObjectRef,
) -> Result<bool, Status> {
    Ok(client.is_active(asked.clone()).await?.into_inner().result)
}
