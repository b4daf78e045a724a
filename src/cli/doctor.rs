//! `filmgate doctor`: what is wrong with a cluster, and what mends it.

use std::io::IsTerminal as _;
use std::time::Duration;

use reqwest::Url;

use super::output::Output;
use super::reach::Reach;
use crate::doctor::checks::Group;
use crate::doctor::examine;
use crate::doctor::finding::Level;
use crate::doctor::ground::{Ground, Place};
use crate::doctor::report::Report;

/// Pause between two looks of `--watch`.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Clears a terminal and goes to its top.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// `filmgate doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to show it: for people, or for programs (docs/troubleshooting.md)
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Look again every 10 s, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Where the pipeline runs
    #[arg(short, long, value_name = "NAMESPACE", default_value = "ai-film")]
    namespace: String,
    /// Where people open Dagster's page
    #[arg(long, value_name = "URL", default_value = "http://ai-film.local:3000/")]
    dagster: Url,
    /// Only these checks (may be given several times; the cluster itself is always looked at)
    #[arg(long, value_enum, value_name = "GROUP")]
    only: Vec<Group>,
    #[command(flatten)]
    reach: Reach,
}

/// Looks, and prints what it found.
///
/// # Errors
/// When a check fails, or no cluster can be asked.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let place = Place {
        kubeconfig: args.reach.kubeconfig().map(Into::into),
        server: args.reach.server().cloned(),
        filmgate: args.reach.namespace().to_owned(),
        pipeline: args.namespace.clone(),
        dagster: args.dagster.clone(),
    };
    loop {
        let report = look(&args, &place).await?;
        show(&args, &report)?;
        if !args.watch {
            return match report.count(Level::Fail) {
                0 => Ok(()),
                1 => Err(anyhow::anyhow!("1 finding is a failure")),
                failures => Err(anyhow::anyhow!("{failures} findings are failures")),
            };
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
        }
    }
}

async fn look(args: &Args, place: &Place) -> anyhow::Result<Report> {
    let client = crate::cluster::connect(args.reach.kubeconfig()).await?;
    Ok(examine(&Ground::new(client, place.clone()), &args.only).await)
}

fn show(args: &Args, report: &Report) -> anyhow::Result<()> {
    match args.output {
        // One after the other, each on a line.
        Output::Json if args.watch => println!("{}", report.json()),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report.json())?),
        Output::Table => {
            let clear = if args.watch && std::io::stdout().is_terminal() { CLEAR } else { "" };
            print!("{clear}{}", report.table());
        }
    }
    Ok(())
}
