//! Logs: key and value, to standard error; `FILMGATE_LOG` says how much.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

const DEFAULT: &str = "info";
/// kube's client calls each failed request an error; whoever made the request knows better.
const QUIET: &str = "kube_client::client::builder=off";

/// Writes logs in this format from now on.
pub fn start(format: LogFormat) {
    start_at(DEFAULT, format);
}

/// The same, with what is logged where `FILMGATE_LOG` does not say.
pub fn start_at(default: &str, format: LogFormat) {
    let filter = EnvFilter::try_from_env("FILMGATE_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{default},{QUIET}")));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only the first start counts; tests may start more than once.
    let _already_started = match format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Text => logs.try_init(),
    };
}
