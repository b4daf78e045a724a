//! `filmgate ui`: the extender's page in a browser.

use std::process::{Command, Stdio};

use super::reach::Reach;
use super::shutdown;

/// `filmgate ui`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the page's address and open no browser
    #[arg(long)]
    no_browser: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Opens the page, and keeps the port-forward until SIGINT or SIGTERM.
///
/// # Errors
/// Why the extender cannot be reached.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let interrupted = shutdown::on_signal()?;
    let extender = args.reach.extender().await?;
    // Whoever has nothing to show should say so here, and not in a browser.
    let _fleet: serde_json::Value = extender.get("/fleet", &[("limit", "0")]).await?;
    let mut page = extender.url().clone();
    page.set_path("/ui");
    println!("{page}\nopen until Ctrl-C");
    if !args.no_browser && !open(page.as_str()) {
        println!("no browser could be opened: open that address in one of this machine");
    }
    interrupted.cancelled().await;
    Ok(())
}

/// Whether the desktop's own opener took it.
fn open(page: &str) -> bool {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(opener);
    command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}
