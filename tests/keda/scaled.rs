//! ScaledObjects, and what becomes of their Deployments.

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;
use serde_json::{Value, json};

use crate::support::eventually::{eventually, throughout};
use crate::support::manifests::apply_objects;
use crate::world::{DEADLINE, FILM, SECRET, World};

/// How long after the last need the last replica stays, in tests.
pub(crate) const COOLDOWN: Duration = Duration::from_secs(2);

impl World {
    /// A ScaledObject for the Deployment of that name, which KEDA asks about every second, and the
    /// Deployment.
    pub(crate) async fn add_scaled(&self, name: &str, kind: &str, metadata: Value) {
        self.add_deployment(name).await;
        self.apply_scaled(name, kind, metadata, "filmgate").await;
    }

    /// The same, with that ClusterTriggerAuthentication and without the Deployment.
    pub(crate) async fn apply_scaled(&self, name: &str, kind: &str, metadata: Value, proof: &str) {
        let mut trigger = json!({
            "type": kind,
            "metadata": {"scalerAddress": "filmgate-keda.filmgate.svc:9115", "target": "1"},
            "authenticationRef": {"name": proof, "kind": "ClusterTriggerAuthentication"},
        });
        for (key, value) in metadata.as_object().unwrap() {
            trigger["metadata"][key] = value.clone();
        }
        let scaled = json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": name, "namespace": FILM},
            "spec": {
                "scaleTargetRef": {"name": name},
                "minReplicaCount": 0,
                "maxReplicaCount": 8,
                "pollingInterval": 1,
                "cooldownPeriod": COOLDOWN.as_secs(),
                "triggers": [trigger],
            },
        });
        apply_objects(&self.replicas.cluster.admin(), [serde_json::from_value(scaled).unwrap()])
            .await;
    }

    /// What proves KEDA by the certificate of that secret.
    pub(crate) async fn add_proof(&self, secret: &str) {
        let parameter =
            |parameter, key| json!({"parameter": parameter, "name": secret, "key": key});
        let proof = json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ClusterTriggerAuthentication",
            "metadata": {"name": secret},
            "spec": {"secretTargetRef": [
                parameter("caCert", "ca.crt"),
                parameter("tlsClientCert", "tls.crt"),
                parameter("tlsClientKey", "tls.key"),
            ]},
        });
        assert_ne!(secret, SECRET, "the example has it");
        apply_objects(&self.replicas.cluster.admin(), [serde_json::from_value(proof).unwrap()])
            .await;
    }

    fn scaled(&self) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: "keda.sh".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "keda.sh/v1alpha1".to_owned(),
            kind: "ScaledObject".to_owned(),
            plural: "scaledobjects".to_owned(),
        };
        Api::namespaced_with(self.replicas.cluster.admin(), FILM, &resource)
    }

    pub(crate) async fn shorten_cooldown(&self, name: &str) {
        let patch = json!({"spec": {"cooldownPeriod": COOLDOWN.as_secs()}});
        let patch = Patch::Merge(&patch);
        self.scaled().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until KEDA says that of whether it is ready.
    pub(crate) async fn is_ready(&self, name: &str, status: &str, text: &str) {
        let what = format!("ScaledObject {name}: Ready is {status}, {text:?}");
        eventually(DEADLINE, &what, async || {
            let object = self.scaled().get(name).await?;
            let conditions = object.data["status"]["conditions"].as_array();
            let ready = conditions.into_iter().flatten().find(|one| one["type"] == "Ready");
            let ready = ready.ok_or_else(|| anyhow::anyhow!("{}", object.data["status"]))?;
            let says = ready["message"].as_str().unwrap_or_default();
            let is_so = ready["status"] == status && says.contains(text);
            if is_so { Ok(()) } else { Err(anyhow::anyhow!("{ready}")) }
        })
        .await;
    }

    async fn replicas_of(&self, name: &str) -> i32 {
        self.deployments().get(name).await.unwrap().spec.replicas.unwrap()
    }

    /// Waits until there are so many replicas or more, or so few; how long after `since`.
    pub(crate) async fn scales(&self, name: &str, to: i32, since: Instant) -> f64 {
        eventually(DEADLINE, &format!("{name} with {to} replicas"), async || {
            let now = self.replicas_of(name).await;
            (now == to).then_some(()).ok_or(now)
        })
        .await;
        since.elapsed().as_secs_f64()
    }

    /// Waits until there is a first replica; how long after `since`.
    pub(crate) async fn starts(&self, name: &str, since: Instant) -> f64 {
        eventually(DEADLINE, &format!("a first replica of {name}"), async || {
            (self.replicas_of(name).await > 0).then_some(())
        })
        .await;
        since.elapsed().as_secs_f64()
    }

    /// For so long there are so many replicas.
    pub(crate) async fn stays(&self, name: &str, replicas: i32, time: Duration) {
        throughout(time, async || assert_eq!(self.replicas_of(name).await, replicas, "{name}"))
            .await;
    }
}
