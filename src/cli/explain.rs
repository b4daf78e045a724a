//! `filmgate explain`: why a pod goes where it goes, or waits.

use std::path::PathBuf;

use super::output::Output;
use super::reach::Reach;
use crate::explain::answer::Answer;
use crate::explain::question::{self, Question};
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
    /// How to show it: for people, or for programs (docs/explain.md)
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    reach: Reach,
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
    let answer = question::ask(&args.reach.extender().await?, &question).await?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Output::Table => print!("{}", table::render(&serde_json::from_value::<Answer>(answer)?)),
    }
    Ok(())
}
