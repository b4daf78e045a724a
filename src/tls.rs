//! TLS: what agents and the external metrics are served over, and how agents are checked.
//!
//! A server shows a certificate from a mounted secret, and takes a new one when the files change.
//! Agents are found by address and their certificate names a service: readers check it against the
//! one name that all agents share.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use parking_lot::RwLock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

mod peer;

pub use peer::PeerCertificates;

/// A peer that takes longer to shake hands is gone, or means no good.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes that are under way or done and not taken yet.
const PENDING: usize = 64;
/// Time between two looks at the files. The kubelet takes a minute to bring a changed secret.
const LOOK: Duration = Duration::from_secs(10);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as what it should be.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not belong together, or are of a kind that nobody uses.
    #[error("{certificate} and {key}: {why}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// This build's cryptography lacks what TLS needs.
    #[error("no TLS: {0}")]
    Provider(rustls::Error),
    /// No name that a certificate could have.
    #[error("{0:?} is no name of a server: write for example filmgate-agent.filmgate.svc")]
    Name(String),
}

fn in_file(path: &Path, why: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), why: why.to_string() }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A server's certificate and key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM: the certificate, then those that lead to its root.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl Identity {
    fn read(&self, clients: Clients) -> Result<ServerConfig, TlsError> {
        let certificates = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|why| in_file(&self.key, why))?;
        let in_pair = |why: rustls::Error| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            why: why.to_string(),
        };
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?;
        let config = match clients {
            Clients::NotAsked => config.with_no_client_auth(),
            Clients::MayShow => config.with_client_cert_verifier(peer::Anyone::verifier()),
        };
        config.with_single_cert(certificates, key).map_err(in_pair)
    }

    /// What the files hold, to tell whether they changed.
    fn contents(&self) -> [Option<Vec<u8>>; 2] {
        [&self.certificate, &self.key].map(|path| std::fs::read(path).ok())
    }
}

/// Whether a server asks who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// No.
    NotAsked,
    /// They may show a certificate, whoever signed it: see [`PeerCertificates`].
    MayShow,
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|why| in_file(path, why))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|why| in_file(path, why))?;
    if found.is_empty() { Err(in_file(path, "there is no certificate in it")) } else { Ok(found) }
}

/// Connections that have shaken hands. A slow peer delays nobody else.
pub struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    _accepting: AbortOnDropHandle<()>,
    _watching: AbortOnDropHandle<()>,
}

impl TlsListener {
    /// Takes over a listener. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used.
    pub fn new(tcp: TcpListener, identity: Identity) -> Result<Self, TlsError> {
        Self::with_clients(tcp, identity, Clients::NotAsked)
    }

    /// The same, that may ask who connects.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used.
    pub fn with_clients(
        tcp: TcpListener,
        identity: Identity,
        clients: Clients,
    ) -> Result<Self, TlsError> {
        let current = Arc::new(RwLock::new(Arc::new(identity.read(clients)?)));
        let address = tcp.local_addr().map_err(|why| in_file(&identity.certificate, why))?;
        let (done, ready) = mpsc::channel(PENDING);
        let accepting = tokio::spawn(accept(tcp, Arc::clone(&current), done));
        let watching = watch_files(identity, clients, current);
        Ok(Self {
            address,
            ready,
            _accepting: AbortOnDropHandle::new(accepting),
            _watching: AbortOnDropHandle::new(watching),
        })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task ends with this value and no sooner.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

async fn accept(
    mut tcp: TcpListener,
    current: Arc<RwLock<Arc<ServerConfig>>>,
    done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    loop {
        let Ok(place) = done.clone().reserve_owned().await else { return };
        // axum's own, which bears with errors of single connections.
        let (stream, peer) = Listener::accept(&mut tcp).await;
        let acceptor = TlsAcceptor::from(Arc::clone(&current.read()));
        tokio::spawn(async move {
            // Lines are small and must not wait for the next one.
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(place.send((stream, peer))),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no handshake"),
                Err(_) => tracing::debug!(%peer, "the handshake took too long"),
            }
        });
    }
}

/// A pair that cannot be used, as while one of two files is new, leaves the one before in force.
fn watch_files(
    identity: Identity,
    clients: Clients,
    current: Arc<RwLock<Arc<ServerConfig>>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut seen = identity.contents();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let now = identity.contents();
            if now == seen {
                continue;
            }
            match identity.read(clients) {
                Ok(config) => {
                    *current.write() = Arc::new(config);
                    tracing::info!("a new certificate is in force");
                }
                Err(error) => tracing::warn!(%error, "the new certificate is not taken"),
            }
            seen = now;
        }
    })
}

/// Whom readers trust: certificates of that name under these roots.
#[derive(Debug)]
struct OneName {
    name: ServerName<'static>,
    roots: Arc<WebPkiServerVerifier>,
}

/// A reader's side, whatever address it connects to.
///
/// # Errors
/// When the roots cannot be read, or the name is none.
pub fn client_config(roots: &Path, name: &str) -> Result<ClientConfig, TlsError> {
    let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.into()))?;
    let mut store = RootCertStore::empty();
    for certificate in certificates(roots)? {
        store.add(certificate).map_err(|why| in_file(roots, why))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider());
    let verifier = OneName { name, roots: verifier.build().map_err(|why| in_file(roots, why))? };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(config.with_no_client_auth())
}

/// Of a reader that knows no roots: plain HTTP works, TLS does not.
///
/// # Errors
/// When this build's cryptography lacks what TLS needs.
pub fn trusting_nobody() -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

impl ServerCertVerifier for OneName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.roots.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.roots.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.roots.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}
