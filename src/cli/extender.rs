//! `filmgate extender`: gate, cluster, readings and listeners put together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{logging, shutdown};
use crate::clock::Clock;
use crate::cluster::{self, Identity, KubeWriter, NamespaceDefaults};
use crate::config::{Config, Flags};
use crate::extender::agents::AgentLink;
use crate::extender::{Gate, http};

/// What an answer that is being written may take after the last Binding has ended.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// `filmgate extender`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file (config/filmgate.yaml says what may be in it)
    #[arg(long, env = "FILMGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// Serves until SIGTERM.
///
/// # Errors
/// What keeps it from serving.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), args.flags)?;
    logging::start(config.log_format);
    let stop = shutdown::on_signal()?;
    let client = cluster::connect(config.kubeconfig.as_deref()).await?;
    let defaults = Arc::new(NamespaceDefaults::new(config.default_vram));
    let identity = Arc::new(Identity::new(host_name()));
    let writer = Arc::new(KubeWriter::start(client.clone(), identity, Arc::clone(&defaults)));
    let clock = Clock::monotonic();
    let gate =
        Gate::with_defaults(config.gate(), writer.clone(), clock.clone(), Arc::clone(&defaults));

    let served = CancellationToken::new();
    let verbs = serve(config.verbs, http::verbs_router(Arc::clone(&gate)), &served).await?;
    let ops = serve(config.metrics, http::ops_router(Arc::clone(&gate)), &served).await?;
    tracing::info!(verbs = %config.verbs, metrics = %config.metrics, mode = ?config.mode, "listening");

    let work = async {
        let mut watching =
            cluster::start(&client, &writer, Arc::clone(&gate), Arc::clone(&defaults)).await?;
        let agents = AgentLink::start(&config.agents, &client, clock, Arc::clone(&gate))?;
        tokio::spawn(Arc::clone(&gate).run(Arc::new(agents)));
        gate.set_ready(true);
        tracing::info!("ready");
        anyhow::Result::<()>::Err(watching.ended().await.into())
    };
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        failed = work => failed,
    };
    gate.drain(config.bind_timeout + ANSWER_GRACE).await;
    served.cancel();
    for listener in [verbs, ops] {
        // A caller that keeps its connection open does not keep us.
        let _ = tokio::time::timeout(ANSWER_GRACE, listener).await;
    }
    ended
}

async fn serve(
    address: SocketAddr,
    router: Router,
    stop: &CancellationToken,
) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    let stop = stop.clone().cancelled_owned();
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
    Ok(tokio::spawn(async move { serving.await }))
}

/// The pod's name in a cluster.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "filmgate".to_owned(),
        name => name.to_owned(),
    }
}
