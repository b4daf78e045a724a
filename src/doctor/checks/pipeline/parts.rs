//! What the pipeline's manifests make: secrets, volumes, workloads, an ingress.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::api::networking::v1::Ingress;
use kube::{Api, ResourceExt as _};

use crate::doctor::finding::{Outcome, Verdict};
use crate::doctor::ground::{Ground, get, list};

const SECRETS: [(&str, &str); 2] =
    [("comfyui-secret", "COMFYUI_URL"), ("postgres-secret", "POSTGRES_PASSWORD")];
const CLAIMS: [&str; 5] = ["dagster-pvc", "images-pvc", "videos-pvc", "models-pvc", "postgres-pvc"];
const DEPLOYMENTS: [&str; 7] =
    ["comfyui", "blender", "opencv", "ffmpeg", "dagster", "langgraph", "upload"];
const STATEFUL_SETS: [&str; 2] = ["postgres", "redis"];

/// What people leave in a file to be filled in.
const PLACEHOLDERS: [&str; 9] = [
    "changeme",
    "change-me",
    "change_me",
    "replace",
    "placeholder",
    "todo",
    "your-",
    "example.com",
    "xxx",
];

/// Whether the secrets are set, and not to placeholders. Their values go nowhere.
pub(in super::super) async fn secrets(ground: &Ground) -> Outcome {
    let namespace = &ground.place.pipeline;
    let api: Api<Secret> = Api::namespaced(ground.client.clone(), namespace);
    let mut verdicts = Vec::new();
    for (name, key) in SECRETS {
        let secret = get(&api, name).await?;
        let data = secret.map(|secret| secret.data.unwrap_or_default());
        let value = data.as_ref().map(|data| data.get(key).map(|value| value.0.as_slice()));
        verdicts.push(judge_secret(value, name, key, namespace));
    }
    Ok(verdicts)
}

/// `value`: of a secret that exists; within, of a key that exists.
fn judge_secret(value: Option<Option<&[u8]>>, name: &str, key: &str, namespace: &str) -> Verdict {
    // A value on the command line would stay in the shell's history.
    let mend = format!(
        "kubectl -n {namespace} create secret generic {name} --from-env-file=FILE --dry-run=client -o yaml | kubectl apply -f -"
    );
    let wrong = match value {
        None => format!("no secret {name}"),
        Some(None) => format!("secret {name} has no {key}"),
        Some(Some(value)) if is_placeholder(value) => {
            format!("{key} in secret {name} is empty or a placeholder")
        }
        Some(Some(_)) => return Verdict::ok(format!("{key} is set")),
    };
    Verdict::fail(wrong, mend)
}

fn is_placeholder(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value).trim().to_lowercase();
    let is_in_brackets = text.starts_with('<') && text.ends_with('>');
    let is_default = matches!(text.as_str(), "" | "password" | "postgres" | "secret");
    is_in_brackets || is_default || PLACEHOLDERS.iter().any(|word| text.contains(word))
}

/// Whether the volumes are bound.
pub(in super::super) async fn volumes(ground: &Ground) -> Outcome {
    let namespace = &ground.place.pipeline;
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ground.client.clone(), namespace);
    Ok(judge_volumes(&list(&api, "").await?, namespace))
}

fn judge_volumes(claims: &[PersistentVolumeClaim], namespace: &str) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for name in CLAIMS {
        if !claims.iter().any(|claim| claim.name_any() == name) {
            let mend = format!("kubectl -n {namespace} get pvc");
            verdicts.push(Verdict::fail(format!("no claim {name}"), mend));
        }
    }
    for claim in claims {
        let name = claim.name_any();
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase != Some("Bound") {
            let phase = phase.unwrap_or("Pending");
            verdicts.push(Verdict::fail(
                format!("claim {name} is {phase}: pods with it do not start"),
                format!("kubectl -n {namespace} describe pvc {name}; kubectl get storageclass"),
            ));
        }
    }
    if verdicts.is_empty() {
        verdicts.push(Verdict::ok(format!("all {} claims are bound", claims.len())));
    }
    verdicts
}

/// Whether all services have the replicas that they should.
pub(in super::super) async fn workloads(ground: &Ground) -> Outcome {
    let namespace = &ground.place.pipeline;
    let deployments: Api<Deployment> = Api::namespaced(ground.client.clone(), namespace);
    let sets: Api<StatefulSet> = Api::namespaced(ground.client.clone(), namespace);
    let mut replicas = BTreeMap::new();
    for one in list(&deployments, "").await? {
        let available = one.status.as_ref().and_then(|status| status.available_replicas);
        let wanted = one.spec.replicas.unwrap_or(1);
        replicas.insert(("deployment", one.name_any()), (available.unwrap_or(0), wanted));
    }
    for one in list(&sets, "").await? {
        let ready = one.status.as_ref().and_then(|status| status.ready_replicas);
        let wanted = one.spec.replicas.unwrap_or(1);
        replicas.insert(("statefulset", one.name_any()), (ready.unwrap_or(0), wanted));
    }
    Ok(judge_workloads(&replicas, namespace))
}

