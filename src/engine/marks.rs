//! Annotations that filmgate alone writes, as a pod carries them, and what of them is forged.
//!
//! Two things tell a forgery. Before a pod is bound there is no decision that could be on it. And a
//! Binding's annotations have no field manager, since the API server merges them into the pod
//! itself; whoever writes them in another way becomes their manager, unless he hides it.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::PodFacts;
use super::pod::CHARGED_ANNOTATION;
use super::request::GPU_ANNOTATION;

/// One annotation of filmgate's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Its key.
    pub key: Cow<'static, str>,
    /// A digest of its value: enough to see a change, and small.
    value: u64,
    /// The pod's metadata names someone who wrote it other than by a Binding.
    pub is_managed: bool,
}

impl Mark {
    /// A mark as it was read.
    #[must_use]
    pub fn new(key: impl Into<Cow<'static, str>>, value: &str, is_managed: bool) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self { key: key.into(), value: hasher.finish(), is_managed }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}

/// All of a pod's, by key. A fence or a wake is here only where it cannot be filmgate's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(Box<[Mark]>);

impl FromIterator<Mark> for Marks {
    fn from_iter<T: IntoIterator<Item = Mark>>(marks: T) -> Self {
        Self(marks.into_iter().collect())
    }
}

impl Marks {
    /// The keys through which one of several containers learns its GPUs.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        let keys = self.0.iter().map(|mark| &*mark.key);
        keys.filter(|key| key.strip_prefix(GPU_ANNOTATION).is_some_and(|rest| !rest.is_empty()))
    }

    fn find(&self, key: &str) -> Option<&Mark> {
        self.0.iter().find(|mark| mark.key == key)
    }

    fn has(&self, mark: &Mark) -> bool {
        self.find(&mark.key).is_some_and(|own| own.is_same(mark))
    }

    fn missing_in(&self, other: &Self) -> impl Iterator<Item = &Mark> {
        self.0.iter().filter(|mark| !other.has(mark))
    }
}

/// Whether the decision on a bound pod is surely nobody's Binding: someone is named as its writer,
/// or it was there before the pod was bound.
#[must_use]
pub fn is_decision_forged(facts: &PodFacts, before: Option<&PodFacts>) -> bool {
    let Some(mark) = facts.marks.find(CHARGED_ANNOTATION) else { return false };
    let was_there = before.is_some_and(|before| before.node.is_none() && before.marks.has(mark));
    mark.is_managed || was_there
}

/// Keys forged since the pod was seen last. `is_ours`: our own Binding wrote what is on it.
#[must_use]
pub fn forged(facts: &PodFacts, before: Option<&PodFacts>, is_ours: bool) -> Vec<String> {
    let nothing = Marks::default();
    let before_marks = before.map_or(&nothing, |before| &before.marks);
    let new = facts.marks.missing_in(before_marks);
    let was_bound = before.is_some_and(|before| before.node.is_some());
    let keys: Vec<&Mark> = match &facts.node {
        None => new.collect(),
        Some(_) if was_bound => {
            let gone = before_marks.0.iter().filter(|mark| facts.marks.find(&mark.key).is_none());
            new.chain(gone).collect()
        }
        Some(_) if is_ours => Vec::new(),
        Some(_) => new.filter(|mark| mark.is_managed).collect(),
    };
    keys.into_iter().map(|mark| mark.key.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{GpuAsk, PodRef, Vram};

    fn mark(key: &'static str, value: &str) -> Mark {
        Mark::new(key, value, false)
    }

    fn managed(key: &'static str, value: &str) -> Mark {
        Mark::new(key, value, true)
    }

    fn pod<const N: usize>(node: Option<&str>, marks: [Mark; N]) -> PodFacts {
        PodFacts {
            id: PodRef { namespace: "art".into(), name: "p".into(), uid: "u".into() },
            node: node.map(Into::into),
            workload: "p".into(),
            scheduler: "filmgate".into(),
            is_gated: false,
            ask: Ok(GpuAsk::steered(1, Vram::Exclusive)),
            decision: None,
            marks: marks.into_iter().collect(),
            has_ended: false,
            priority: 0,
            created_at: 0,
            started_at: None,
            is_deleting: false,
            nominated: None,
            labels: None,
            address: None,
            resource_version: "1".into(),
        }
    }

    const BOUND: Option<&str> = Some("n0");

    #[test]
    fn whatever_is_on_an_unbound_pod_is_forged_and_said_once() {
        let first = pod(None, [mark(GPU_ANNOTATION, "GPU-a")]);
        assert_eq!(forged(&first, None, false), [GPU_ANNOTATION]);
        assert_eq!(forged(&first, Some(&first), false), [""; 0]);
        let again = pod(None, [mark(GPU_ANNOTATION, "GPU-b")]);
        assert_eq!(forged(&again, Some(&first), false), [GPU_ANNOTATION]);
    }

    #[test]
    fn what_comes_with_a_binding_is_none() {
        let unbound = pod(None, []);
        let bound = pod(BOUND, [mark(GPU_ANNOTATION, "GPU-a"), mark(CHARGED_ANNOTATION, "x")]);
        assert_eq!(forged(&bound, Some(&unbound), false), [""; 0]);
        assert_eq!(forged(&bound, None, false), [""; 0]);
        assert!(!is_decision_forged(&bound, Some(&unbound)));
    }

    #[test]
    fn what_someone_is_named_for_is_forged() {
        let bound = pod(BOUND, [mark(GPU_ANNOTATION, "GPU-a"), managed(CHARGED_ANNOTATION, "x")]);
        assert_eq!(forged(&bound, None, false), [CHARGED_ANNOTATION]);
        assert!(is_decision_forged(&bound, None));
    }

    #[test]
    fn what_our_own_binding_wrote_over_is_not_told_again() {
        let preset = pod(None, [managed(GPU_ANNOTATION, "GPU-x")]);
        let bound = pod(BOUND, [managed(GPU_ANNOTATION, "GPU-a"), mark(CHARGED_ANNOTATION, "x")]);
        assert_eq!(forged(&bound, Some(&preset), true), [""; 0]);
    }

    #[test]
    fn a_decision_that_was_there_before_the_pod_was_bound_is_forged() {
        let preset = pod(None, [mark(CHARGED_ANNOTATION, "x")]);
        let same = pod(BOUND, [mark(CHARGED_ANNOTATION, "x")]);
        let other = pod(BOUND, [mark(CHARGED_ANNOTATION, "y")]);
        assert!(is_decision_forged(&same, Some(&preset)));
        assert!(!is_decision_forged(&other, Some(&preset)));
    }

    #[test]
    fn an_edit_of_a_running_pod_is_forged_even_if_nobody_is_named() {
        let bound = pod(BOUND, [mark(GPU_ANNOTATION, "GPU-a"), mark(CHARGED_ANNOTATION, "x")]);
        let edited = pod(BOUND, [mark(GPU_ANNOTATION, "GPU-a"), mark(CHARGED_ANNOTATION, "y")]);
        assert_eq!(forged(&edited, Some(&bound), false), [CHARGED_ANNOTATION]);
        let removed = pod(BOUND, [mark(CHARGED_ANNOTATION, "x")]);
        assert_eq!(forged(&removed, Some(&bound), false), [GPU_ANNOTATION]);
    }

    #[test]
    fn containers_are_those_with_a_key_of_their_own() {
        let pod = pod(None, [mark(GPU_ANNOTATION, "a"), mark("filmgate.dev/gpu.other", "a")]);
        assert_eq!(pod.marks.containers().collect::<Vec<_>>(), ["filmgate.dev/gpu.other"]);
    }
}
