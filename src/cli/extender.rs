//! `filmgate extender`: gate, cluster, readings and listeners put together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{host_name, logging, shutdown};
use crate::autoscaling::{self, Figures};
use crate::clock::Clock;
use crate::cluster::lease::{LeaseKeeper, LeaseSettings, Mandate};
use crate::cluster::version::watch_skew;
use crate::cluster::{
    self, Budgets, Identity, KubeWriter, NamespaceDefaults, WatchesEnded, Watching,
};
use crate::comfyui::{self, Poller};
use crate::config::{Config, ElectionMode, Flags, LeaderElection};
use crate::extender::agents::AgentLink;
use crate::extender::lead::Replica;
use crate::extender::{Gate, http};
use crate::leadership::{Candidate, Lead};

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
    let name = config.leader_election.identity.clone().unwrap_or_else(host_name);
    let clock = Clock::monotonic();
    let election = Election::of(&config.leader_election, &name, &client, clock.clone());
    let identity = Arc::new(Identity::new(&name));
    let writer = KubeWriter::start(client.clone(), identity, Arc::clone(&defaults));
    let writer = Arc::new(match &election {
        Some(election) => writer.under(Arc::clone(&election.mandate)),
        None => writer,
    });
    let watch = Budgets::watch(&client);
    let (defaults_of_gate, budgets) = (Arc::clone(&defaults), Arc::clone(&watch.budgets));
    let gate =
        Gate::in_cluster(config.gate(), writer.clone(), clock.clone(), defaults_of_gate, budgets);
    if election.is_some() {
        gate.stand_by();
    }

    let served = CancellationToken::new();
    let verbs = serve(config.verbs, http::verbs_router(Arc::clone(&gate)), &served).await?;
    let ops = serve(config.metrics, http::ops_router(Arc::clone(&gate)), &served).await?;
    let mut listeners = vec![verbs, ops];
    let figures = Figures::of(Arc::clone(&gate), clock.clone());
    if let Some(external) = &config.external_metrics {
        let (figures, clock) = (figures.clone(), clock.clone());
        listeners.push(autoscaling::serve(external, &client, figures, clock, &served).await?);
        tracing::info!(address = %external.listen, "serving external metrics");
    }
    if let Some(keda) = &config.keda {
        listeners.push(autoscaling::keda::serve(keda, figures, &served).await?);
        tracing::info!(address = %keda.listen, tls = keda.tls.is_some(), "serving KEDA");
    }
    if let Some(service) = &config.service {
        listeners.push(http::service::serve(service, Arc::clone(&gate), &served).await?);
        tracing::info!(address = %service.listen, tls = service.tls.is_some(), "serving the verbs");
    }
    tracing::info!(verbs = %config.verbs, metrics = %config.metrics, mode = ?config.mode, "listening");

    let work = async {
        let (sink, defaults) = (Arc::clone(&gate), Arc::clone(&defaults));
        let mut watching = match &election {
            Some(_) => cluster::stand_by(&client, sink, defaults).await?,
            None => cluster::start(&client, &writer, sink, defaults).await?,
        };
        let trust = config.agents_trust.clone();
        let agents = AgentLink::start(&config.agents, trust, &client, clock, Arc::clone(&gate))?;
        tokio::spawn(Arc::clone(&gate).run(Arc::new(agents)));
        let _comparing = config.kube_scheduler_version.map(|version| {
            let gate = Arc::clone(&gate);
            let tell = move |behind| gate.set_kube_scheduler_skew(behind);
            AbortOnDropHandle::new(tokio::spawn(watch_skew(client.clone(), version, tell)))
        });
        tokio::spawn(Arc::clone(&gate).mark_idle_nodes());
        let _polling = poll_comfyui(config.comfyui.as_ref(), &gate)?;
        gate.set_ready(true);
        tracing::info!("ready");
        if let Some(election) = &election {
            let relists = watching.relists();
            let (gate, writer) = (Arc::clone(&gate), Arc::clone(&writer));
            let mandate = Arc::clone(&election.mandate);
            election.lead(Replica { gate, writer, mandate, relists }, &mut watching).await?;
        }
        anyhow::Result::<()>::Err(watching.ended().await.into())
    };
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        failed = work => failed,
    };
    gate.drain(config.bind_timeout + ANSWER_GRACE).await;
    if let Some(election) = &election {
        // No Binding is begun any more: another may lead at once.
        election.keeper.release().await;
    }
    served.cancel();
    for listener in listeners {
        // A caller that keeps its connection open does not keep us.
        let _ = tokio::time::timeout(ANSWER_GRACE, listener).await;
    }
    ended
}

/// This replica among others.
struct Election {
    keeper: LeaseKeeper,
    told: watch::Receiver<Option<Lead>>,
    mandate: Arc<Mandate>,
}

impl Election {
    /// `None` where there is no other replica.
    fn of(config: &LeaderElection, name: &str, client: &Client, clock: Clock) -> Option<Self> {
        let candidate = match config.mode {
            ElectionMode::Off => return None,
            ElectionMode::Sibling => Candidate::Sibling { hostname: name.to_owned() },
            ElectionMode::Own => Candidate::Own {
                // Another run is another holder: it must not take this one's Lease for its own.
                holder: format!("{name}_{:016x}", rand::random::<u64>()),
                renew_deadline: config.renew_deadline,
            },
        };
        let settings = LeaseSettings {
            namespace: config.namespace.clone(),
            name: config.name.clone(),
            candidate,
            duration: config.lease_duration,
            retry_period: config.retry_period,
        };
        let mandate = Mandate::new(client, &config.namespace, &config.name);
        let (keeper, told) = LeaseKeeper::new(client, settings, clock);
        Some(Self { keeper, told, mandate })
    }

    /// Leads whenever it is this replica's turn, as long as the cluster is watched.
    async fn lead(&self, replica: Replica, watching: &mut Watching) -> Result<(), WatchesEnded> {
        let gate = Arc::clone(&replica.gate);
        let keeping = self.keeper.run(|| gate.called_in_vain());
        tokio::select! {
            () = keeping => Ok(()),
            led = replica.run(self.told.clone()) => led,
            ended = watching.ended() => Err(ended),
        }
    }
}

/// Asks the pods' ComfyUIs what they do, where that is wanted, until this is dropped.
fn poll_comfyui(
    settings: Option<&comfyui::Settings>,
    gate: &Arc<Gate>,
) -> anyhow::Result<Option<AbortOnDropHandle<()>>> {
    let Some(settings) = settings else { return Ok(None) };
    let poller = Poller::new(settings.clone(), Arc::clone(gate))?;
    Ok(Some(AbortOnDropHandle::new(tokio::spawn(poller.run()))))
}

async fn serve(
    address: SocketAddr,
    router: Router,
    stop: &CancellationToken,
) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    Ok(http::serve(listener, router, stop))
}
