//! The configuration: a file, flags and the environment, made into one checked [`Config`].
//!
//! A flag outranks the environment, the environment the file, the file the default. Every error
//! names the key, its value and a right example.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::autoscaling;
use crate::cluster::version::Version;
use crate::engine::{Bytes, Policy};
use crate::extender::{GateSettings, Mode};
use crate::readings::client::{AgentEndpoint, Trust};
use crate::readings::discovery::EndpointError;
use crate::tls;

mod agents;
mod check;
mod comfyui;
mod election;
mod external_metrics;
mod mutual_tls;
mod settings;
mod text;

pub use election::{ElectionMode, LeaderElection};
pub use settings::{AgentFile, AgentsFile, FileSettings, Flags};
pub use text::Text;

/// The extender's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whether refusals are meant.
    pub mode: Mode,
    /// Where the verbs and `explain` are served.
    pub verbs: SocketAddr,
    /// Where metrics and health are served.
    pub metrics: SocketAddr,
    /// The ledger's rules.
    pub policy: Policy,
    /// What a pod that declares nothing is taken to need; `None`: a whole GPU.
    pub default_vram: Option<Bytes>,
    /// Longest body of a call.
    pub max_body_bytes: usize,
    /// How long filter and prioritize may take.
    pub filter_timeout: Duration,
    /// How long a Binding may take.
    pub bind_timeout: Duration,
    /// The scheduler whose pods are ours.
    pub scheduler_name: String,
    /// The version of the kube-scheduler beside the extender, where it is known.
    pub kube_scheduler_version: Option<Version>,
    /// Which of several replicas answers.
    pub leader_election: LeaderElection,
    /// Where external metrics are served; `None`: nowhere.
    pub external_metrics: Option<autoscaling::Served>,
    /// Where KEDA is answered; `None`: nowhere.
    pub keda: Option<tls::Served>,
    /// Where the verbs alone are served to a kube-scheduler elsewhere; `None`: nowhere.
    pub service: Option<tls::Served>,
    /// Which pods' ComfyUIs are asked what they do; `None`: nobody's.
    pub comfyui: Option<crate::comfyui::Settings>,
    /// A node that nobody has used for so long says so; `None`: none does.
    pub annotate_idle_after: Option<Duration>,
    /// Where the agents are.
    pub agents: Agents,
    /// How agents prove themselves, and the extender to them; `None`: plain HTTP.
    pub agents_trust: Option<Trust>,
    /// The kubeconfig; `None`: the pod's service account, or `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// How logs are written.
    pub log_format: LogFormat,
}

/// Where the agents are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agents {
    /// These.
    Static(Vec<AgentEndpoint>),
    /// Those that these EndpointSlices list.
    EndpointSlices {
        /// Their namespace.
        namespace: String,
        /// Their labels.
        label_selector: String,
        /// Name of the port that serves readings.
        port: String,
    },
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One object per line.
    Json,
    /// For terminals.
    Text,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is no such YAML.
    #[error("config file {path}: {error}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: String,
    },
    /// A value cannot be meant.
    #[error("config key {key}: {value:?} {problem}; write for example {key}: {example}")]
    Value {
        /// The key, with its parents.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        problem: String,
        /// A right value.
        example: &'static str,
    },
    /// An agent's entry cannot be used.
    #[error(transparent)]
    Agent(#[from] EndpointError),
    /// Two keys exclude each other.
    #[error("config keys {0} and {1} exclude each other: keep one")]
    Both(&'static str, &'static str),
}

impl Config {
    /// Reads the file, where one is given, and what outranks it.
    ///
    /// # Errors
    /// The first thing that cannot be meant.
    pub fn load(file: Option<&Path>, flags: Flags) -> Result<Self, ConfigError> {
        let settings = match file {
            Some(path) => read(path)?,
            None => FileSettings::default(),
        };
        check::config(&settings.overruled_by(flags))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// The first thing that cannot be meant.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        check::config(&parse(Path::new("-"), text)?.overruled_by(Flags::default()))
    }

    /// What the gate needs of it.
    #[must_use]
    pub fn gate(&self) -> GateSettings {
        GateSettings {
            mode: self.mode,
            default_vram: self.default_vram,
            filter_timeout: self.filter_timeout,
            bind_timeout: self.bind_timeout,
            max_body_bytes: self.max_body_bytes,
            standby_is_ready: self.leader_election.mode != ElectionMode::Own,
            scheduler_name: self.scheduler_name.as_str().into(),
            annotate_idle_after: self.annotate_idle_after,
            policy: self.policy.clone(),
        }
    }
}

fn read(path: &Path) -> Result<FileSettings, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
    parse(path, &std::fs::read_to_string(path).map_err(unreadable)?)
}

fn parse(path: &Path, text: &str) -> Result<FileSettings, ConfigError> {
    let is_empty = text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    });
    if is_empty {
        return Ok(FileSettings::default());
    }
    let malformed = |error: String| ConfigError::Malformed { path: path.to_owned(), error };
    serde_saphyr::from_str(text).map_err(|error| malformed(error.to_string()))
}

#[cfg(test)]
mod tests;
