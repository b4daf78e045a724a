//! Every metric there is, once: its HELP and TYPE, its labels, and its line in `docs/metrics.md`
//! come from here.
//!
//! Names follow Prometheus' rules: base units (`_bytes`, `_seconds`, `_ratio`), `_total` for what
//! only grows. `gpu`, `UUID` and `modelName` are as dcgm-exporter has them, `namespace`, `pod` and
//! `container` as kube-state-metrics has them, so that all of them join.

use std::fmt::Write as _;

use prometheus::Opts;

pub(crate) mod agent;
pub(crate) mod bridge;
pub(crate) mod certificates;
pub(crate) mod ledger;
pub(crate) mod replica;

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// The names of its labels, in the order in which their values are given.
    pub labels: &'static [&'static str],
    /// What it says: the HELP of the exposition.
    pub help: &'static str,
    /// What it is good for.
    pub purpose: &'static str,
    /// How many series there are at most.
    pub series: &'static str,
}

/// How a metric's values behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from the process' start.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Observations, counted in buckets.
    Histogram,
}

/// Metrics of one origin.
#[derive(Debug, Clone, Copy)]
pub struct Chapter {
    /// Who shows them.
    pub title: &'static str,
    /// What is to be known of all of them.
    pub about: &'static str,
    /// The metrics.
    pub metrics: &'static [Metric],
}

/// All of them.
pub const CHAPTERS: [Chapter; 5] =
    [replica::CHAPTER, ledger::CHAPTER, agent::CHAPTER, certificates::CHAPTER, bridge::CHAPTER];

impl Kind {
    /// The word in the exposition's TYPE.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// The unit of its values, which its name ends with.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        const UNITS: [&str; 5] = ["bytes", "seconds", "ratio", "celsius", "watts"];
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        UNITS.into_iter().find(|unit| name.ends_with(unit)).unwrap_or("1")
    }

    /// For the registry.
    pub(crate) fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }
}

/// `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for chapter in CHAPTERS {
        let Chapter { title, about, metrics } = chapter;
        let _infallible = write!(page, "\n## {title}\n{about}\n\n{COLUMNS}");
        metrics.iter().for_each(|metric| line(&mut page, metric));
    }
    page.push_str(include_str!("catalogue/notes.md"));
    page
}

fn line(page: &mut String, metric: &Metric) {
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let _infallible = writeln!(
        page,
        "| `{}` | {} | {} | {} | {} | {} | {} |",
        metric.name,
        metric.kind.word(),
        metric.unit(),
        labels.join(", "),
        metric.help,
        metric.purpose,
        metric.series
    );
}

const COLUMNS: &str = "\
| metric | type | unit | labels | meaning | use | series at most |
|---|---|---|---|---|---|---|
";

const HEAD: &str = "\
<!-- Written by `FILMGATE_BLESS=1 cargo test --test metrics_page` from src/metrics/catalogue. -->
# Metrics
The extender serves `/metrics` on port 9111, the agent on 9113, `filmgate certificates` on 9117, `filmgate bridge` on 9119, in
Prometheus' text format. Gauges are computed at the scrape: a pod, GPU or node that is gone leaves no series. A unit of 1 is a plain number.
";

#[cfg(test)]
mod tests;
