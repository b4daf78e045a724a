//! `filmgate agent`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use self::live::{LiveArgs, ThisNode, TlsArgs};
use super::listen::listen;
use super::output::Output;
use super::shutdown;
use crate::agent::live::{Truth, metrics, table};
use crate::agent::scenario::ScenarioFile;
use crate::agent::simulated::SimulatedFleet;
use crate::clock::Clock;
use crate::engine::Bytes;
use crate::readings::server::{Pace, Sampler, bind, router, serve, serve_readers};
use crate::tls::TlsListener;

mod live;

/// What samples the GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The GPUs of this machine, through NVML.
    Nvml,
    /// Nodes out of a scenario file.
    Simulated,
}

/// Flags of `filmgate agent`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What samples the GPUs
    #[arg(long, env = "FILMGATE_AGENT_BACKEND", value_enum, default_value_t = Backend::Nvml)]
    backend: Backend,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    tls: TlsArgs,
    /// The simulated nodes (see config/scenario-example.yaml); read again whenever it changes
    #[arg(long, env = "FILMGATE_AGENT_SCENARIO", value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Address of the readings
    #[arg(
        long,
        env = "FILMGATE_AGENT_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9112"
    )]
    listen: SocketAddr,
    /// Serve plain HTTP without authentication on an address that other machines reach
    #[arg(long, env = "FILMGATE_AGENT_ALLOW_PLAIN_NON_LOOPBACK")]
    allow_plain_non_loopback: bool,
    /// Time between two samplings that nobody asked for
    #[arg(long, env = "FILMGATE_AGENT_INTERVAL", value_parser = interval, default_value = "1s")]
    interval: Duration,
    /// Movement of memory that is pushed before the interval is over
    #[arg(long, env = "FILMGATE_AGENT_PUSH_THRESHOLD", value_parser = quantity, default_value = "64Mi")]
    push_threshold: Bytes,
    /// How far back the peaks of pods reach: memory given back stays charged for as long
    #[arg(long, env = "FILMGATE_AGENT_PEAK_WINDOW", value_parser = duration, default_value = "10m")]
    peak_window: Duration,
}

impl Args {
    /// Whether it samples this machine, and no simulated fleet.
    pub(super) fn is_of_one_machine(&self) -> bool {
        self.backend == Backend::Nvml
    }
}

/// Least time between samplings: NVML needs a millisecond or two per GPU.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    let positive =
        parsed.and_then(|span| Duration::try_from(span).ok()).filter(|span| !span.is_zero());
    positive.ok_or_else(|| "write a duration above zero such as 10m, 1s or 500ms".into())
}

fn interval(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    if span < SHORTEST_INTERVAL { Err("write 10ms or more".into()) } else { Ok(span) }
}

fn quantity(text: &str) -> Result<Bytes, String> {
    Bytes::parse_quantity(text).map_err(|error| format!("{error}; write for example 64Mi"))
}

/// Samples and serves until SIGTERM.
///
/// # Errors
/// When the backend, the scenario, a certificate or an address cannot be had.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal().context("cannot catch SIGTERM")?;
    match args.backend {
        Backend::Simulated => {
            let fleet = simulated(&args).await?;
            serve_readings(&args, Arc::new(fleet), shutdown).await
        }
        Backend::Nvml => {
            let node = Arc::new(args.live.node(args.peak_window));
            if args.live.once {
                return print(&args.live, &*node.observe().await);
            }
            let metrics = serve_metrics(args.live.metrics_listen, Arc::clone(&node), &shutdown);
            tokio::try_join!(metrics, serve_readings(&args, node, shutdown.clone())).map(|_| ())
        }
    }
}

fn print(args: &LiveArgs, truth: &Truth) -> anyhow::Result<()> {
    let text = match args.output {
        Output::Table => table::render(truth),
        Output::Json => format!("{:#}\n", table::json(truth)),
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot print")
}

async fn serve_readings<S: Sampler>(
    args: &Args,
    sampler: Arc<S>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pace = Pace { interval: args.interval, push_threshold: args.push_threshold };
    let tls = args.tls.identity();
    let listener = bind(args.listen, args.allow_plain_non_loopback || tls.is_some()).await?;
    let address = listener.local_addr().context("the listener has no address")?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let router = router(sampler, pace, shutdown.clone());
    let serving = async {
        match tls {
            Some(identity) => {
                let listener = TlsListener::new(listener, identity)?;
                serve_readers(listener, router, args.tls.readers().await?, shutdown).await
            }
            None => serve(listener, router, shutdown).await,
        }
        .context("the listener failed")
    };
    // For people and scripts that gave port 0; nobody need read it.
    drop(writeln!(std::io::stdout(), "listening on {scheme}://{address}"));
    tracing::info!(%address, backend = ?args.backend, tls = scheme == "https", "agent serves readings");
    serving.await
}

async fn serve_metrics(
    address: SocketAddr,
    node: Arc<ThisNode>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let listener = listen(address, "--metrics-listen").await?;
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(node);
    tracing::info!(address = %listener.local_addr().unwrap_or(address), "agent serves metrics");
    let stop = shutdown.clone().cancelled_owned();
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
        .context("the metrics' listener failed")
}

async fn scrape(State(node): State<Arc<ThisNode>>) -> Response {
    match node.latest() {
        Some(truth) => metrics::render(&truth).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "no sampling yet\n").into_response(),
    }
}

async fn simulated(args: &Args) -> anyhow::Result<SimulatedFleet> {
    let Some(path) = &args.scenario else {
        bail!("--backend simulated needs --scenario FILE; config/scenario-example.yaml is one");
    };
    let clock = Clock::monotonic();
    let fleet = SimulatedFleet::with_peak_window(clock.clone(), args.peak_window);
    let file = ScenarioFile::open(path, fleet.clone(), clock).await?;
    tokio::spawn(file.follow(args.interval));
    Ok(fleet)
}
