//! Containers that end and are started again: why, and their last words.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::api::LogParams;
use kube::{Api, ResourceExt as _};

use super::{name_of, statuses, waits};
use crate::doctor::finding::{Outcome, Verdict};
use crate::doctor::ground::{Ground, unmade};

/// Last lines of a log that are shown, and that are searched for a cause.
const LINES_SHOWN: usize = 5;
const LINES_READ: i64 = 50;
/// However long its lines are.
const BYTES_READ: i64 = 32 * 1024;
/// Columns of a line that are shown.
const WIDTH: usize = 200;

/// What PyTorch and CUDA say where a GPU's memory is used up.
const CUDA_OUT_OF_MEMORY: [&str; 4] = [
    "cuda out of memory",
    "cuda error: out of memory",
    "torch.outofmemoryerror",
    "cuda_error_out_of_memory",
];
/// What the names of secret settings have in them.
const SECRET_NAMES: [&str; 9] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "apikey",
    "api_key",
    "access_key",
    "private_key",
];

/// Containers in CrashLoopBackOff, of the pipeline and of filmgate.
pub(in super::super) async fn crash_loops(ground: &Ground) -> Outcome {
    let mut verdicts = Vec::new();
    for namespace in [&ground.place.pipeline, &ground.place.filmgate] {
        for pod in ground.pods(namespace, "").await? {
            for status in statuses(&pod).filter(|status| is_in_a_loop(status)) {
                let log = last_words(ground, namespace, &pod, &status.name).await;
                verdicts.push(judge(&pod, status, &log));
            }
        }
    }
    if verdicts.is_empty() {
        verdicts.push(Verdict::ok("no container is in CrashLoopBackOff"));
    }
    Ok(verdicts)
}

fn is_in_a_loop(status: &ContainerStatus) -> bool {
    waits(status).is_some_and(|(reason, _)| reason == "CrashLoopBackOff")
}

/// Of the container before this one; in words where there is no log.
async fn last_words(ground: &Ground, namespace: &str, pod: &Pod, container: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(ground.client.clone(), namespace);
    let parameters = LogParams {
        container: Some(container.to_owned()),
        previous: true,
        tail_lines: Some(LINES_READ),
        limit_bytes: Some(BYTES_READ),
        ..LogParams::default()
    };
    let log = pods.logs(&pod.name_any(), &parameters).await;
    log.unwrap_or_else(|error| format!("(no log: {})", unmade(error)))
}

fn judge(pod: &Pod, status: &ContainerStatus, log: &str) -> Verdict {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let name = name_of(pod);
    let (cause, mend) = cause(pod, &status.name, last, log);
    let shown = Vec::from_iter(log.lines().map(redacted));
    let shown = shown[shown.len().saturating_sub(LINES_SHOWN)..].iter();
    let shown: String = shown.map(|line| format!("\n| {line}")).collect();
    Verdict::fail(
        format!("{name} {}: {cause}; {} restarts{shown}", status.name, status.restart_count),
        mend,
    )
}

/// Why it ended, and what mends that.
fn cause(
    pod: &Pod,
    container: &str,
    last: Option<&ContainerStateTerminated>,
    log: &str,
) -> (String, String) {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let code = last.map_or(0, |last| last.exit_code);
    let is_killed = last.is_some_and(|last| last.reason.as_deref() == Some("OOMKilled"));
    let words = log.to_lowercase();
    if is_killed {
        let cause = format!("OOMKilled (exit code {code}): more memory of the node than its limit");
        let owner = owner(pod);
        let mend = format!(
            "kubectl -n {namespace} set resources {owner} -c {container} --limits=memory=NEW"
        );
        return (cause, mend);
    }
    if CUDA_OUT_OF_MEMORY.iter().any(|sign| words.contains(sign)) {
        let cause =
            format!("CUDA out of memory (exit code {code}): more VRAM than its GPU had left");
        return (
            cause,
            format!("filmgate explain {namespace}/{name} # then raise filmgate.dev/vram"),
        );
    }
    let log = format!("kubectl -n {namespace} logs {name} -c {container} --previous");
    (format!("exit code {code}"), log)
}

