//! filmgate: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use filmgate::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = cli::runtime(&cli).and_then(|runtime| runtime.block_on(cli::run(cli)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("filmgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
