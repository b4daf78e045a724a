//! The kubelet's sockets.

use std::error::Error;
use std::sync::Arc;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::agent::book::NoBook;

/// Above any node's answer: some hundred pods of some ten KiB, a few of them larger.
pub(super) const LONGEST_ANSWER: usize = 64 << 20;

/// A socket by its path.
#[derive(Debug)]
pub(super) struct Socket(pub(super) Arc<str>);

impl Socket {
    /// Connects to whoever listens now. No connection is kept: a restarted kubelet has a new socket
    /// under the old path.
    pub(super) async fn dial(&self) -> Result<Channel, NoBook> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.0));
        let channel = async { endpoint?.connect().await }.await;
        channel.map_err(|error| self.unreachable(root_cause(&error)))
    }

    /// What the call's failure says of the kubelet.
    pub(super) fn failed(&self, status: &Status) -> NoBook {
        let why = match status.source() {
            Some(source) => format!("{} ({})", status.message(), root_cause(source)),
            None => status.message().to_owned(),
        };
        match status.code() {
            Code::Internal | Code::OutOfRange | Code::Unknown | Code::DataLoss => {
                NoBook::Garbled { socket: Arc::clone(&self.0), why }
            }
            _ => self.unreachable(why),
        }
    }

    pub(super) fn unreachable(&self, why: String) -> NoBook {
        NoBook::Unreachable { socket: Arc::clone(&self.0), why }
    }
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
