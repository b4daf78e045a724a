//! Questions to what a URL leads to, at an address that was checked.
//!
//! Each question looks the name up, checks every address it leads to, and connects to one of those
//! itself: no name is looked up a second time between the check and the connection, and no redirect
//! is followed, so there is nothing that could lead elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::address::{AddressError, AddressRules};
use super::resolve::Resolve;
use super::url::{HTTPS_PORT, TunnelUrl};
use crate::comfyui::{self, AskError, SYSTEM_STATS, Vram};

/// One question, from the look at the name to the last byte. A model that is loaded holds up Python.
const DEADLINE: Duration = Duration::from_secs(10);
/// One of several addresses may be dead.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 4;
/// Statistics take a few kilobytes.
const LONGEST: usize = 256 << 10;
/// Longest content type that is shown.
const LONGEST_TYPE: usize = 60;

/// Why there is no answer that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Nobody knows the name.
    #[error("{host} leads nowhere: {why}")]
    NoAddress {
        /// The name.
        host: String,
        /// What was said.
        why: String,
    },
    /// It leads where nobody may go.
    #[error("{host} is refused: {why}")]
    Address {
        /// The name.
        host: String,
        /// Where it leads.
        why: AddressError,
    },
    /// There is no connection, or it broke, or the certificate is another's.
    #[error("no answer of {host}: {why}")]
    Unreachable {
        /// The name.
        host: String,
        /// The last that went wrong.
        why: String,
    },
    /// It took too long.
    #[error("no whole answer of {host} within {DEADLINE:?}")]
    TimedOut {
        /// The name.
        host: String,
    },
    /// It answers something else than the page.
    #[error("{host} answers {status}; redirects are not followed")]
    Status {
        /// The name.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// Its answer does not end.
    #[error("{host} answers with more than {LONGEST} bytes")]
    TooLarge {
        /// The name.
        host: String,
    },
    /// What answers is no ComfyUI with a GPU.
    #[error(transparent)]
    Answer(#[from] AskError),
}

impl ProbeError {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoAddress { .. } => "no_address",
            Self::Address { .. } => "refused_address",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::Answer(error) => error.reason(),
        }
    }
}

/// A page of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// A DNS name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// From the slash on.
    pub path: String,
}

/// An answer, as it came.
struct Answer {
    status: StatusCode,
    content_type: String,
    body: Vec<u8>,
}

/// Asks. Cheap to clone.
#[derive(Clone)]
pub struct Probe {
    resolver: Arc<dyn Resolve>,
    addresses: AddressRules,
    tls: Arc<ClientConfig>,
}

impl Probe {
    /// One that goes to these addresses and believes these certificates.
    #[must_use]
    pub fn new(
        resolver: Arc<dyn Resolve>,
        addresses: AddressRules,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self { resolver, addresses, tls }
    }

    /// The GPUs of the ComfyUI that the URL leads to, after 10 s at most.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn gpus(&self, url: &TunnelUrl) -> Result<Vec<Vram>, ProbeError> {
        let (host, port) = (url.host().to_owned(), url.port());
        let answer = self.get(&Page { host, port, path: SYSTEM_STATS.to_owned() }).await?;
        let (path, status) = (SYSTEM_STATS, answer.status.as_u16());
        if answer.status.is_redirection() {
            return Err(AskError::Redirect { path, status }.into());
        }
        if answer.status != StatusCode::OK {
            return Err(AskError::Status { path, status }.into());
        }
        Ok(comfyui::vram(answer.body, answer.content_type)?)
    }

    /// The text of a page.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn text(&self, page: &Page) -> Result<String, ProbeError> {
        let answer = self.get(page).await?;
        if answer.status != StatusCode::OK {
            let (host, status) = (page.host.clone(), answer.status.as_u16());
            return Err(ProbeError::Status { host, status });
        }
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    async fn get(&self, page: &Page) -> Result<Answer, ProbeError> {
        let asking = async {
            let addresses = self.checked(&page.host).await?;
            let stream = self.connect(page, &addresses).await?;
            ask(stream, page).await
        };
        let timed_out = || ProbeError::TimedOut { host: page.host.clone() };
        timeout(DEADLINE, asking).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Where the name leads, all of which may be asked.
    async fn checked(&self, host: &str) -> Result<Vec<IpAddr>, ProbeError> {
        let nowhere = |why| ProbeError::NoAddress { host: host.to_owned(), why };
        let found = self.resolver.resolve(host).await.map_err(|why| nowhere(why.to_string()))?;
        for address in &found {
            let refused = |why| ProbeError::Address { host: host.to_owned(), why };
            self.addresses.check(*address).map_err(refused)?;
        }
        if found.is_empty() { Err(nowhere("it has no address".to_owned())) } else { Ok(found) }
    }

    async fn connect(
        &self,
        page: &Page,
        addresses: &[IpAddr],
    ) -> Result<TlsStream<TcpStream>, ProbeError> {
        let mut why = String::new();
        for address in addresses.iter().take(MOST_ADDRESSES) {
            let address = SocketAddr::new(*address, page.port);
            match timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return self.shake_hands(&page.host, stream).await,
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = format!("no connection within {CONNECT_DEADLINE:?}"),
            }
        }
        Err(unreachable(&page.host, why))
    }

    async fn shake_hands(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ProbeError> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| unreachable(host, error))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(name, stream).await.map_err(|error| unreachable(host, error))
    }
}

async fn ask(stream: TlsStream<TcpStream>, page: &Page) -> Result<Answer, ProbeError> {
    let Page { host, port, path } = page;
    let broken = |error: hyper::Error| unreachable(host, error);
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(broken)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let authority = if *port == HTTPS_PORT { host.clone() } else { format!("{host}:{port}") };
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("filmgate/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| unreachable(host, error))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    let body = read(host, body).await?;
    Ok(Answer { status: head.status, content_type: content_type(&head.headers), body })
}

async fn read(host: &str, body: Incoming) -> Result<Vec<u8>, ProbeError> {
    match Limited::new(body, LONGEST).collect().await {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ProbeError::TooLarge { host: host.to_owned() })
        }
        Err(error) => Err(unreachable(host, error)),
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let header = headers.get(header::CONTENT_TYPE);
    let text = header.and_then(|value| value.to_str().ok()).unwrap_or("none");
    text.chars().take(LONGEST_TYPE).collect()
}

fn unreachable(host: &str, why: impl ToString) -> ProbeError {
    ProbeError::Unreachable { host: host.to_owned(), why: why.to_string() }
}
