//! `filmgate top`: every GPU, who has what of it, and who waits.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use serde_json::Value;

use super::reach::Reach;
use crate::top::answer::Fleet;
use crate::top::{live, table};

/// `filmgate top`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show it once and end
    #[arg(long)]
    once: bool,
    /// How to show it once: for people, or for programs (docs/fleet.md)
    #[arg(short, long, value_enum, default_value_t = Output::Table, requires = "once")]
    output: Output,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: docs/fleet.md describes it.
    Json,
}

/// Asks, and shows the answer.
///
/// # Errors
/// Why there is none, or why the terminal cannot be used.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if !args.once && !std::io::stdout().is_terminal() {
        anyhow::bail!("filmgate top draws on a terminal: write --once -o table or -o json");
    }
    let extender = args.reach.extender().await?;
    if !args.once {
        return Ok(live::run(&extender).await?);
    }
    let answer: Value = extender.get("/fleet", &[]).await?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Output::Table => print!("{}", table::render(&serde_json::from_value::<Fleet>(answer)?)),
    }
    Ok(())
}
