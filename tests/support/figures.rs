//! Figures that others read.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Figures of one run, in order.
#[derive(Default)]
pub struct Figures(Vec<Value>);

impl Figures {
    /// Notes a figure and prints it.
    pub fn add(&mut self, figure: &str, value: f64, unit: &str, goal: &str, detail: Value) {
        println!("{figure:<28} {value:>9.3} {unit:<10} goal {goal:<8} {detail}");
        self.0.push(json!({
            "figure": figure, "value": value, "unit": unit, "goal": goal, "detail": detail,
        }));
    }

    /// Writes `target/figures/<name>.json`; figures of parts that did not run stay as they were.
    pub fn write(self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/figures");
        fs::create_dir_all(&folder).expect("a folder for figures");
        let path = folder.join(format!("{name}.json"));
        let before = fs::read_to_string(&path).unwrap_or_default();
        let mut all: Vec<Value> = serde_json::from_str(&before).unwrap_or_default();
        all.retain(|old| self.0.iter().all(|new| new["figure"] != old["figure"]));
        all.extend(self.0);
        let text = serde_json::to_string_pretty(&all).expect("JSON");
        fs::write(&path, text).expect("figures written");
        println!("written to {}", path.display());
    }
}
