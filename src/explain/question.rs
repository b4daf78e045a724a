//! What is asked: a pod that exists, or a manifest.

use std::path::Path;

use serde_json::Value;

use crate::query::{Extender, QueryError};

/// What is asked about.
#[derive(Debug, Clone)]
pub enum Question {
    /// A pod that exists.
    Existing {
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
    },
    /// A pod that does not: what if?
    WhatIf(Value),
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// Not `NAMESPACE/POD`.
    #[error("{0:?} names no pod: write NAMESPACE/POD, for example ai-film/comfyui")]
    Name(String),
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no manifest.
    #[error("{path} is no manifest of a Pod: {why}")]
    Manifest {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
}

impl Question {
    /// Reads `NAMESPACE/POD`.
    ///
    /// # Errors
    /// When it is none.
    pub fn about(text: &str) -> Result<Self, QuestionError> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self::Existing { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(QuestionError::Name(text.to_owned())),
        }
    }

    /// Reads a Pod's manifest, YAML or JSON; `-` is the standard input.
    ///
    /// # Errors
    /// When it cannot be read, or is no Pod.
    pub fn from_file(path: &Path) -> Result<Self, QuestionError> {
        let shown = path.display().to_string();
        let read = if shown == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(path)
        };
        let text = read.map_err(|source| QuestionError::File { path: shown.clone(), source })?;
        let manifest = |why: String| QuestionError::Manifest { path: shown.clone(), why };
        let pod: Value =
            serde_saphyr::from_str(&text).map_err(|error| manifest(error.to_string()))?;
        match pod["kind"].as_str() {
            Some("Pod") => Ok(Self::WhatIf(pod)),
            kind => Err(manifest(format!("its kind is {}", kind.unwrap_or("missing")))),
        }
    }
}

/// The extender's answer, a JSON object.
///
/// # Errors
/// When nobody answers, or the extender says that it cannot.
pub async fn ask(extender: &Extender, question: &Question) -> Result<Value, QueryError> {
    match question {
        Question::Existing { namespace, name } => {
            extender.get("/explain", &[("pod", &format!("{namespace}/{name}"))]).await
        }
        Question::WhatIf(pod) => extender.post("/explain", pod).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_namespace_and_a_pod() {
        assert!(matches!(
            Question::about("ai-film/comfyui"),
            Ok(Question::Existing { namespace, name }) if namespace == "ai-film" && name == "comfyui"
        ));
        for text in ["comfyui", "/comfyui", "ai-film/", "a/b/c", ""] {
            let error = Question::about(text).unwrap_err().to_string();
            assert!(error.contains("write NAMESPACE/POD"), "{error}");
        }
    }

    #[test]
    fn a_manifest_is_a_pods() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pod.yaml");
        std::fs::write(&path, "kind: Deployment\n").unwrap();
        let error = Question::from_file(&path).unwrap_err().to_string();
        assert!(error.ends_with("is no manifest of a Pod: its kind is Deployment"), "{error}");
        std::fs::write(&path, "kind: Pod\nmetadata: {name: p0}\n").unwrap();
        assert!(matches!(Question::from_file(&path), Ok(Question::WhatIf(_))));
        assert!(Question::from_file(&folder.path().join("none")).is_err());
    }
}
