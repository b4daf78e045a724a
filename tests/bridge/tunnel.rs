//! A ComfyUI elsewhere, and the names that lead to it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::serve::Listener as _;
use filmgate::bridge::resolve::Resolve;
use filmgate::tls::TlsListener;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::support::authority::Authority;
use crate::support::comfyui::{ComfyUi, next_address};

/// cloudflared's end: TLS under a name, before a ComfyUI. It ends with the value.
pub struct Tunnel {
    pub comfyui: ComfyUi,
    pub host: &'static str,
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Tunnel {
    /// One with a certificate for that name, at a free port.
    pub async fn start(authority: &Authority, host: &'static str) -> Self {
        Self::start_at(authority, host, 0).await
    }

    /// The same at the port that others have too, each at an address of its own.
    pub async fn start_at(authority: &Authority, host: &'static str, port: u16) -> Self {
        Self::serve(authority, host, (next_address(), port).into()).await
    }

    /// One that the machine's own resolver knows.
    pub async fn at_localhost(authority: &Authority) -> Self {
        Self::serve(authority, "localhost", ([127, 0, 0, 1], 0).into()).await
    }

    async fn serve(authority: &Authority, host: &'static str, address: SocketAddr) -> Self {
        let comfyui = ComfyUi::start().await;
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = TlsListener::new(listener, authority.issued(host)).unwrap();
        let behind = comfyui.address();
        let serving = tokio::spawn(async move {
            loop {
                let (mut outside, _) = listener.accept().await;
                tokio::spawn(async move {
                    let mut inside = TcpStream::connect(behind).await?;
                    copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        Self { comfyui, host, address, _serving: AbortOnDropHandle::new(serving) }
    }

    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        format!("https://{}:{}", self.host, self.port())
    }
}

/// DNS as the test has it. The last answer for a name stays.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>>);

impl Names {
    /// From now on that name leads there, one answer after the other.
    pub fn lead(&self, host: &str, answers: &[&[IpAddr]]) {
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        self.0.lock().insert(host.to_owned(), answers);
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let mut names = self.0.lock();
        let answers = names.get_mut(host);
        let answer = answers.and_then(|answers| match answers.len() {
            1 => answers.front().cloned(),
            _ => answers.pop_front(),
        });
        async { answer.ok_or_else(|| io::Error::other("no such name")) }.boxed()
    }
}

/// A listener that counts who comes: nobody should.
pub struct Trap {
    pub address: SocketAddr,
    visits: Arc<Mutex<u32>>,
    _listening: AbortOnDropHandle<()>,
}

impl Trap {
    /// At that port of another address of this machine.
    pub async fn set(port: u16) -> Self {
        let listener = TcpListener::bind((next_address(), port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let visits = Arc::new(Mutex::new(0));
        let counted = visits.clone();
        let listening = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                *counted.lock() += 1;
            }
        });
        Self { address, visits, _listening: AbortOnDropHandle::new(listening) }
    }

    pub fn visits(&self) -> u32 {
        *self.visits.lock()
    }
}

pub fn authority(folder: &Path) -> Authority {
    Authority::create(folder, "tunnels")
}