/// What kubectl calls that which made the pod.
fn owner(pod: &Pod) -> String {
    let app = pod.labels().get("app");
    match (pod.owner_references().first(), app) {
        (Some(owner), Some(app)) if owner.kind == "ReplicaSet" => format!("deployment/{app}"),
        (Some(owner), _) if owner.kind != "ReplicaSet" => {
            format!("{}/{}", owner.kind.to_lowercase(), owner.name)
        }
        _ => "deployment/NAME".to_owned(),
    }
}

/// Without what follows a secret's name and `=` or `:`, without keys and tokens, and without
/// passwords in URLs. Rather too little is shown than too much.
fn redacted(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let names = SECRET_NAMES.iter().filter_map(|name| lower.find(name)).min();
    let sign = names.and_then(|name| Some(name + lower[name..].find(['=', ':'])? + 1));
    let bearer = lower.find("bearer ").map(|at| at + "bearer ".len());
    let shown = match [sign, bearer].into_iter().flatten().min() {
        Some(end) => format!("{}[redacted]", &line[..end]),
        None if is_key(line.trim()) => "[redacted]".to_owned(),
        None => line.split_inclusive(' ').map(without_credentials).collect(),
    };
    shown.trim_end().chars().take(WIDTH).collect()
}

/// A line of a key in base64.
fn is_key(line: &str) -> bool {
    const SHORTEST: usize = 40;
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte);
    line.len() >= SHORTEST && line.bytes().all(is_digit)
}

fn without_credentials(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://[redacted]{}", &rest[at..]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(reason: &str, code: i32) -> Pod {
        let pod = json!({
            "metadata": {
                "name": "comfyui-x-y", "namespace": "ai-film", "labels": {"app": "comfyui"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "comfyui-x", "uid": "u"},
                ],
            },
            "status": {"containerStatuses": [{
                "name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": 7,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": code, "reason": reason}},
            }]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn judged(pod: &Pod, log: &str) -> Verdict {
        let status = statuses(pod).next().unwrap();
        assert!(is_in_a_loop(status));
        judge(pod, status, log)
    }

    #[test]
    fn the_two_kinds_of_memory_are_told_apart() {
        let killed = judged(&pod("OOMKilled", 137), "loading");
        assert!(killed.found.contains("OOMKilled (exit code 137)"), "{}", killed.found);
        let mend =
            "kubectl -n ai-film set resources deployment/comfyui -c main --limits=memory=NEW";
        assert_eq!(killed.mend.as_deref(), Some(mend));
        let log =
            "loading\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.";
        let cuda = judged(&pod("Error", 1), log);
        assert!(cuda.found.contains("CUDA out of memory (exit code 1)"), "{}", cuda.found);
        let other = judged(&pod("Error", 3), "no such file");
        assert!(other.found.contains("exit code 3; 7 restarts\n| no such file"), "{}", other.found);
    }

    #[test]
    fn only_the_last_lines_are_shown() {
        let log: String = (0..20).map(|n| format!("line {n}\n")).collect();
        let found = judged(&pod("Error", 1), &log).found;
        assert!(found.ends_with("| line 18\n| line 19") && !found.contains("line 14"), "{found}");
    }

    #[test]
    fn secrets_are_not_shown() {
        for line in [
            "POSTGRES_PASSWORD=hunter22",
            "env: POSTGRES_PASSWORD=hunter22 and more",
            "password: hunter22",
            "{\"api_key\": \"hunter22\", \"a\": 1}",
            "connecting to postgres://user:hunter22@db/film",
            "Authorization: Bearer hunter22",
            "secret_token = hunter22",
            "GET /?token=hunter22&page=1",
            "hunter22MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj",
            "Ä: PASSWORD=hunter22",
        ] {
            let shown = redacted(line);
            assert!(!shown.contains("hunter22"), "{line}: {shown}");
        }
        for line in ["RuntimeError: no such file: a.png", "http://comfyui:8188/prompt", "a=b c=d"] {
            assert_eq!(redacted(line), line);
        }
    }
}
