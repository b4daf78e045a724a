//! The program as it is shipped: built for size, in a profile of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds it, which takes minutes where anything has changed, and returns where it is.
pub fn program() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/build.sh");
    let built = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let built = built.expect("bash to run tools/build.sh");
    assert!(built.status.success(), "tools/build.sh: {}", built.status);
    PathBuf::from(String::from_utf8_lossy(&built.stdout).trim_end())
}
