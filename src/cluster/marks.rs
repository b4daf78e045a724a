//! Which of a pod's annotations are filmgate's alone, and whom the API server names as their
//! writer.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::identity::FENCE_ANNOTATION;
use super::wake::WAKE_ANNOTATION;
use crate::engine::marks::{Mark, Marks};
use crate::engine::pod::{CHARGED_ANNOTATION, FRACTION_ANNOTATION};
use crate::engine::request::GPU_ANNOTATION;

/// Written in a Binding, and in no other way.
const DECIDED: [&str; 3] = [GPU_ANNOTATION, CHARGED_ANNOTATION, FRACTION_ANNOTATION];

/// Reads a pod's marks.
pub(super) fn read(metadata: &ObjectMeta) -> Marks {
    let nothing = BTreeMap::new();
    let annotations = metadata.annotations.as_ref().unwrap_or(&nothing);
    let managers = Managers::of(metadata);
    let mark = |key: &'static str, value: &str| Mark::new(key, value, managers.name(key));
    let decided = DECIDED.into_iter().filter_map(|key| Some(mark(key, annotations.get(key)?)));
    // The keys of containers lie one behind the other.
    let prefix = format!("{GPU_ANNOTATION}.");
    let own = annotations.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
    let own = own.map(|(key, value)| Mark::new(key.clone(), value, managers.name(key)));
    let alien = [(FENCE_ANNOTATION, 3), (WAKE_ANNOTATION, 2)];
    let alien = alien.into_iter().filter_map(|(key, parts)| {
        let value = annotations.get(key).filter(|value| !is_numbered(value, parts))?;
        Some(mark(key, value))
    });
    decided.chain(own).chain(alien).collect()
}

/// Those whom the API server names as writers of the pod's annotations.
struct Managers<'a> {
    metadata: &'a ObjectMeta,
    /// What each is named for. Read when first asked: most pods carry nothing of ours yet.
    annotations: OnceCell<Vec<Value>>,
}

impl<'a> Managers<'a> {
    fn of(metadata: &'a ObjectMeta) -> Self {
        Self { metadata, annotations: OnceCell::new() }
    }

    /// Whether someone wrote the annotation other than by a Binding, as far as he let it be known.
    fn name(&self, key: &str) -> bool {
        let field = format!("f:{key}");
        let annotations = self.annotations.get_or_init(|| self.read());
        annotations.iter().any(|fields| fields.get(&field).is_some())
    }

    fn read(&self) -> Vec<Value> {
        let entries = self.metadata.managed_fields.iter().flatten();
        let fields = entries.filter_map(|entry| serde_json::to_value(&entry.fields_v1).ok());
        let annotations =
            |mut fields: Value| fields.pointer_mut("/f:metadata/f:annotations").map(Value::take);
        fields.filter_map(annotations).collect()
    }
}

/// `<holder>/<start>/<n>`, as filmgate writes a fence, or `<start>/<n>`, as it writes a wake.
fn is_numbered(value: &str, parts: usize) -> bool {
    let found: Vec<_> = value.split('/').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|one| one.is_ascii_digit());
    found.len() == parts && found.iter().rev().take(2).all(is_number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn marks(metadata: serde_json::Value) -> Marks {
        read(&serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn reads_the_decision_and_the_keys_of_containers() {
        let found = marks(json!({"annotations": {
            "filmgate.dev/gpu": "GPU-a", "filmgate.dev/gpu.side": "GPU-b",
            "filmgate.dev/gpus": "x", "filmgate.dev/vram": "12Gi", "filmgate.dev/vram-fraction": "1",
        }}));
        let expected = [
            Mark::new("filmgate.dev/gpu", "GPU-a", false),
            Mark::new("filmgate.dev/vram-fraction", "1", false),
            Mark::new("filmgate.dev/gpu.side", "GPU-b", false),
        ];
        assert_eq!(found, expected.into_iter().collect());
    }

    #[test]
    fn tells_what_someone_is_named_for() {
        let fields = json!({"f:metadata": {"f:annotations": {".": {}, "f:filmgate.dev/gpu": {}}}});
        let found = marks(json!({
            "annotations": {"filmgate.dev/gpu": "GPU-a", "filmgate.dev/vram-charged": "GPU-a=1"},
            "managedFields": [{"manager": "kubectl-edit", "fieldsV1": fields}, {}],
        }));
        let expected = [
            Mark::new("filmgate.dev/gpu", "GPU-a", true),
            Mark::new("filmgate.dev/vram-charged", "GPU-a=1", false),
        ];
        assert_eq!(found, expected.into_iter().collect());
    }

    #[test]
    fn a_fence_or_a_wake_counts_where_it_cannot_be_filmgates() {
        let found = marks(json!({"annotations": {
            "filmgate.dev/fence": "gate-0/1764000000000/7", "filmgate.dev/wake": "1764000000000/8",
        }}));
        assert_eq!(found, Marks::default());
        for value in ["", "x", "7", "a/b/c", "a/1/2/3", "1//2", "a/1/"] {
            let found = marks(json!({"annotations": {"filmgate.dev/fence": value}}));
            assert_eq!(found, [Mark::new(FENCE_ANNOTATION, value, false)].into_iter().collect());
        }
        assert_ne!(marks(json!({"annotations": {"filmgate.dev/wake": "x"}})), Marks::default());
    }
}
