//! The kubelet's sockets.

use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::agent::book::NoBook;

/// Above any node's answer: some hundred pods of some ten KiB, a few of them larger.
pub(super) const LONGEST_ANSWER: usize = 64 << 20;

/// A socket, and the connection to whoever listens there.
#[derive(Debug)]
pub(super) struct Socket {
    path: Arc<str>,
    kept: Mutex<Option<(SocketFile, Channel)>>,
}

/// A restarted kubelet has a new socket under the old path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SocketFile {
    device: u64,
    inode: u64,
    /// Inodes are used again.
    changed: (i64, i64),
}

impl SocketFile {
    fn at(path: &str) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let changed = (file.ctime(), file.ctime_nsec());
        Some(Self { device: file.dev(), inode: file.ino(), changed })
    }
}

impl Socket {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_string_lossy().into(), kept: Mutex::default() }
    }

    /// A connection to whoever listens now: the one of the last time, if the socket is the same
    /// still.
    pub(super) async fn dial(&self) -> Result<Channel, NoBook> {
        // Looked at first: one that is replaced meanwhile is not taken for the new one.
        let now = SocketFile::at(&self.path);
        if let Some((file, channel)) = &*self.kept.lock()
            && now == Some(*file)
        {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.path));
        let channel = async { endpoint?.connect().await }.await;
        let channel = channel.map_err(|error| self.unreachable(root_cause(&error)))?;
        *self.kept.lock() = now.map(|file| (file, channel.clone()));
        Ok(channel)
    }

    /// The next call begins with a new connection.
    pub(super) fn hang_up(&self) {
        *self.kept.lock() = None;
    }

    /// What the call's failure says of the kubelet.
    pub(super) fn failed(&self, status: &Status) -> NoBook {
        let why = match status.source() {
            Some(source) => format!("{} ({})", status.message(), root_cause(source)),
            None => status.message().to_owned(),
        };
        match status.code() {
            Code::Internal | Code::OutOfRange | Code::Unknown | Code::DataLoss => {
                NoBook::Garbled { socket: Arc::clone(&self.path), why }
            }
            _ => self.unreachable(why),
        }
    }

    pub(super) fn unreachable(&self, why: String) -> NoBook {
        NoBook::Unreachable { socket: Arc::clone(&self.path), why }
    }
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
