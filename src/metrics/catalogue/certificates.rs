//! What `filmgate certificates` says of what it keeps.

use super::{Chapter, Kind, Metric};

pub(crate) const CHAPTER: Chapter = Chapter {
    title: "Certificates",
    about: "Where `filmgate certificates` runs; see [security.md](security.md#certificates).",
    metrics: &[EXPIRY],
};

pub(crate) const EXPIRY: Metric = Metric {
    name: "filmgate_certificate_expiry_timestamp_seconds",
    kind: Kind::Gauge,
    labels: &["secret"],
    help: "When the Secret's certificate ends, in Unix time, as the last round that succeeded left it.",
    purpose: "Alert on less than 20 days: renewal is due at 30, and has failed since.",
    series: "Secrets",
};
