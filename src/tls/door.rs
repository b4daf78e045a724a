//! Who may ask: whoever has a certificate under the roots that the configuration names.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;

use super::{PeerCertificates, TlsError, Watched, root_store};

/// Checks each call: roots may change, and certificates run out, while a connection lasts. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub(crate) struct Door(Arc<Watched<RootCertStore>>);

impl Door {
    /// For whom one of the roots in that file stands.
    pub(super) fn under(roots: PathBuf) -> Result<Self, TlsError> {
        let files = vec![roots.clone()];
        Ok(Self(Arc::new(Watched::start(files, move || root_store(&roots))?)))
    }

    /// Whether who has shown these may ask.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, shown: &PeerCertificates) -> Result<(), String> {
        shown.check_signed_by(&self.0.now())
    }
}
