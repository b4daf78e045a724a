//! The chart through helm itself.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use super::manifests::shipped;
use super::tools::{or_skipped, script};

/// The cluster that the shipped manifests are rendered for; the one of the tests.
pub const NEWEST: &str = "1.37.2";

/// The values files that ship beside the chart, by their clusters.
pub const CLUSTERS: [&str; 5] = ["minikube", "k3s", "gke", "kubeadm", "gpu-operator"];

/// The program of that name (`helm`, `kubeconform`); see [`or_skipped`].
pub fn program(name: &str) -> Option<Command> {
    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| script("tools/helm.sh", &[]));
    or_skipped(FOLDER.as_ref(), name).map(|folder| Command::new(folder.join(name)))
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    shipped("deploy/helm/filmgate")
}

/// The values file of a kind of cluster.
pub fn values_of(cluster: &str) -> String {
    shipped(&format!("deploy/helm/values-{cluster}.yaml")).display().to_string()
}

/// What a command printed, or what it said was wrong. `None` where there is no such program.
pub fn outcome(command: Option<Command>) -> Option<Result<String, String>> {
    let output = command?.output().expect("a program that starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Some(if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) })
}

/// The chart rendered for that version of Kubernetes, without a cluster.
pub fn rendered_for(kubernetes: &str, arguments: &[&str]) -> Option<Result<String, String>> {
    let mut helm = program("helm")?;
    helm.args(["template", "filmgate"]).arg(chart());
    helm.args(["--namespace", "filmgate", "--kube-version", kubernetes]).args(arguments);
    outcome(Some(helm))
}

/// The same for the newest.
pub fn rendered(arguments: &[&str]) -> Option<Result<String, String>> {
    rendered_for(NEWEST, arguments)
}