/// By kind and name: how many are available, and how many should be.
type Replicas = BTreeMap<(&'static str, String), (i32, i32)>;

fn judge_workloads(replicas: &Replicas, namespace: &str) -> Vec<Verdict> {
    let deployments = DEPLOYMENTS.map(|name| ("deployment", name));
    let sets = STATEFUL_SETS.map(|name| ("statefulset", name));
    let expected = deployments.into_iter().chain(sets);
    let is_there = |kind, name: &str| replicas.contains_key(&(kind, name.to_owned()));
    let missing = expected.filter(|(kind, name)| !is_there(*kind, name)).map(|(kind, name)| {
        Verdict::fail(format!("no {kind} {name}"), format!("kubectl -n {namespace} get deploy,sts"))
    });
    let lacking = replicas.iter().filter(|(_, (available, wanted))| available < wanted);
    let lacking = lacking.map(|((kind, name), (available, wanted))| {
        let found = format!("{kind} {name} has {available} of {wanted} replicas");
        let mend = format!("kubectl -n {namespace} describe {kind} {name}");
        if *available == 0 { Verdict::fail(found, mend) } else { Verdict::warn(found, mend) }
    });
    let verdicts: Vec<_> = missing.chain(lacking).collect();
    if verdicts.is_empty() {
        return vec![Verdict::ok(format!("all {} workloads are available", replicas.len()))];
    }
    verdicts
}

/// Whether an ingress has an address.
pub(in super::super) async fn ingress(ground: &Ground) -> Outcome {
    let namespace = &ground.place.pipeline;
    let api: Api<Ingress> = Api::namespaced(ground.client.clone(), namespace);
    Ok(vec![judge_ingress(&list(&api, "").await?, namespace)])
}

fn judge_ingress(ingresses: &[Ingress], namespace: &str) -> Verdict {
    let addresses = ingresses.iter().filter_map(address).collect::<Vec<_>>();
    match (ingresses, addresses.first()) {
        ([], _) => Verdict::fail("no ingress", format!("kubectl -n {namespace} get ingress")),
        (_, Some(address)) => Verdict::ok(format!("the ingress has the address {address}")),
        ([first, ..], None) => Verdict::fail(
            format!("ingress {} has no address: no ingress controller took it", first.name_any()),
            "kubectl get ingressclass; kubectl get pods -A | grep -i ingress",
        ),
    }
}

fn address(ingress: &Ingress) -> Option<String> {
    let balancer = ingress.status.as_ref()?.load_balancer.as_ref()?;
    let points = balancer.ingress.iter().flatten();
    points.filter_map(|point| point.ip.clone().or_else(|| point.hostname.clone())).next()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_placeholder_is_no_secret() {
        for placeholder in [
            "",
            " ",
            "changeme",
            "CHANGE_ME",
            "<password>",
            "your-password",
            "http://example.com",
            "postgres",
        ] {
            assert!(is_placeholder(placeholder.as_bytes()), "{placeholder}");
        }
        for value in ["https://a-b-c.trycloudflare.com", "hunter22", "http://comfyui:8188"] {
            assert!(!is_placeholder(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn no_verdict_has_a_secret_in_it() {
        for value in [None, Some(None), Some(Some(&b"<hunter22>"[..])), Some(Some(b"hunter22"))] {
            let verdict = judge_secret(value, "s", "K", "n");
            assert!(!format!("{verdict:?}").contains("hunter22"));
            let is_good = value == Some(Some(b"hunter22"));
            assert_eq!(verdict.level == Level::Ok, is_good, "{verdict:?}");
        }
    }

    fn claim(name: &str, phase: &str) -> PersistentVolumeClaim {
        let claim = json!({"metadata": {"name": name}, "status": {"phase": phase}});
        serde_json::from_value(claim).unwrap()
    }

    #[test]
    fn claims_are_there_and_bound() {
        let mut claims = CLAIMS.map(|name| claim(name, "Bound"));
        assert_eq!(judge_volumes(&claims, "n")[0].level, Level::Ok);
        claims[1] = claim("images-pvc", "Pending");
        assert!(judge_volumes(&claims, "n")[0].found.starts_with("claim images-pvc is Pending"));
        assert_eq!(judge_volumes(&claims[1..], "n")[0].found, "no claim dagster-pvc");
    }

    #[test]
    fn workloads_are_there_and_available() {
        let kinds = DEPLOYMENTS.map(|name| ("deployment", name)).into_iter();
        let all = kinds.chain(STATEFUL_SETS.map(|name| ("statefulset", name)));
        let mut replicas: Replicas =
            all.map(|(kind, name)| ((kind, name.to_owned()), (2, 2))).collect();
        assert_eq!(judge_workloads(&replicas, "n")[0].level, Level::Ok);
        replicas.insert(("deployment", "ffmpeg".to_owned()), (1, 2));
        assert_eq!(judge_workloads(&replicas, "n")[0].level, Level::Warn);
        replicas.insert(("deployment", "ffmpeg".to_owned()), (0, 2));
        assert_eq!(judge_workloads(&replicas, "n")[0].level, Level::Fail);
        replicas.remove(&("deployment", "ffmpeg".to_owned()));
        assert_eq!(judge_workloads(&replicas, "n")[0].found, "no deployment ffmpeg");
    }

    #[test]
    fn an_ingress_has_an_address() {
        let ingress = |status| {
            let ingress = json!({"metadata": {"name": "i"}, "status": status});
            serde_json::from_value::<Ingress>(ingress).unwrap()
        };
        let with = ingress(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}));
        assert_eq!(judge_ingress(&[with], "n").level, Level::Ok);
        assert_eq!(judge_ingress(&[ingress(json!({}))], "n").level, Level::Fail);
        assert_eq!(judge_ingress(&[], "n").level, Level::Fail);
    }
}
