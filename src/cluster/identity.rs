//! Who writes: the holder's name in fences, wakes and events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;

/// The fence: `<holder>/<start>/<n>`. Each write of it moves the pod's version, so that no Binding
/// that was sent before can commit any more.
pub const FENCE_ANNOTATION: &str = "filmgate.dev/fence";
/// The fence of a pod whose annotations are full to the last byte: as a label, `<start>.<n>`.
pub const FENCE_LABEL: &str = FENCE_ANNOTATION;

/// One run of filmgate.
#[derive(Debug)]
pub struct Identity {
    holder: Arc<str>,
    /// Milliseconds since 1970 at which this run began.
    started: u128,
    /// Numbers its writes: no two are alike.
    next: AtomicU64,
}

impl Identity {
    /// This run under that name, the pod's or the machine's.
    #[must_use]
    pub fn new(holder: impl AsRef<str>) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            holder: Arc::from(holder.as_ref()),
            started: since_epoch.map_or(0, |elapsed| elapsed.as_millis()),
            next: AtomicU64::new(0),
        }
    }

    /// The name.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// A value for [`FENCE_ANNOTATION`] that was never used before.
    pub(super) fn fence(&self) -> String {
        format!("{}/{}/{}", self.holder, self.started, self.number())
    }

    /// A value for [`FENCE_LABEL`] that was never used before.
    pub(super) fn fence_label(&self) -> String {
        format!("{}.{}", self.started, self.number())
    }

    /// A value that was never used before, for anything else.
    pub(super) fn nonce(&self) -> String {
        format!("{}/{}", self.started, self.number())
    }

    /// The fence of another run on the pod, if there is one.
    pub(super) fn foreign_fence<'p>(&self, pod: &'p Pod) -> Option<&'p str> {
        let annotations = pod.metadata.annotations.as_ref();
        let annotation = annotations.and_then(|own| own.get(FENCE_ANNOTATION));
        let label = pod.metadata.labels.as_ref().and_then(|own| own.get(FENCE_LABEL));
        let own = format!("{}/{}/", self.holder, self.started);
        let own_label = format!("{}.", self.started);
        let annotation = annotation.filter(|value| !value.starts_with(&own));
        let label = label.filter(|value| !value.starts_with(&own_label));
        annotation.or(label).map(String::as_str)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn no_two_fences_are_alike_and_all_are_known_as_own() {
        let own = Identity::new("gate-0");
        let (first, second) = (own.fence(), own.fence());
        assert_ne!(first, second);
        assert!(first.starts_with("gate-0/"), "{first}");
        let fenced = pod(json!({"annotations": {FENCE_ANNOTATION: first}}));
        assert_eq!(own.foreign_fence(&fenced), None);
        let labelled = pod(json!({"labels": {FENCE_LABEL: own.fence_label()}}));
        assert_eq!(own.foreign_fence(&labelled), None);
    }

    #[test]
    fn a_fence_of_another_holder_or_of_an_earlier_run_is_foreign() {
        let own = Identity::new("gate-0");
        for value in ["gate-1/5/0", "gate-0/5/0", ""] {
            let fenced = pod(json!({"annotations": {FENCE_ANNOTATION: value}}));
            assert_eq!(own.foreign_fence(&fenced), Some(value));
        }
        assert_eq!(own.foreign_fence(&pod(json!({"labels": {FENCE_LABEL: "5.0"}}))), Some("5.0"));
        assert_eq!(own.foreign_fence(&pod(json!({}))), None);
    }
}
