//! The engine is pure: what it may not know does not appear in it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Crates that do IO, wait, or speak to Kubernetes, and std's own doors to a clock and a file.
const FORBIDDEN: [&str; 16] = [
    "axum",
    "clap",
    "futures",
    "hyper",
    "k8s_openapi",
    "kube",
    "nvml_wrapper",
    "prometheus",
    "rand",
    "reqwest",
    "tokio",
    "tracing",
    "std::fs",
    "std::net",
    "Instant",
    "SystemTime",
];

/// Other parts of filmgate: flow is adapters → engine, never back.
const OUTER: [&str; 17] = [
    "agent",
    "autoscaling",
    "bridge",
    "certificates",
    "cli",
    "cluster",
    "comfyui",
    "config",
    "demo",
    "doctor",
    "explain",
    "extender",
    "metrics",
    "query",
    "readings",
    "tls",
    "top",
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

fn mentions(code: &str, word: &str) -> bool {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_name) && !code[at + word.len()..].starts_with(is_name)
    })
}

#[test]
fn the_engine_knows_no_io_no_clock_and_no_kubernetes() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = rust_files(&source.join("engine"));
    files.push(source.join("engine.rs"));
    assert!(files.len() > 10, "the engine has moved: {files:?}");
    for file in files {
        let code = code(&file);
        for word in FORBIDDEN {
            assert!(!mentions(&code, word), "{} mentions {word}", file.display());
        }
        for module in OUTER {
            let path = format!("crate::{module}");
            assert!(!mentions(&code, &path), "{} mentions {path}", file.display());
        }
    }
}

/// The wall clock may jump, both ways. It tells people when a sampling began, and decides nothing.
#[test]
fn what_the_agent_finds_hangs_on_no_clock_that_can_be_set() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_test = |file: &PathBuf| file.ends_with("tests.rs");
    let mut files = rust_files(&source.join("agent"));
    files.extend(rust_files(&source.join("readings")));
    let reads = |code: &str| mentions(code, "SystemTime") || code.contains("Timestamp::now");
    let readers = files.iter().filter(|file| !is_test(file) && reads(&code(file)));
    assert_eq!(Vec::from_iter(readers), [&source.join("agent/live.rs")]);
    let live = code(&source.join("agent/live.rs"));
    assert_eq!(live.matches("Timestamp::now").count(), 1);
    assert_eq!(live.matches("began_at").count(), 3, "declared, read from the clock, shown");
}
