//! The extender's replicas: up, one of them leading, and of versions that fit.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::Value;

use super::{AGENTS, EXTENDERS, config_file, is_ready, some_of};
use crate::cluster::version::Version;
use crate::doctor::finding::{Outcome, Verdict};
use crate::doctor::ground::{Ground, unmade};

const USUAL_LEASE: &str = "filmgate-kube-scheduler";
/// kube-scheduler's default.
const USUAL_LEASE_SECONDS: i32 = 15;
/// A renewal that lies so far in the future is by a clock that is ahead.
const AHEAD_SECONDS: i64 = 5;

/// Whether the replicas run, and one of them holds the Lease.
pub(in super::super) async fn scheduler(ground: &Ground) -> Outcome {
    let namespace = &ground.place.filmgate;
    let pods = ground.pods(namespace, EXTENDERS).await?;
    let mut verdicts = vec![judge_pods(&pods, namespace)];
    let name = lease_name(config_file(ground, "filmgate.yaml").await?.as_deref());
    let lease: Option<Lease> = ground.own(&name).await?;
    let now = ground.server_time().await?;
    let spec = lease.and_then(|lease| lease.spec);
    verdicts.extend(judge_lease(spec.as_ref(), now, &name, namespace));
    Ok(verdicts)
}

/// As the settings name it.
fn lease_name(config: Option<&str>) -> String {
    let config = config.and_then(|text| serde_saphyr::from_str::<Value>(text).ok());
    let election = config.map(|config| config["leaderElection"].clone()).unwrap_or_default();
    match (election["name"].as_str(), election["mode"].as_str()) {
        (Some(name), _) => name.to_owned(),
        (None, Some("own")) => "filmgate-extender".to_owned(),
        _ => USUAL_LEASE.to_owned(),
    }
}

fn judge_pods(pods: &[Pod], namespace: &str) -> Verdict {
    let mend = format!("kubectl -n {namespace} describe pods -l {EXTENDERS}");
    let unready: Vec<_> = pods.iter().filter(|pod| !is_ready(pod)).map(Pod::name_any).collect();
    let ready = pods.len() - unready.len();
    match (ready, unready.len()) {
        (0, 0) => Verdict::fail(
            format!("no scheduler pod in namespace {namespace}: filmgate is not installed there"),
            format!(
                "helm install filmgate deploy/helm/filmgate --namespace {namespace} --create-namespace"
            ),
        ),
        (0, _) => Verdict::fail(format!("no scheduler pod is ready: {}", some_of(&unready)), mend),
        (_, 0) => Verdict::ok(format!("{ready} scheduler pods are ready")),
        _ => {
            let all = pods.len();
            let found =
                format!("{ready} of {all} scheduler pods are ready: not {}", some_of(&unready));
            Verdict::warn(found, mend)
        }
    }
}

fn judge_lease(
    spec: Option<&LeaseSpec>,
    now: Timestamp,
    name: &str,
    namespace: &str,
) -> Vec<Verdict> {
    let mend = format!("kubectl -n {namespace} get lease {name} -o yaml");
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let renewed = spec.and_then(|spec| Some(spec.renew_time.as_ref()?.0));
    let (Some(renewed), false) = (renewed, holder.is_empty()) else {
        return vec![Verdict::fail(
            format!("nobody holds the Lease {name}: no GPU pod is placed"),
            mend,
        )];
    };
    let duration = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(USUAL_LEASE_SECONDS);
    let age = now.as_second() - renewed.as_second();
    if age > i64::from(duration) {
        let found =
            format!("{holder} renewed the Lease {name} {age} s ago, which lasts {duration} s");
        return vec![Verdict::fail(found, mend)];
    }
    if age <= -AHEAD_SECONDS {
        let ahead = -age;
        let found = format!("the clock of {holder} is {ahead} s ahead of the API server's");
        return vec![Verdict::warn(found, "timedatectl # on its node")];
    }
    vec![Verdict::ok(format!("{holder} leads"))]
}

/// Whether filmgate's parts are of one version, this command's, and the kube-scheduler fits the API
/// server.
pub(in super::super) async fn versions(ground: &Ground) -> Outcome {
    let namespace = &ground.place.filmgate;
    let mut pods = ground.pods(namespace, EXTENDERS).await?;
    let skews =
        judge_skew(&pods, &ground.client.apiserver_version().await.map_err(unmade)?.git_version);
    pods.extend(ground.pods(namespace, AGENTS).await?);
    if pods.is_empty() {
        return Ok(vec![Verdict::skipped(format!("no pods of filmgate in namespace {namespace}"))]);
    }
    Ok(std::iter::once(judge_parts(&pods, namespace)).chain(skews).collect())
}

