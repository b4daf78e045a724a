//! KEDA's external scaler: gRPC by which KEDA's operator asks for a metric's value and whether
//! there is anything to do, for ScaledObjects whose author chose one by a trigger's `metadata`.
//!
//! ```text
//! keda-operator ──TLS, its certificate──▶ door ──▶ scaler ──▶ trigger, catalogue ◀── ledger
//! ```
//!
//! A ScaledObject sees the pods of its own namespace alone, whatever it asks.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::serve::Listener;
use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::{Connected, Router};

use crate::tls::{Identity, TlsError, TlsListener};

mod door;
mod quantity;
mod scaler;
mod trigger;
pub mod wire;

use self::door::Door;
use self::scaler::Scaler;
use self::wire::external_scaler_server::ExternalScalerServer;
use super::Figures;

/// Streams and calls at a time on one connection: KEDA has one for all its ScaledObjects.
const MOST_STREAMS: u32 = 10_000;
/// A client that has gone without a word is noticed after both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The address.
    pub listen: SocketAddr,
    /// How both ends prove themselves; `None`: plain text, for whoever reaches the address.
    pub tls: Option<MutualTls>,
}

/// How both ends prove themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutualTls {
    /// The server's certificate.
    pub identity: Identity,
    /// PEM: the roots of clients' certificates.
    pub client_roots: PathBuf,
}

/// Why it is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("config key keda.listen: cannot listen on {0}: {1}")]
    Address(SocketAddr, io::Error),
    /// The certificate cannot be used.
    #[error("config keys keda.certificateFile and keda.keyFile: {0}")]
    Identity(TlsError),
    /// The roots of clients' certificates cannot be used.
    #[error("config key keda.clientCaFile: {0}")]
    ClientRoots(TlsError),
}

/// Serves until `stop`, which ends the streams, too.
///
/// # Errors
/// When the address or a certificate cannot be used.
pub async fn serve(
    served: &Served,
    figures: Figures,
    stop: &CancellationToken,
) -> Result<JoinHandle<io::Result<()>>, ServeError> {
    let tcp = TcpListener::bind(served.listen).await;
    let tcp = tcp.map_err(|error| ServeError::Address(served.listen, error))?;
    let scaler = Scaler::new(figures, stop.clone());
    let Some(tls) = &served.tls else {
        let service = ExternalScalerServer::new(scaler);
        return Ok(answer(server().add_service(service), tcp, stop));
    };
    let door = Door::under(tls.client_roots.clone()).map_err(ServeError::ClientRoots)?;
    let listener = TlsListener::for_grpc(tcp, tls.identity.clone());
    let listener = listener.map_err(ServeError::Identity)?;
    let check = move |request| door.check(request);
    let service = ExternalScalerServer::with_interceptor(scaler, check);
    Ok(answer(server().add_service(service), listener, stop))
}

fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(MOST_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

fn answer<L>(router: Router, listener: L, stop: &CancellationToken) -> JoinHandle<io::Result<()>>
where
    L: Listener<Io: AsyncRead + AsyncWrite + Connected + Unpin + Send>,
{
    let stop = stop.clone().cancelled_owned();
    let serving = router.serve_with_incoming_shutdown(connections(listener), stop);
    tokio::spawn(async move { serving.await.map_err(io::Error::other) })
}

fn connections<L: Listener>(listener: L) -> impl Stream<Item = Result<L::Io, Infallible>> {
    stream::unfold(listener, |mut listener| async move {
        let (connection, _) = listener.accept().await;
        Some((Ok(connection), listener))
    })
}
