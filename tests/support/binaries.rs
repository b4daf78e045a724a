//! Where the programs of the control plane are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Names a folder with the programs, for those who build them elsewhere.
pub const FOLDER_VARIABLE: &str = "FILMGATE_CLUSTER_BIN_DIR";

/// The folder with `cluster` and `kwok`: built by `tests/cluster/build.sh` on
/// first use unless the environment says where it is.
pub fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> =
        LazyLock::new(|| env::var_os(FOLDER_VARIABLE).map_or_else(build, PathBuf::from));
    &FOLDER
}

/// A file of `tests/cluster`.
pub fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster").join(file)
}

fn build() -> PathBuf {
    let build = Command::new(source("build.sh"))
        .stderr(Stdio::inherit())
        .output()
        .expect("bash to run tests/cluster/build.sh");
    assert!(build.status.success(), "tests/cluster/build.sh: {}", build.status);
    let output = String::from_utf8_lossy(&build.stdout);
    PathBuf::from(output.lines().last().expect("build.sh prints a folder"))
}
