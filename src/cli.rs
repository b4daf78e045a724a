//! The command line: what each subcommand takes. No logic lives here.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::config::LogFormat;

pub mod agent;
pub mod bridge;
pub mod certificates;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod extender;
#[allow(unsafe_code, reason = "a setting of the C library's")]
mod heap;
mod listen;
pub mod logging;
mod output;
pub mod reach;
pub mod shutdown;
pub mod top;
pub mod ui;

/// GPU sharing made safe on Kubernetes, by measured VRAM.
#[derive(Debug, Parser)]
#[command(name = "filmgate", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sample this node's GPUs and serve the readings.
    Agent(agent::Args),
    /// Answer kube-scheduler: where a GPU pod fits, and its Binding.
    Extender(Box<extender::Args>),
    /// Say why a pod goes where it goes, or waits: every figure behind it.
    Explain(explain::Args),
    /// Show every GPU, who has what of it, and who waits: live in the terminal.
    Top(top::Args),
    /// Open the extender's page in a browser: the same, and what if.
    Ui(ui::Args),
    /// Say what is wrong with a cluster, and the command that mends it.
    Doctor(doctor::Args),
    /// Fill and renew the Secrets with the certificates of the listeners within the cluster.
    Certificates(certificates::Args),
    /// Take the URL of a ComfyUI elsewhere, and have the pipeline ask that one.
    Bridge(Box<bridge::Args>),
    /// Play a day of a diffusion service on simulated GPUs, and compare.
    Demo(demo::Args),
}

/// What the command runs on. To be made before there is any other thread.
///
/// An agent of one machine has one thread beside those that are in the driver, and one heap: it is
/// on every node, and does little. So has what keeps certificates, which does still less.
///
/// # Errors
/// When the system has no threads to give.
pub fn runtime(cli: &Cli) -> anyhow::Result<Runtime> {
    let is_small = match &cli.command {
        Command::Agent(args) => args.is_of_one_machine(),
        Command::Certificates(_) => true,
        _ => false,
    };
    let mut builder = if is_small {
        heap::share_one();
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    builder.enable_all().build().context("cannot start threads")
}

/// Does what the command line says.
///
/// # Errors
/// Whatever ends the command, in words for the user.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Agent(args) => {
            logging::start(LogFormat::Text);
            agent::run(args).await
        }
        // It starts its logs by its configuration.
        Command::Extender(args) => extender::run(*args).await,
        Command::Certificates(args) => {
            // What the API server answers here has keys in it, and the client logs answers that it
            // cannot read.
            logging::start_at("info,kube_client=off", LogFormat::Text);
            certificates::run(args).await
        }
        Command::Bridge(args) => {
            logging::start(LogFormat::Text);
            bridge::run(*args).await
        }
        Command::Explain(args) => {
            logging::start_at("error", LogFormat::Text);
            explain::run(args).await
        }
        Command::Top(args) => {
            // What is logged would be written across the screen.
            logging::start_at("off", LogFormat::Text);
            top::run(args).await
        }
        Command::Doctor(args) => {
            // What cannot be looked at is said in the report.
            logging::start_at("off", LogFormat::Text);
            doctor::run(args).await
        }
        Command::Ui(args) => {
            logging::start_at("error", LogFormat::Text);
            ui::run(args).await
        }
        Command::Demo(args) => {
            // What its parts log at work would drown what it shows.
            logging::start_at("error", LogFormat::Text);
            demo::run(args).await
        }
    }
}

/// In a cluster the pod's name; with the host's network, the node's.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "filmgate".to_owned(),
        name => name.to_owned(),
    }
}
