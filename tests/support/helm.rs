//! The chart through helm itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// The cluster that the shipped manifests are rendered for; the one of the tests.
pub(crate) const NEWEST: &str = "1.37.2";

/// The values files that ship beside the chart, by their clusters.
pub(crate) const CLUSTERS: [&str; 5] = ["minikube", "k3s", "gke", "kubeadm", "gpu-operator"];

/// The program of that name (`helm`, `kubeconform`). `None`, with a line that says so, where it cannot be
/// had; in CI that fails the test.
pub(crate) fn program(name: &str) -> Option<Command> {
    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| script("tools/helm.sh", &[]));
    let Some(folder) = &*FOLDER else {
        assert!(std::env::var_os("CI").is_none(), "{name} cannot be had");
        eprintln!("skipped, as there is no {name}");
        return None;
    };
    Some(Command::new(folder.join(name)))
}

/// The path that a script prints, where it succeeds.
pub(crate) fn script(path: &str, arguments: &[&str]) -> Option<PathBuf> {
    let mut command = Command::new(file(path));
    let printed = command.args(arguments).stderr(Stdio::inherit()).output().expect("bash");
    let path = String::from_utf8(printed.stdout).expect("a path");
    printed.status.success().then(|| PathBuf::from(path.trim_end()))
}

pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn chart() -> PathBuf {
    file("deploy/helm/filmgate")
}

/// The values file of a kind of cluster.
pub(crate) fn values_of(cluster: &str) -> String {
    file(&format!("deploy/helm/values-{cluster}.yaml")).display().to_string()
}

/// What a command printed, or what it said was wrong. `None` where there is no such program.
pub(crate) fn outcome(command: Option<Command>) -> Option<Result<String, String>> {
    let output = command?.output().expect("a program that starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Some(if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) })
}

/// The chart rendered for that version of Kubernetes, without a cluster.
pub(crate) fn rendered_for(kubernetes: &str, arguments: &[&str]) -> Option<Result<String, String>> {
    let mut helm = program("helm")?;
    helm.args(["template", "filmgate"]).arg(chart());
    helm.args(["--namespace", "filmgate", "--kube-version", kubernetes]).args(arguments);
    outcome(Some(helm))
}

/// The same for the newest.
pub(crate) fn rendered(arguments: &[&str]) -> Option<Result<String, String>> {
    rendered_for(NEWEST, arguments)
}
