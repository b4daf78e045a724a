//! This machine's node, and who may read it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::agent::kubelet::Kubelet;
use crate::agent::live::LiveNode;
use crate::agent::nvml::{NvmlSource, Settings};
use crate::agent::procfs::Procfs;
use crate::cli::host_name;
use crate::cli::output::Output;
use crate::clock::Clock;
use crate::cluster;
use crate::engine::NodeName;
use crate::readings::readers::{Readers, TokenReviews};
use crate::tls::Identity;

/// This machine.
pub(super) type ThisNode = LiveNode<NvmlSource, Option<Kubelet>, Procfs>;

/// Longest wait of `--once` for a GPU: without persistence mode the driver initialises it at the
/// first call, which takes seconds. An agent that goes on asking has it in a later sampling.
const PATIENCE_ONCE: Duration = Duration::from_secs(10);

/// Flags of `--backend nvml`.
#[derive(Debug, clap::Args)]
pub(super) struct LiveArgs {
    /// Name of this node [default: the host's]
    #[arg(long, env = "FILMGATE_NODE", value_name = "NAME")]
    node: Option<String>,
    /// Sample once, print that, and end
    #[arg(long)]
    pub(super) once: bool,
    /// How --once prints
    #[arg(short, long, value_enum, default_value_t = Output::Table, requires = "once")]
    pub(super) output: Output,
    /// The kubelet's folder; one that is not there means a machine without Kubernetes
    #[arg(
        long,
        env = "FILMGATE_KUBELET",
        value_name = "FOLDER",
        default_value = "/var/lib/kubelet"
    )]
    kubelet: PathBuf,
    /// Where /proc of the host's processes is
    #[arg(long, env = "FILMGATE_PROC", value_name = "FOLDER", default_value = "/proc")]
    proc: PathBuf,
    /// NVML's library [default: libnvidia-ml.so.1]
    #[arg(long, env = "FILMGATE_NVML_LIBRARY", value_name = "FILE")]
    nvml_library: Option<PathBuf>,
    /// Address of /metrics and /healthz
    #[arg(
        long,
        env = "FILMGATE_AGENT_METRICS_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9113"
    )]
    pub(super) metrics_listen: SocketAddr,
}

impl LiveArgs {
    /// Nothing is asked before its first sampling.
    pub(super) fn node(&self, peak_window: Duration) -> ThisNode {
        let name = self.node.clone().unwrap_or_else(host_name);
        let source = NvmlSource::new(self.settings());
        let parts = (source, kubelet(&self.kubelet), Procfs::new(&self.proc));
        LiveNode::new(NodeName::from(name), Clock::monotonic(), peak_window, parts)
    }

    fn settings(&self) -> Settings {
        let usual = Settings { library: self.nvml_library.clone(), ..Settings::default() };
        if self.once { Settings { deadline: PATIENCE_ONCE, ..usual } } else { usual }
    }
}

fn kubelet(folder: &Path) -> Option<Kubelet> {
    let is_there = folder.is_dir();
    if !is_there {
        tracing::info!(folder = %folder.display(), "no kubelet: a machine without Kubernetes");
    }
    is_there.then(|| Kubelet::at(folder))
}

/// Flags of readings over TLS.
#[derive(Debug, clap::Args)]
pub(super) struct TlsArgs {
    /// PEM: the certificate of the readings, to readers with a token; taken again when it changes
    #[arg(long, env = "FILMGATE_AGENT_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// PEM: its key
    #[arg(long, env = "FILMGATE_AGENT_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Who may read over TLS: users as the API server names them
    #[arg(
        long,
        env = "FILMGATE_AGENT_READERS",
        value_name = "USER",
        value_delimiter = ',',
        default_value = "system:serviceaccount:filmgate:filmgate"
    )]
    reader: Vec<String>,
    /// The audience that readers' tokens are made for
    #[arg(long, env = "FILMGATE_AGENT_AUDIENCE", default_value = "filmgate-agent")]
    audience: String,
    /// A kubeconfig to ask whose a token is [default: the pod's service account]
    #[arg(long, env = "FILMGATE_AGENT_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl TlsArgs {
    /// `None`: plain HTTP.
    pub(super) fn identity(&self) -> Option<Identity> {
        let (certificate, key) = (self.tls_certificate.clone()?, self.tls_key.clone()?);
        Some(Identity { certificate, key })
    }

    pub(super) async fn readers(&self) -> anyhow::Result<Readers> {
        let client = cluster::connect(self.kubeconfig.as_deref()).await;
        let client = client.context("readers' tokens need an API server")?;
        let reviews = TokenReviews::new(client, self.audience.clone());
        Ok(Readers::new(reviews, self.reader.clone(), Clock::monotonic()))
    }
}
