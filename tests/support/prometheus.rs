//! Where the real Prometheus and its promtool are: Debian's, as `tools/prometheus.sh` finds them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::tools::{or_skipped, script};

/// The program of that name (`prometheus`, `promtool`); see [`or_skipped`].
pub fn program(name: &str) -> Option<PathBuf> {
    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| script("tools/prometheus.sh", &[]));
    or_skipped(FOLDER.as_ref(), name).map(|folder| folder.join(name))
}

/// The one label that is as dcgm-exporter has it, although promtool would have it otherwise.
const DCGM_LABEL: (&str, &str) = ("modelName=", "model_name=");

/// What `promtool check metrics` finds wrong with the text of a scrape: nothing, in the best case.
/// `None` where there is no promtool.
pub fn complaints(metrics: &str) -> Option<String> {
    let metrics = metrics.replace(DCGM_LABEL.0, DCGM_LABEL.1);
    let mut check = Command::new(program("promtool")?);
    check.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut check =
        check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("promtool to start");
    check.stdin.take().expect("its input").write_all(metrics.as_bytes()).expect("it to read");
    let output = check.wait_with_output().expect("promtool to end");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success() || !said.is_empty(), "promtool: {}", output.status);
    Some(said)
}
