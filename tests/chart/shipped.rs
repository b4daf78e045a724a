//! The manifests for `kubectl apply`, which are the chart's. `FILMGATE_BLESS=1` writes them anew.

use std::fs;

use serde_json::Value;

use crate::support::helm::rendered;
use crate::support::manifests::{SIDECAR, objects, shipped};

struct Manifest {
    path: &'static str,
    about: &'static str,
    arguments: &'static [&'static str],
}

const MANIFESTS: [Manifest; 5] = [
    Manifest {
        path: "deploy/filmgate.yaml",
        about: "\
# All of filmgate beside a kube-scheduler of its own, for `kubectl apply`. docs/install.md says what comes
# before and after.
#
# Two images are to be changed where yours differ: filmgate's, and kube-scheduler's, which must not be newer
# than your API server.
",
        arguments: &["--set", "namespace.create=true"],
    },
    Manifest {
        path: "deploy/filmgate-service.yaml",
        about: "\
# All of filmgate as a Service behind a kube-scheduler that you configure
# (config/kube-scheduler-service.yaml), for `kubectl apply`. docs/install.md says what comes before and after.
",
        arguments: &[
            "--set=namespace.create=true",
            "--set=mode=service",
            "--set=schedulerName=default-scheduler",
        ],
    },
    Manifest {
        path: "deploy/admission.yaml",
        about: "\
# Optional; with the chart: admission.managedNodes=true.
#
# Names to change where yours differ: filmgate's service account
# (system:serviceaccount:filmgate:filmgate), its schedulerName (filmgate), and in filmgate-bindings
# the other schedulers of the cluster.
",
        arguments: &[
            "--set=admission.managedNodes=true",
            "--show-only=templates/admission-managed-nodes.yaml",
        ],
    },
    Manifest {
        path: "deploy/autoscaling/idle-nodes-rbac.yaml",
        about: "\
# Optional; with the chart: config.idleNodes.annotateAfter=10m.
#
# Before: the same in the extender's configuration. Kubernetes 1.30 or newer.
",
        arguments: &[
            "--set=config.idleNodes.annotateAfter=10m",
            "--show-only=templates/idle-nodes.yaml",
        ],
    },
    Manifest {
        path: "deploy/autoscaling/external-metrics.yaml",
        about: "\
# Optional; with the chart: externalMetrics.enabled=true, which sees to the certificate, too.
#
# Before: `externalMetrics` in the extender's configuration; and a secret with a certificate for
# filmgate-external-metrics.filmgate.svc, mounted in the extender's pods.
",
        arguments: &[
            "--set=externalMetrics.enabled=true",
            "--set=certificates.create=false",
            "--show-only=templates/external-metrics.yaml",
        ],
    },
];

#[test]
fn the_manifests_are_what_the_chart_renders() {
    for Manifest { path, about, arguments } in MANIFESTS {
        let Some(rendered) = rendered(arguments) else { return };
        let text = rendered.unwrap();
        let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("# Source: ")).collect();
        let text = text.join("\n");
        let manifest = format!(
            "# Written from deploy/helm/filmgate by `make manifests`.\n{about}\n{}\n",
            text.strip_prefix("---\n").unwrap_or(&text).trim_end(),
        );
        if std::env::var_os("FILMGATE_BLESS").is_some() {
            fs::write(shipped(path), &manifest).unwrap();
        }
        let kept = fs::read_to_string(shipped(path)).unwrap_or_default();
        assert!(kept == manifest, "{path} is not what the chart renders: make manifests");
    }
}

/// Its comments are in config/; the chart's is the same without them.
#[test]
fn the_kube_scheduler_gets_the_configuration_that_is_explained() {
    let explained = fs::read_to_string(shipped("config/kube-scheduler.yaml")).unwrap();
    let explained: Value = serde_saphyr::from_str(&explained).unwrap();
    let configured = objects(&shipped(SIDECAR)).into_iter().find_map(|object| {
        Some(object.data.get("data")?.get("kube-scheduler.yaml")?.as_str()?.to_owned())
    });
    let configured: Value = serde_saphyr::from_str(&configured.expect("a configuration")).unwrap();
    assert_eq!(configured, explained);
}
