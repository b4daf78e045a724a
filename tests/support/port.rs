//! Loopback ports that stay ours from before a server starts until after it was
//! killed and started again.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A bound socket that never listens. The kernel gives its port to nobody who
/// asks for any port, nor to outgoing connections; only a server that is told
/// this very port, and sets SO_REUSEADDR as Go and Rust do, can listen on it.
/// Finding a free port and letting go of it would be a race with every other
/// test on the machine.
pub struct ReservedPort {
    _holder: TcpSocket,
    address: SocketAddr,
}

impl ReservedPort {
    /// Takes a free port of 127.0.0.1.
    pub fn reserve() -> Self {
        let holder = TcpSocket::new_v4().expect("a socket");
        holder.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        // After the bind: before it, the kernel might pick another holder's port.
        holder.set_reuseaddr(true).expect("SO_REUSEADDR");
        let address = holder.local_addr().expect("a bound socket's address");
        Self { _holder: holder, address }
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// 127.0.0.1 and the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
