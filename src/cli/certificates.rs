//! `filmgate certificates`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use rustls::pki_types::DnsName;

use super::listen::listen;
use super::shutdown;
use crate::certificates::plan::Subject;
use crate::certificates::{Keeper, Settings, health};
use crate::cluster;

/// Flags of `filmgate certificates`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the Secrets are
    #[arg(long, env = "FILMGATE_NAMESPACE", default_value = "filmgate")]
    namespace: String,
    /// The Secret of the authority that signs the others
    #[arg(long, value_name = "SECRET")]
    authority: String,
    /// A Secret for a server's certificate, and the server's names
    #[arg(long, value_name = "SECRET=DNS[,DNS...]", value_parser = server)]
    server: Vec<(String, Subject)>,
    /// A Secret for a client's certificate, and the client's name. NAMESPACE/SECRET is one elsewhere
    #[arg(long, value_name = "SECRET=NAME", value_parser = client)]
    client: Vec<(String, Subject)>,
    /// An APIService whose server has one of these certificates: the API server is told to believe
    /// the authority, where the Service behind it is in this namespace
    #[arg(long, value_name = "APISERVICE")]
    ca_bundle: Option<String>,
    /// Do what is due, and end
    #[arg(long)]
    once: bool,
    /// Address of /healthz, /readyz and /metrics
    #[arg(
        long,
        env = "FILMGATE_CERTIFICATES_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9117"
    )]
    health_listen: SocketAddr,
    /// A kubeconfig [default: the pod's service account, or the usual file]
    #[arg(long, env = "FILMGATE_CERTIFICATES_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// The longest common name that a certificate may have.
const LONGEST_COMMON_NAME: usize = 64;

fn server(text: &str) -> Result<(String, Subject), String> {
    let (secret, names) = named(text)?;
    let names: Vec<_> = names.split(',').map(str::to_ascii_lowercase).collect();
    for name in &names {
        DnsName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no DNS name"))?;
    }
    Ok((secret, Subject::Server(names)))
}

fn client(text: &str) -> Result<(String, Subject), String> {
    let (secret, name) = named(text)?;
    if name.len() > LONGEST_COMMON_NAME {
        return Err(format!("a name has {LONGEST_COMMON_NAME} bytes at most"));
    }
    Ok((secret, Subject::Client(name.to_owned())))
}

fn named(text: &str) -> Result<(String, &str), String> {
    match text.split_once('=') {
        Some((secret, name)) if !secret.is_empty() && !name.is_empty() => {
            Ok((secret.to_owned(), name))
        }
        _ => Err("write for example filmgate-agent-tls=filmgate-agent.filmgate.svc".to_owned()),
    }
}

impl Args {
    fn settings(&self) -> anyhow::Result<Settings> {
        let leaves: Vec<_> = self.server.iter().chain(&self.client).cloned().collect();
        let mut names = BTreeSet::from([&self.authority]);
        if let Some((twice, _)) = leaves.iter().find(|(name, _)| !names.insert(name)) {
            bail!("secret {twice} is named twice: each holds one certificate");
        }
        Ok(Settings {
            namespace: self.namespace.clone(),
            authority: self.authority.clone(),
            leaves,
            api_service: self.ca_bundle.clone(),
        })
    }
}

/// Keeps certificates until SIGTERM, or does what is due once.
///
/// # Errors
/// When the flags, the API server or the address cannot be used; with `--once` whatever is in the
/// way of a certificate.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings()?;
    let stop = shutdown::on_signal().context("cannot catch SIGTERM")?;
    let client = cluster::connect(args.kubeconfig.as_deref()).await?;
    let keeper = Arc::new(Keeper::new(&client, settings, Timestamp::now));
    if args.once {
        keeper.round().await?;
        return Ok(());
    }
    let listener = listen(args.health_listen, "--health-listen").await?;
    let serving = axum::serve(listener, health::router(Arc::clone(&keeper)))
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        served = serving => served.context("the listener failed"),
        () = keeper.run() => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn settings(flags: &[&str]) -> Result<Settings, String> {
        let line = ["filmgate", "certificates", "--authority", "ca"].iter().chain(flags);
        let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        let Command::Certificates(args) = cli.command else { panic!("{cli:?}") };
        args.settings().map_err(|error| error.to_string())
    }

    #[test]
    fn each_secret_is_for_somebody() {
        let said = settings(&["--server", "a=x.y.svc,x", "--client", "b=filmgate"]).unwrap();
        let server = Subject::Server(vec!["x.y.svc".to_owned(), "x".to_owned()]);
        let client = Subject::Client("filmgate".to_owned());
        assert_eq!(said.leaves, [("a".to_owned(), server), ("b".to_owned(), client)]);
    }

    #[test]
    fn flags_that_cannot_be_meant_are_refused() {
        let refused = |flags: &[&str], why: &str| {
            let said = settings(flags).unwrap_err();
            assert!(said.contains(why), "{said}");
        };
        refused(&["--server", "a"], "for example");
        refused(&["--server", "a="], "for example");
        refused(&["--server", "a=x y"], "no DNS name");
        refused(&["--server", "ca=x"], "named twice");
        refused(&["--server", "a=x", "--client", "a=y"], "named twice");
    }
}
