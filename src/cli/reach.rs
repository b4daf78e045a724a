//! How a command finds the extender that it asks.

use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::cluster;
use crate::query::Extender;

/// Which extender is asked.
#[derive(Debug, clap::Args)]
pub struct Reach {
    /// An extender's address (else a port-forward is opened to one in the cluster)
    #[arg(long, value_name = "URL", env = "FILMGATE_SERVER")]
    server: Option<Url>,
    /// Where the extender runs
    #[arg(long, value_name = "NAMESPACE", default_value = "filmgate")]
    filmgate_namespace: String,
    /// Which cluster (else as kubectl)
    #[arg(long, value_name = "FILE", env = "FILMGATE_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

impl Reach {
    /// An extender's address; `None`: a port-forward leads to one.
    pub(super) fn server(&self) -> Option<&Url> {
        self.server.as_ref()
    }

    /// Which cluster; `None`: as kubectl.
    pub(super) fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// Where the extender runs.
    pub(super) fn namespace(&self) -> &str {
        &self.filmgate_namespace
    }

    /// The extender.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn extender(&self) -> anyhow::Result<Extender> {
        if let Some(server) = &self.server {
            return Ok(Extender::at(server.clone())?);
        }
        let client = cluster::connect(self.kubeconfig.as_deref()).await?;
        Ok(Extender::in_cluster(&client, &self.filmgate_namespace).await?)
    }
}
