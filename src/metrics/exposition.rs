//! Families of the catalogue in Prometheus' text format, for figures that no registry holds.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

use super::catalogue::Metric;

/// A page in the making.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

/// A family that samples are written to.
pub(crate) struct Family<'a> {
    page: &'a mut String,
    metric: &'static Metric,
}

impl Exposition {
    /// Goes on after what is written already.
    pub(crate) fn after(text: String) -> Self {
        Self(text)
    }

    /// Begins a family.
    pub(crate) fn family(&mut self, metric: &'static Metric) -> Family<'_> {
        let Metric { name, help, kind, .. } = metric;
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
        Family { page: &mut self.0, metric }
    }

    /// A family with one sample and no labels.
    pub(crate) fn single(&mut self, metric: &'static Metric, value: impl Display) {
        self.family(metric).sample([], value);
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Writes one sample; `values` are those of the metric's labels, in their order.
    pub(crate) fn sample<const N: usize>(&mut self, values: [&str; N], value: impl Display) {
        debug_assert_eq!(values.len(), self.metric.labels.len(), "{}", self.metric.name);
        self.page.push_str(self.metric.name);
        for (at, (label, value)) in self.metric.labels.iter().zip(values).enumerate() {
            let opening = if at == 0 { '{' } else { ',' };
            let _infallible = write!(self.page, "{opening}{label}=\"{}\"", escaped(value));
        }
        let closing = if self.metric.labels.is_empty() { "" } else { "}" };
        let _infallible = writeln!(self.page, "{closing} {value}");
    }
}

/// A label's value in the exposition format.
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").into()
}
