//! The real KEDA on the shipped extender and the shipped example: `make test-keda`. As a part of all
//! tests it does nothing, since building KEDA takes ten minutes.
//!
//! It runs alone (tests/keda/alone.sh): KEDA's servers listen on every address of the machine, so they
//! get a network of their own that has none but loopback.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod keda;
mod scaled;
mod scaling;
mod world;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, exit};

use tempfile::TempDir;

use support::binaries;
use support::process::is_root;

/// The folder that `tools/keda.sh` prints; set by `make test-keda`.
const KEDA: &str = "FILMGATE_TEST_KEDA";
/// Set where this runs alone.
const IS_ALONE: &str = "FILMGATE_TEST_KEDA_ALONE";

fn main() {
    let Some(keda) = env::var_os(KEDA).filter(|folder| !folder.is_empty()) else { return };
    if env::var_os(IS_ALONE).is_none() {
        exit(run_alone());
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(scaling::check(&PathBuf::from(keda)));
    println!("test-keda: passed");
}

/// This program again, in namespaces of its own; its exit code.
fn run_alone() -> i32 {
    let files = TempDir::new().unwrap();
    let mut command = Command::new("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keda/alone.sh");
    let own = env::current_exe().unwrap();
    let arguments = [script.into(), files.path().into(), own.into_os_string()] as [OsString; 3];
    command.args(["--net", "--mount", "--"]).args(arguments);
    command.env(IS_ALONE, "1");
    // What may have to be built is built here, where there is a network.
    command.env(binaries::FOLDER_VARIABLE, binaries::folder());
    let status = command.status().unwrap_or_else(|error| panic!("unshare: {error}"));
    status.code().unwrap_or(1)
}
