//! KEDA's external scaler: gRPC by which KEDA's operator asks for a metric's value and whether
//! there is anything to do, for ScaledObjects whose author chose one by a trigger's `metadata`.
//!
//! ```text
//! keda-operator ──TLS, its certificate──▶ tls::Door ──▶ scaler ──▶ trigger, catalogue ◀── ledger
//! ```
//!
//! A ScaledObject sees the pods of its own namespace alone, whatever it asks.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::serve::Listener;
use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::{Connected, Router, TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Status};

use crate::tls::{Door, Opened, PeerCertificates, ServeError, Served, Speaks};

mod quantity;
mod scaler;
mod trigger;
pub mod wire;

use self::scaler::Scaler;
use self::wire::external_scaler_server::ExternalScalerServer;
use super::Figures;

/// Streams and calls at a time on one connection: KEDA has one for all its ScaledObjects.
const MOST_STREAMS: u32 = 10_000;
/// A client that has gone without a word is noticed after both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `stop`, which ends the streams, too.
///
/// # Errors
/// When the address or a certificate cannot be used.
pub async fn serve(
    served: &Served,
    figures: Figures,
    stop: &CancellationToken,
) -> Result<JoinHandle<io::Result<()>>, ServeError> {
    let scaler = Scaler::new(figures, stop.clone());
    Ok(match served.open("keda", Speaks::Grpc).await? {
        Opened::Plain(listener) => {
            let service = ExternalScalerServer::new(scaler);
            answer(server().add_service(service), listener, stop)
        }
        Opened::Guarded(listener, door) => {
            let check = move |request| known_caller(&door, request);
            let service = ExternalScalerServer::with_interceptor(scaler, check);
            answer(server().add_service(service), listener, stop)
        }
    })
}

fn known_caller(door: &Door, request: Request<()>) -> Result<Request<()>, Status> {
    let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let shown = connection.and_then(TlsConnectInfo::peer_certs).unwrap_or_default();
    door.check(&PeerCertificates::new(shown.to_vec())).map_err(|why| {
        Status::unauthenticated(format!(
            "the client's certificate: {why}; tlsClientCert and tlsClientKey of the \
             TriggerAuthentication have to be signed under keda.clientCaFile"
        ))
    })?;
    Ok(request)
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
