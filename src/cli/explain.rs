//! `filmgate explain`: why a pod goes where it goes, or waits.

use std::path::PathBuf;

use clap::ValueEnum;
use reqwest::Url;

use crate::cluster;
use crate::explain::answer::Answer;
use crate::explain::source::{self, PortForward, Question};
use crate::explain::table;

/// `filmgate explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A pod that exists
    #[arg(value_name = "NAMESPACE/POD", required_unless_present = "file", conflicts_with = "file")]
    pod: Option<String>,
    /// A Pod's manifest: what if? (- is the standard input)
    #[arg(short = 'f', long = "filename", id = "file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: docs/explain.md describes it.
    Json,
}

/// Asks, and prints the answer.
///
/// # Errors
/// Why there is none.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let question = match (&args.pod, &args.file) {
        (Some(pod), _) => Question::about(pod)?,
        (None, Some(file)) => Question::from_file(file)?,
        (None, None) => anyhow::bail!("name a pod as NAMESPACE/POD, or a manifest with -f FILE"),
    };
    let answer = match &args.server {
        Some(server) => source::ask(server, &question).await?,
        None => {
            let client = cluster::connect(args.kubeconfig.as_deref()).await?;
            let forward = PortForward::open(client, &args.filmgate_namespace).await?;
            source::ask(forward.url(), &question).await?
        }
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Output::Table => print!("{}", table::render(&serde_json::from_value::<Answer>(answer)?)),
    }
    Ok(())
}
