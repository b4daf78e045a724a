//! What pods are taken to need when they do not say, by namespace.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;

use super::pod::{self, DEFAULT_VRAM_ANNOTATION, DefaultVram};
use crate::engine::{Bytes, PodFacts};

/// The defaults in force. The watch of namespaces keeps them; everyone who reads pods asks here.
#[derive(Debug)]
pub struct NamespaceDefaults {
    configured: Option<Bytes>,
    /// Namespaces that carry the annotation.
    annotated: RwLock<HashMap<Arc<str>, DefaultVram>>,
}

/// A namespace's annotation as it was read, `None` where it has none.
pub(super) type Annotation = Option<DefaultVram>;

impl NamespaceDefaults {
    /// The configuration's default, and no namespace known yet.
    #[must_use]
    pub fn new(configured: Option<Bytes>) -> Self {
        Self { configured, annotated: RwLock::default() }
    }

    /// The default in this namespace.
    ///
    /// # Errors
    /// When the namespace's annotation cannot be meant.
    pub fn of(&self, namespace: &str) -> DefaultVram {
        self.annotated.read().get(namespace).cloned().unwrap_or(Ok(self.configured))
    }

    /// The pod's facts under its namespace's default; `None` where it asks for no GPU.
    #[must_use]
    pub fn facts(&self, pod: &Pod) -> Option<PodFacts> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        pod::facts_in(pod, &self.of(namespace))
    }

    /// What the namespace itself says.
    pub(super) fn annotated(&self, namespace: &str) -> Annotation {
        self.annotated.read().get(namespace).cloned()
    }

    /// Takes one namespace's annotation; whether that changed anything.
    pub(super) fn set(&self, namespace: &Arc<str>, annotation: Annotation) -> bool {
        let mut annotated = self.annotated.write();
        let before = match annotation.clone() {
            Some(default) => annotated.insert(namespace.clone(), default),
            None => annotated.remove(namespace),
        };
        before != annotation
    }

    /// Takes a whole new list; the namespaces whose default changed.
    pub(super) fn replace(&self, listed: Vec<(Arc<str>, Annotation)>) -> HashSet<Arc<str>> {
        let annotated = listed.into_iter().filter_map(|(name, default)| Some((name, default?)));
        let annotated: HashMap<_, _> = annotated.collect();
        let mut kept = self.annotated.write();
        let changed = kept.keys().chain(annotated.keys());
        let changed = changed.filter(|name| kept.get(*name) != annotated.get(*name));
        let changed = changed.cloned().collect();
        *kept = annotated;
        changed
    }
}

/// Reads a namespace's annotation.
pub(super) fn read(namespace: &str, annotations: Option<&BTreeMap<String, String>>) -> Annotation {
    let is_annotated = annotations.is_some_and(|own| own.contains_key(DEFAULT_VRAM_ANNOTATION));
    is_annotated.then(|| pod::default_vram(namespace, annotations, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gib(gib: u64) -> Annotation {
        Some(Ok(Some(Bytes::gib(gib))))
    }

    #[test]
    fn a_namespace_without_the_annotation_has_the_configured_default() {
        let defaults = NamespaceDefaults::new(Some(Bytes::gib(4)));
        assert_eq!(defaults.of("art"), Ok(Some(Bytes::gib(4))));
        assert!(defaults.set(&"art".into(), gib(8)));
        assert_eq!(defaults.of("art"), Ok(Some(Bytes::gib(8))));
        assert!(defaults.set(&"art".into(), None));
        assert_eq!(defaults.of("art"), Ok(Some(Bytes::gib(4))));
    }

    #[test]
    fn tells_whether_a_default_changed() {
        let defaults = NamespaceDefaults::new(None);
        assert!(!defaults.set(&"art".into(), None));
        assert!(defaults.set(&"art".into(), gib(8)));
        assert!(!defaults.set(&"art".into(), gib(8)));
        let listed = vec![("art".into(), gib(8)), ("lab".into(), gib(2)), ("web".into(), None)];
        assert_eq!(defaults.replace(listed), HashSet::from(["lab".into()]));
        let listed = vec![("art".into(), gib(9))];
        assert_eq!(defaults.replace(listed), HashSet::from(["art".into(), "lab".into()]));
    }
}
