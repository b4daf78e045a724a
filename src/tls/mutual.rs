//! Servers whose clients prove themselves by a certificate, too.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;

use super::{Clients, Door, Identity, Terms, TlsError, TlsListener};

/// Where something is served, and to whom.
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

/// Why it is not served. `section` is where the configuration has it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("config key {section}.listen: cannot listen on {address}: {error}")]
    Address {
        /// The configuration's section.
        section: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("config keys {section}.certificateFile and {section}.keyFile: {error}")]
    Identity {
        /// The configuration's section.
        section: &'static str,
        /// What is wrong.
        error: TlsError,
    },
    /// The roots of clients' certificates cannot be used.
    #[error("config key {section}.clientCaFile: {error}")]
    ClientRoots {
        /// The configuration's section.
        section: &'static str,
        /// What is wrong.
        error: TlsError,
    },
}

/// What is spoken over TLS, where the client may choose (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Grpc,
}

/// A listener, as its configuration wants it.
pub(crate) enum Opened {
    /// For whoever reaches the address.
    Plain(TcpListener),
    /// Clients have shaken hands; each call is to be checked at the door.
    Guarded(TlsListener, Door),
}

impl Served {
    /// Listens. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// When the address or a file cannot be used.
    pub(crate) async fn open(
        &self,
        section: &'static str,
        speaks: Speaks,
    ) -> Result<Opened, ServeError> {
        let address = self.listen;
        let tcp = TcpListener::bind(address).await;
        let tcp = tcp.map_err(|error| ServeError::Address { section, address, error })?;
        let Some(MutualTls { identity, client_roots }) = &self.tls else {
            return Ok(Opened::Plain(tcp));
        };
        let door = Door::under(client_roots.clone());
        let door = door.map_err(|error| ServeError::ClientRoots { section, error })?;
        let terms = Terms { clients: Clients::MayShow, protocols: speaks.protocols() };
        let listener = TlsListener::start(tcp, identity.clone(), terms);
        let listener = listener.map_err(|error| ServeError::Identity { section, error })?;
        Ok(Opened::Guarded(listener, door))
    }
}

impl Speaks {
    const fn protocols(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[],
            Self::Grpc => &[b"h2"],
        }
    }
}
