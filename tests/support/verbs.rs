//! Calls of the extender, as kube-scheduler and people make them.

use std::process::Command;

use serde_json::{Value, json};

use super::cluster::Cluster;

/// What a verb answers as `Error`.
pub async fn error_of(url: &str, verb: &str, call: &Value) -> String {
    let url = format!("{url}/{verb}");
    let answer = reqwest::Client::new().post(url).json(call).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    answer["Error"].as_str().expect("an Error").to_owned()
}

/// Has the extender bind the pod, as kube-scheduler would; what it answers as `Error`.
pub async fn bind(url: &str, cluster: &Cluster, pod: &str, node: &str) -> String {
    let uid = cluster.pods().get(pod).await.expect("the pod").metadata.uid;
    let call = json!({
        "PodName": pod, "PodNamespace": "default", "PodUID": uid, "Node": node,
    });
    error_of(url, "bind", &call).await
}

/// What `filmgate explain` prints with these arguments.
pub fn explain(url: &str, arguments: &[&str]) -> String {
    try_explain(url, arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// The same; where it fails, what it says instead.
pub fn try_explain(url: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.arg("explain").args(["--server", url]).args(arguments);
    let output = command.output().expect("filmgate");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
