//! Who may ask: whoever has a certificate under the roots that the configuration names.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Status};

use crate::tls::{self, PeerCertificates, TlsError, Watched};

/// Checks each call: roots may change, and certificates run out, while a connection lasts.
#[derive(Debug, Clone)]
pub(super) struct Door(Arc<Watched<RootCertStore>>);

impl Door {
    /// For whom one of the roots in that file stands.
    pub(super) fn under(roots: PathBuf) -> Result<Self, TlsError> {
        let files = vec![roots.clone()];
        Ok(Self(Arc::new(Watched::start(files, move || tls::root_store(&roots))?)))
    }

    pub(super) fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let shown = connection.and_then(TlsConnectInfo::peer_certs).unwrap_or_default();
        let shown = PeerCertificates::new(shown.to_vec());
        shown.check_signed_by(&self.0.now()).map_err(|why| {
            Status::unauthenticated(format!(
                "the client's certificate: {why}; tlsClientCert and tlsClientKey of the \
                 TriggerAuthentication have to be signed under keda.clientCaFile"
            ))
        })?;
        Ok(request)
    }
}
