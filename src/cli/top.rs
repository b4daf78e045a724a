//! `filmgate top`: every GPU, who has what of it, and who waits.

use std::io::IsTerminal as _;

use reqwest::Url;
use serde_json::Value;

use super::output::Output;
use super::reach::Reach;
use crate::query::Extender;
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
    /// A bridge's health address (docs/colab.md): a row says what it does
    #[arg(long, value_name = "URL", env = "FILMGATE_BRIDGE_SERVER")]
    bridge: Option<Url>,
    #[command(flatten)]
    reach: Reach,
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
    let bridge = args.bridge.clone().map(Extender::at).transpose()?;
    if !args.once {
        return Ok(live::run(&extender, bridge.as_ref()).await?);
    }
    let mut answer: Value = extender.get("/fleet", &[]).await?;
    if let Some(bridge) = &bridge {
        match args.output {
            Output::Json => answer["bridge"] = bridge.get("/state", &[]).await?,
            Output::Table => println!("{}", live::row(bridge).await),
        }
    }
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Output::Table => print!("{}", table::render(&serde_json::from_value::<Fleet>(answer)?)),
    }
    Ok(())
}
