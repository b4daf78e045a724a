//! The program as it is shipped: built for size, in a profile of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds it, which takes minutes where anything has changed, and returns where it is.
pub fn program() -> PathBuf {
    // The one that runs this: another would build everything anew.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--locked", "--profile", "dist", "--bin", "filmgate"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .status()
        .expect("cargo to build what is shipped");
    assert!(built.success(), "cargo build --profile dist: {built}");
    let program_of_this_profile = Path::new(env!("CARGO_BIN_EXE_filmgate"));
    let target = program_of_this_profile.ancestors().nth(2).expect("a target folder");
    target.join("dist/filmgate")
}
