//! What the scripts of `tools/` find, or build, for tests that are skipped without.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::manifests::shipped;

/// The path that a script prints, where it succeeds; else it says why not.
pub fn script(path: &str, arguments: &[&str]) -> Option<PathBuf> {
    let mut script = Command::new(shipped(path));
    let printed = script.args(arguments).stderr(Stdio::inherit()).output().expect("bash");
    let path = String::from_utf8(printed.stdout).expect("a path");
    printed.status.success().then(|| PathBuf::from(path.trim_end()))
}

/// What was found. `None`, with a line that says so, where it was not; in CI that fails the test.
pub fn or_skipped<T>(found: Option<T>, what: &str) -> Option<T> {
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{what} cannot be had");
        eprintln!("skipped, as there is no {what}");
    }
    found
}
