//! TLS: what agents, figures for autoscalers and the verbs of a Service are served over, and how
//! agents are checked.
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
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

mod door;
mod mutual;
mod peer;
mod seldom;
mod watched;

pub(crate) use door::Door;
pub use mutual::{MutualTls, ServeError, Served};
pub(crate) use mutual::{Opened, Speaks};
pub use peer::PeerCertificates;
pub(crate) use seldom::Seldom;
pub(crate) use watched::Watched;

/// A peer that takes longer to shake hands is gone, or means no good.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes that are under way or done and not taken yet.
const PENDING: usize = 64;

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
    /// Nobody could be believed.
    #[error(
        "this system has no root certificates: install ca-certificates, or name some (--roots)"
    )]
    NoRoots,
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

/// What a server wants of a handshake.
#[derive(Debug, Clone, Copy)]
struct Terms {
    clients: Clients,
    /// What is spoken afterwards, where the client may choose (ALPN).
    protocols: &'static [&'static [u8]],
}

impl Identity {
    fn read(&self, terms: Terms) -> Result<ServerConfig, TlsError> {
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
        let config = match terms.clients {
            Clients::NotAsked => config.with_no_client_auth(),
            Clients::MayShow => config.with_client_cert_verifier(peer::Anyone::verifier()),
        };
        let mut config = config.with_single_cert(certificates, key).map_err(in_pair)?;
        config.alpn_protocols = terms.protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
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

/// The roots in that file.
///
/// # Errors
/// When there are none.
pub(crate) fn root_store(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|why| in_file(path, why))?;
    }
    Ok(store)
}

/// Connections that have shaken hands. A slow peer delays nobody else.
pub struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    _accepting: AbortOnDropHandle<()>,
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
        Self::start(tcp, identity, Terms { clients, protocols: &[] })
    }

    fn start(tcp: TcpListener, identity: Identity, terms: Terms) -> Result<Self, TlsError> {
        let address = tcp.local_addr().map_err(|why| in_file(&identity.certificate, why))?;
        let files = vec![identity.certificate.clone(), identity.key.clone()];
        let current = Watched::start(files, move || identity.read(terms))?;
        let (done, ready) = mpsc::channel(PENDING);
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(tcp, address, current, done)));
        Ok(Self { address, ready, _accepting: accepting })
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
    address: SocketAddr,
    current: Watched<ServerConfig>,
    done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let failures = Arc::new(Seldom::default());
    loop {
        let Ok(place) = done.clone().reserve_owned().await else { return };
        // axum's own, which bears with errors of single connections.
        let (stream, peer) = Listener::accept(&mut tcp).await;
        let acceptor = TlsAcceptor::from(current.now());
        let failures = Arc::clone(&failures);
        tokio::spawn(async move {
            // Lines are small and must not wait for the next one.
            let _ = stream.set_nodelay(true);
            let why = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => return drop(place.send((stream, peer))),
                Ok(Err(error)) => why_no_handshake(&error),
                Err(_) => "it took too long".to_owned(),
            };
            if let Some(untold) = failures.due() {
                tracing::warn!(listener = %address, %peer, %why, untold, "no TLS handshake");
            }
        });
    }
}

/// With a hint at what is mostly wrong: an address that begins with `http:`.
fn why_no_handshake(error: &io::Error) -> String {
    let source = error.get_ref().and_then(|source| source.downcast_ref());
    match source {
        Some(rustls::Error::InvalidMessage(what)) => {
            format!("what came is no TLS, but plain text for example ({what:?})")
        }
        _ => error.to_string(),
    }
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
    let store = Arc::new(root_store(roots)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(store, provider());
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

/// Of one who asks servers of the internet by their names: believes the system's roots, and those in
/// the file. Speaks HTTP/1.1.
///
/// # Errors
/// When there are no roots, or the file cannot be used.
pub fn internet(more: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = more.map_or_else(|| Ok(RootCertStore::empty()), root_store)?;
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
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
