//! Prometheus' text format, as far as tests read it.

// Each test uses some of it.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use filmgate::metrics::catalogue::Chapter;

/// The samples of one scrape.
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Scrapes; nothing where nobody answers.
    pub async fn scrape(url: &str) -> Self {
        let text = match reqwest::get(url).await {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        Self { text }
    }

    /// What was scraped by other means.
    pub fn of(text: String) -> Self {
        Self { text }
    }

    /// Every series of that name: its labels as they stand, and its value.
    pub fn series(&self, name: &str) -> Vec<(&str, f64)> {
        self.text.lines().filter_map(|line| sample(line, name)).collect()
    }

    /// The value of the first series with these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |have: &str| {
            labels.iter().all(|(key, value)| have.contains(&format!("{key}=\"{value}\"")))
        };
        self.series(name).into_iter().find(|(have, _)| has(have)).map(|(_, value)| value)
    }

    /// The sum over all series of that name with these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |have: &str| {
            labels.iter().all(|(key, value)| have.contains(&format!("{key}=\"{value}\"")))
        };
        self.series(name).into_iter().filter(|(have, _)| has(have)).map(|(_, value)| value).sum()
    }

    /// Every family, as its HELP, its TYPE and its samples have it.
    pub fn families(&self) -> BTreeMap<&str, Family<'_>> {
        let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
        for line in self.text.lines().filter_map(|line| line.strip_prefix("# ")) {
            let words: Vec<_> = line.splitn(3, ' ').collect();
            let [what, name, text] = words[..] else { panic!("neither HELP nor TYPE: {line}") };
            let family = families.entry(name).or_default();
            if what == "HELP" { family.help = text } else { family.kind = text }
        }
        for line in self.text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let name = line.split(['{', ' ']).next().expect("split yields something");
            let histogram = ["_bucket", "_sum", "_count"].iter();
            let mut bases = histogram.filter_map(|suffix| name.strip_suffix(suffix));
            let base = bases.find(|base| families.contains_key(base)).unwrap_or(name);
            families.entry(base).or_default().labels.insert(labels(line));
        }
        families
    }

    /// What differs from these chapters of the catalogue: families and labels that are not in it,
    /// and what is in it and not shown.
    pub fn differences(&self, chapters: &[Chapter]) -> Vec<String> {
        let metrics = || chapters.iter().flat_map(|chapter| chapter.metrics);
        let mut families = self.families();
        let mut differences = Vec::new();
        for metric in metrics() {
            let (name, help, kind) = (metric.name, metric.help, metric.kind.word());
            let labels = BTreeSet::from([metric.labels.iter().copied().collect()]);
            let catalogued = Family { help, kind, labels };
            match families.remove(name) {
                None => differences.push(format!("{name} is in the catalogue and not shown")),
                Some(family) if family != catalogued => {
                    differences.push(format!("{name}: shown {family:?}, catalogue {catalogued:?}"));
                }
                Some(_) => {}
            }
        }
        let unknown = families.into_keys().map(|name| format!("{name} is not in the catalogue"));
        differences.extend(unknown);
        differences
    }
}

/// A family of the text format.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Family<'a> {
    pub help: &'a str,
    pub kind: &'a str,
    /// The sets of label names that its samples have.
    pub labels: BTreeSet<BTreeSet<&'a str>>,
}

/// Names of a sample's labels; `le` belongs to the format.
fn labels(line: &str) -> BTreeSet<&str> {
    let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
    let Some((inside, _)) = inside else { return BTreeSet::new() };
    let names = inside.split("\",").filter_map(|pair| Some(pair.split_once("=\"")?.0));
    names.filter(|name| *name != "le").collect()
}

fn sample<'a>(line: &'a str, name: &str) -> Option<(&'a str, f64)> {
    let rest = line.strip_prefix(name)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    Some((labels, value.trim().parse().ok()?))
}
