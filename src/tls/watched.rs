//! Certificates in files, read anew when the files change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio_util::task::AbortOnDropHandle;

use super::TlsError;

/// Time between two looks at the files. The kubelet takes a minute to bring a changed secret.
const LOOK: Duration = Duration::from_secs(10);

/// What was made of some files when they could be used last.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    current: Arc<RwLock<Arc<T>>>,
    _watching: AbortOnDropHandle<()>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads them, and again whenever they change. Files that cannot be used, as while one of two
    /// is new, leave what was read before in force. Call it within a Tokio runtime.
    pub(crate) fn start(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, TlsError> + Send + 'static,
    ) -> Result<Self, TlsError> {
        let seen = contents(&files);
        let current = Arc::new(RwLock::new(Arc::new(read()?)));
        let watching = tokio::spawn(watch(files, seen, read, Arc::clone(&current)));
        Ok(Self { current, _watching: AbortOnDropHandle::new(watching) })
    }

    /// What is in force.
    pub(crate) fn now(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }
}

type Contents = Vec<Option<Vec<u8>>>;

/// What the files hold, to tell whether they changed.
fn contents(files: &[PathBuf]) -> Contents {
    files.iter().map(|path| std::fs::read(path).ok()).collect()
}

async fn watch<T>(
    files: Vec<PathBuf>,
    mut seen: Contents,
    read: impl Fn() -> Result<T, TlsError>,
    current: Arc<RwLock<Arc<T>>>,
) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        let now = contents(&files);
        if now == seen {
            continue;
        }
        match read() {
            Ok(new) => {
                *current.write() = Arc::new(new);
                tracing::info!(?files, "new certificates are in force");
            }
            Err(error) => tracing::warn!(%error, "the new certificates are not taken"),
        }
        seen = now;
    }
}
