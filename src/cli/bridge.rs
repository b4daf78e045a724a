//! `filmgate bridge`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::listen::listen;
use super::shutdown;
use crate::bridge::address::AddressRules;
use crate::bridge::probe::Probe;
use crate::bridge::resolve::System;
use crate::bridge::sources::{PollUrl, Source};
use crate::bridge::target::{Place, Target};
use crate::bridge::token::TokenFile;
use crate::bridge::url::{HTTPS_PORT, HostPattern, UrlRules};
use crate::bridge::{Bridge, Mode, Watch, health, http};
use crate::clock::Clock;
use crate::{cluster, tls};

/// Flags of `filmgate bridge`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    common: Common,
    /// Where POST /comfyui-url is answered
    #[arg(
        long,
        env = "FILMGATE_BRIDGE_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9118"
    )]
    listen: SocketAddr,
    /// The file with the bearer token that a URL comes with; without it nobody can tell one
    #[arg(long, env = "FILMGATE_BRIDGE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A page that holds the URL, such as a gist's raw file: read every minute
    #[arg(long, env = "FILMGATE_BRIDGE_POLL", value_name = "URL")]
    poll: Option<PollUrl>,
    /// A file that holds the URL
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// Address of /healthz, /readyz, /metrics and /state
    #[arg(
        long,
        env = "FILMGATE_BRIDGE_HEALTH_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9119"
    )]
    health_listen: SocketAddr,
    /// What is asked while the tunnel is down: the ComfyUI in the cluster
    #[arg(long, env = "FILMGATE_BRIDGE_FALLBACK", value_name = "URL", value_parser = fallback)]
    fallback: Option<String>,
}

/// Between two looks at a page, which its host may keep for minutes.
const POLL: Duration = Duration::from_secs(60);
/// Between two looks at a file.
const FILE_LOOK: Duration = Duration::from_secs(2);
/// Between two looks at the tunnel.
const LOOK: Duration = Duration::from_secs(15);

fn fallback(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("write for example http://comfyui.ai-film.svc:8188".to_owned());
    }
    Ok(text.to_owned())
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make that URL the one that the pipeline asks, once, by hand.
    Push {
        /// https://HOST
        url: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// Flags of both.
#[derive(Debug, clap::Args)]
struct Common {
    /// Where the pipeline is
    #[arg(
        long,
        global = true,
        env = "FILMGATE_BRIDGE_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "ai-film"
    )]
    namespace: String,
    /// The ConfigMap that gets the URL
    #[arg(long, global = true, value_name = "NAME", default_value = "comfyui-config")]
    config_map: String,
    /// The key in it
    #[arg(long, global = true, value_name = "KEY", default_value = "COMFYUI_URL")]
    config_map_key: String,
    /// The Secret that gets the same URL; an empty name for none
    #[arg(long, global = true, value_name = "NAME", default_value = "comfyui-secret")]
    secret: String,
    /// The key in it
    #[arg(long, global = true, value_name = "KEY", default_value = "COMFYUI_URL")]
    secret_key: String,
    /// A host that a URL may have; `*.` stands for one label before it
    #[arg(
        long,
        global = true,
        env = "FILMGATE_BRIDGE_ALLOW_HOST",
        value_name = "HOST",
        value_delimiter = ',',
        default_value = "*.trycloudflare.com"
    )]
    allow_host: Vec<HostPattern>,
    /// The one port that a URL may have
    #[arg(long, global = true, value_name = "PORT", default_value_t = HTTPS_PORT)]
    allow_port: u16,
    /// A network of your own that an allowed host may lead to, though it is no internet
    #[arg(long, global = true, value_name = "CIDR")]
    allow_network: Vec<IpNet>,
    /// Certificates that are believed beside the system's (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// A kubeconfig [default: the pod's service account, or the usual file]
    #[arg(long, global = true, env = "FILMGATE_BRIDGE_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Common {
    async fn bridge(&self) -> anyhow::Result<Bridge> {
        let client = cluster::connect(self.kubeconfig.as_deref()).await?;
        let secret =
            (!self.secret.is_empty()).then(|| (self.secret.clone(), self.secret_key.clone()));
        let place = Place {
            namespace: self.namespace.clone(),
            config_map: self.config_map.clone(),
            config_key: self.config_map_key.clone(),
            secret,
        };
        let addresses = AddressRules { allowed: self.allow_network.clone() };
        let tls = tls::internet(self.roots.as_deref())?;
        let probe = Probe::new(Arc::new(System), addresses, Arc::new(tls));
        let rules = UrlRules { hosts: self.allow_host.clone(), port: self.allow_port };
        Ok(Bridge::new(rules, probe, Target::new(client, place)))
    }
}

/// Takes URLs until SIGTERM, or one by hand.
///
/// # Errors
/// When the flags, the API server or the address cannot be used; by hand, why the URL is not taken.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match &args.action {
        Some(Action::Push { url, dry_run }) => {
            let mode = if *dry_run { Mode::DryRun } else { Mode::Do };
            println!("{}", args.common.bridge().await?.offer(url, mode).await?);
            Ok(())
        }
        None => serve(&args).await,
    }
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let token = args.token_file.as_deref().map(TokenFile::open).transpose()?;
    if token.is_none() && args.poll.is_none() && args.url_file.is_none() {
        bail!("say where URLs come from: --token-file for POST, --poll or --url-file");
    }
    let stop = shutdown::on_signal().context("cannot catch SIGTERM")?;
    let watch = Watch { fallback: args.fallback.clone(), ..Watch::default() };
    let bridge = args.common.bridge().await?.watching(watch, Clock::monotonic());
    let bridge = Arc::new(bridge);
    let _sources = follow_sources(args, &bridge);
    let healths = listen(args.health_listen, "--health-listen").await?;
    tracing::info!(address = %args.health_listen, "listens (--health-listen)");
    let healths = axum::serve(healths, health::router(Arc::clone(&bridge)))
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let telling = tell(args, token, Arc::clone(&bridge), stop);
    tokio::select! {
        served = healths => served.context("the listener of /healthz failed"),
        told = telling => told,
        () = bridge.watch(LOOK) => Ok(()),
    }
}

/// Answers those who tell a URL, until it is stopped.
async fn tell(
    args: &Args,
    token: Option<TokenFile>,
    bridge: Arc<Bridge>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(token) = token else {
        stop.cancelled().await;
        return Ok(());
    };
    let listener = listen(args.listen, "--listen").await?;
    tracing::info!(address = %args.listen, "listens (--listen)");
    http::serve(listener, http::router(bridge, token, Clock::monotonic()), stop).await;
    Ok(())
}

fn follow_sources(args: &Args, bridge: &Arc<Bridge>) -> Vec<AbortOnDropHandle<()>> {
    let page = args.poll.clone().map(|page| (Source::Page(page), POLL));
    let file = args.url_file.clone().map(|file| (Source::File(file), FILE_LOOK));
    let sources = page.into_iter().chain(file);
    let following = sources.map(|(source, every)| source.follow(Arc::clone(bridge), every));
    following.map(|one| AbortOnDropHandle::new(tokio::spawn(one))).collect()
}
