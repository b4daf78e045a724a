//! filmgate's figures for autoscalers: `external.metrics.k8s.io/v1beta1`, which the API server
//! proxies to this process, and KEDA's external scaler.
//!
//! ```text
//! HPA ──▶ API server ──TLS, front proxy's certificate──▶ callers ──▶ api ──▶ catalogue ◀── ledger
//!                   ◀──TokenReview, SubjectAccessReview── reviews ◀──┘          ▲
//! KEDA ──gRPC, TLS, a certificate of its own──▶ keda ─────────────────────────┘
//! ```
//!
//! [`catalogue`] says what each metric means and computes it; [`api`] speaks Kubernetes' words and
//! [`keda`] KEDA's; [`callers`] lets in whom the API server vouches for.

use std::net::SocketAddr;

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::tls::{Clients, Identity, PeerCertificates, TlsError, TlsListener};

pub mod api;
pub mod callers;
pub mod catalogue;
pub mod front_proxy;
pub mod keda;
pub mod refusal;
mod remembered;
pub mod reviews;
pub mod selector;
mod snapshot;
mod wire;

pub use snapshot::{Figures, Snapshot};

/// The API's group, of which a cluster has one server.
pub const GROUP: &str = "external.metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";
const GROUP_VERSION: &str = "external.metrics.k8s.io/v1beta1";

/// Where it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The address.
    pub listen: SocketAddr,
    /// With which certificate.
    pub identity: Identity,
}

/// Why it is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("config key externalMetrics.listen: cannot listen on {0}: {1}")]
    Address(SocketAddr, std::io::Error),
    /// The certificate cannot be used.
    #[error("config keys externalMetrics.certificateFile and externalMetrics.keyFile: {0}")]
    Identity(#[from] TlsError),
}

/// Serves until `stop`.
///
/// # Errors
/// When the address or the certificate cannot be used.
pub async fn serve(
    served: &Served,
    client: &Client,
    figures: Figures,
    clock: Clock,
    stop: &CancellationToken,
) -> Result<JoinHandle<std::io::Result<()>>, ServeError> {
    let tcp = TcpListener::bind(served.listen).await;
    let tcp = tcp.map_err(|error| ServeError::Address(served.listen, error))?;
    let listener = TlsListener::with_clients(tcp, served.identity.clone(), Clients::MayShow)?;
    let (tell, proxy) = watch::channel(None);
    let watching = tokio::spawn(front_proxy::watch_config(client.clone(), tell));
    let watching = AbortOnDropHandle::new(watching);
    let callers = callers::Callers::new(proxy, reviews::ApiServer::new(client), clock);
    let router = api::router(figures, callers);
    let router = router.into_make_service_with_connect_info::<PeerCertificates>();
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    Ok(tokio::spawn(async move {
        let _watching = watching;
        serving.await
    }))
}
