//! filmgate: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use filmgate::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("filmgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