fn judge_parts(pods: &[Pod], namespace: &str) -> Verdict {
    const VERSION: &str = "app.kubernetes.io/version";
    let ours = env!("CARGO_PKG_VERSION");
    let images = images_of(pods, |container| matches!(container, "extender" | "agent"));
    let labels = pods.iter().filter_map(|pod| pod.labels().get(VERSION).cloned());
    let labels = Vec::from_iter(labels.collect::<BTreeSet<_>>());
    let mend = format!(
        "kubectl -n {namespace} rollout status deployment/filmgate daemonset/filmgate-agent"
    );
    match (images.as_slice(), labels.as_slice()) {
        (images, _) if images.len() > 1 => {
            Verdict::warn(format!("filmgate runs as {}", some_of(images)), mend)
        }
        (_, [label]) if label != ours => Verdict::warn(
            format!("filmgate {label} runs, and this command is of {ours}"),
            "filmgate --version",
        ),
        (_, labels) if labels.len() > 1 => {
            Verdict::warn(format!("filmgate {} run beside each other", some_of(labels)), mend)
        }
        (images, _) => Verdict::ok(format!("all parts run {}", some_of(images))),
    }
}

fn judge_skew(pods: &[Pod], api_server: &str) -> Vec<Verdict> {
    let images = images_of(pods, |container| container == "kube-scheduler");
    let judge = |image: &String| {
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        let (Ok(scheduler), Ok(server)) = (tag.parse::<Version>(), api_server.parse::<Version>())
        else {
            return Verdict::skipped(format!("the version of kube-scheduler {image} is not known"));
        };
        if scheduler.fits(server) {
            return Verdict::ok(format!("kube-scheduler {tag} fits API server {api_server}"));
        }
        Verdict::warn(
            format!(
                "kube-scheduler {tag} does not fit API server {api_server}: the same minor version or the one before does"
            ),
            "helm upgrade filmgate deploy/helm/filmgate --reuse-values",
        )
    };
    images.iter().map(judge).collect()
}

/// Different images of these containers.
fn images_of(pods: &[Pod], is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let containers =
        pods.iter().filter_map(|pod| pod.spec.as_ref()).flat_map(|spec| &spec.containers);
    let meant = containers.filter(|container| is_meant(&container.name));
    Vec::from_iter(meant.filter_map(|container| container.image.clone()).collect::<BTreeSet<_>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::finding::Level;

    fn pod(ready: &str, image: &str, version: &str) -> Pod {
        let pod = json!({
            "metadata": {"name": "p", "labels": {"app.kubernetes.io/version": version}},
            "spec": {"containers": [
                {"name": "extender", "image": image},
                {"name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.36.1"},
            ]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn current() -> Pod {
        pod("True", "filmgate:1", env!("CARGO_PKG_VERSION"))
    }

    #[test]
    fn replicas_are_ready() {
        let sick = pod("False", "filmgate:1", "1");
        for (pods, level) in [
            (vec![], Level::Fail),
            (vec![sick.clone()], Level::Fail),
            (vec![current(), sick], Level::Warn),
            (vec![current(), current()], Level::Ok),
        ] {
            assert_eq!(judge_pods(&pods, "f").level, level, "{pods:?}");
        }
    }

    #[test]
    fn a_lease_is_held_and_renewed() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let spec = |holder: &str, renewed: &str| {
            let spec = json!({
                "holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15,
            });
            serde_json::from_value::<LeaseSpec>(spec).unwrap()
        };
        let level = |spec: Option<LeaseSpec>| judge_lease(spec.as_ref(), now, "l", "f")[0].level;
        assert_eq!(level(Some(spec("a_1", "2026-01-01T00:00:50.000000Z"))), Level::Ok);
        assert_eq!(level(Some(spec("a_1", "2026-01-01T00:00:44.000000Z"))), Level::Fail);
        assert_eq!(level(Some(spec("a_1", "2026-01-01T00:01:30.000000Z"))), Level::Warn);
        assert_eq!(level(Some(spec("", "2026-01-01T00:00:50.000000Z"))), Level::Fail);
        assert_eq!(level(None), Level::Fail);
    }

    #[test]
    fn the_lease_is_the_one_of_the_settings() {
        assert_eq!(lease_name(None), USUAL_LEASE);
        assert_eq!(lease_name(Some("leaderElection: {name: mine, mode: own}")), "mine");
        assert_eq!(lease_name(Some("leaderElection: {mode: own}")), "filmgate-extender");
    }

    #[test]
    fn parts_are_of_one_version() {
        assert_eq!(judge_parts(&[current(), current()], "f").level, Level::Ok);
        let other = pod("True", "filmgate:2", env!("CARGO_PKG_VERSION"));
        assert_eq!(judge_parts(&[current(), other], "f").level, Level::Warn);
        let old = judge_parts(&[pod("True", "filmgate:1", "0.0.1")], "f");
        assert!(old.found.starts_with("filmgate 0.0.1 runs"), "{}", old.found);
    }

    #[test]
    fn the_kube_scheduler_fits_the_api_server() {
        for (server, level) in [
            ("v1.36.0", Level::Ok),
            ("v1.37.2", Level::Ok),
            ("v1.38.0", Level::Warn),
            ("v1.35.0", Level::Warn),
            ("odd", Level::Skipped),
        ] {
            assert_eq!(judge_skew(&[current()], server)[0].level, level, "{server}");
        }
    }
}
