//! What a ScaledObject's author wrote under a trigger's `metadata`.

use std::collections::HashMap;

use kube::core::Selector;

use super::quantity;
use super::wire::ScaledObjectRef;
use crate::autoscaling::catalogue::{ExternalMetric, METRICS};
use crate::autoscaling::selector;
use crate::engine::PodFacts;

const METRIC: &str = "metric";
const SELECTOR: &str = "selector";
const TARGET: &str = "target";
const ACTIVATION_TARGET: &str = "activationTarget";

/// KEDA reads these itself and hands them on. `tlsCertFile` is of versions before 2.19.
const KEDAS_OWN: [&str; 4] = ["scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile"];
/// KEDA takes these from a TriggerAuthentication alone.
const KEDAS_SECRETS: [&str; 3] = ["caCert", "tlsClientCert", "tlsClientKey"];

/// Of a value that is no good, enough to find it.
const MOST_SHOWN: usize = 100;

/// What a trigger asks for.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    pub(super) metric: &'static ExternalMetric,
    /// The ScaledObject's. Its author may know of no other's pods.
    namespace: String,
    selector: Selector,
    /// What one replica is to have of the metric; above zero.
    pub(super) target: f64,
    /// Above it there is something to do.
    pub(super) activation_target: f64,
}

/// What is wrong with it, for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadTrigger {
    #[error("scaledObjectRef.namespace is empty: whose pods count is not known")]
    NoNamespace,
    #[error(
        "metadata.{0}: there is no such key; there are {METRIC}, {SELECTOR}, {TARGET} and \
         {ACTIVATION_TARGET}, beside KEDA's own"
    )]
    UnknownKey(String),
    #[error(
        "metadata.{0}: KEDA does not read it here; write it into the TriggerAuthentication that \
         authenticationRef names"
    )]
    Secret(&'static str),
    #[error("metadata.{key} is missing; write for example {key}: \"{example}\"")]
    Missing { key: &'static str, example: &'static str },
    #[error("metadata.{key}: {value:?} {problem}; write for example {key}: \"{example}\"")]
    Value { key: &'static str, value: String, problem: String, example: &'static str },
    #[error("metadata.{SELECTOR}: {0}; write for example {SELECTOR}: \"app=comfyui\"")]
    Selector(String),
    #[error("metadata.{SELECTOR}: {0} is of the whole fleet and takes no selector: leave it out")]
    NoSelector(&'static str),
}

impl Trigger {
    pub(super) fn of(asked: ScaledObjectRef) -> Result<Self, BadTrigger> {
        if asked.namespace.is_empty() {
            return Err(BadTrigger::NoNamespace);
        }
        let metadata = Metadata(&asked.scaler_metadata);
        metadata.check_keys()?;
        let metric = metadata.required(METRIC, "filmgate-pending-pods", metric)?;
        let selector = metadata.selector()?;
        if metric.is_of_fleet() && !selector.selects_all() {
            return Err(BadTrigger::NoSelector(metric.name));
        }
        let target = metadata.required(TARGET, "2", quantity::above_zero)?;
        let activation = metadata.optional(ACTIVATION_TARGET, "0", quantity::zero_or_above)?;
        let activation_target = activation.unwrap_or_default();
        Ok(Self { metric, selector, target, activation_target, namespace: asked.namespace })
    }

    pub(super) fn picks(&self, facts: &PodFacts) -> bool {
        selector::picks(&self.selector, &self.namespace, facts)
    }
}

fn metric(name: &str) -> Result<&'static ExternalMetric, String> {
    let known = || METRICS.map(|metric| metric.name).join(", ");
    ExternalMetric::named(name).ok_or_else(|| format!("is not one of {}", known()))
}

struct Metadata<'a>(&'a HashMap<String, String>);

impl Metadata<'_> {
    fn check_keys(&self) -> Result<(), BadTrigger> {
        if let Some(key) = KEDAS_SECRETS.into_iter().find(|key| self.0.contains_key(*key)) {
            return Err(BadTrigger::Secret(key));
        }
        let known = [METRIC, SELECTOR, TARGET, ACTIVATION_TARGET];
        let is_known = |key: &str| known.contains(&key) || KEDAS_OWN.contains(&key);
        // The same one each time, in whatever order they come.
        match self.0.keys().filter(|key| !is_known(key)).min() {
            Some(key) => Err(BadTrigger::UnknownKey(shown(key))),
            None => Ok(()),
        }
    }

    fn selector(&self) -> Result<Selector, BadTrigger> {
        let text = self.0.get(SELECTOR).map_or("", String::as_str);
        selector::parse(text).map_err(|problem| BadTrigger::Selector(shown(&problem)))
    }

    fn optional<T>(
        &self,
        key: &'static str,
        example: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, BadTrigger> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        let wrong = |problem| BadTrigger::Value { key, value: shown(value), problem, example };
        read(value).map(Some).map_err(wrong)
    }

    fn required<T>(
        &self,
        key: &'static str,
        example: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, BadTrigger> {
        self.optional(key, example, read)?.ok_or(BadTrigger::Missing { key, example })
    }
}

fn shown(text: &str) -> String {
    text.chars().take(MOST_SHOWN).collect()
}
