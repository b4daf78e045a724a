//! Rules, alerts and dashboards, against the real Prometheus and promtool.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

#[path = "../support/mod.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../extender/script.rs"]
mod script;
#[allow(dead_code)]
#[path = "../extender/site.rs"]
mod site;
#[path = "../support/engine.rs"]
mod support;

mod dashboards;
mod draw;
mod picture;
mod rules;
mod scraped;

/// A file of the package.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Vec<serde_json::Value> {
    serde_saphyr::from_multiple(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
