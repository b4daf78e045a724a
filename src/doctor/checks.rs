//! All checks, in the order of the report. docs/troubleshooting.md has a section on each.

pub mod cluster;
pub mod filmgate;
pub mod pipeline;
pub mod trouble;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;

use super::finding::Outcome;
use super::ground::Ground;

/// What a check belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The cluster itself: always looked at.
    Cluster,
    /// filmgate's own parts.
    Filmgate,
    /// The AI film pipeline's deployment.
    Pipeline,
    /// What goes wrong in running pods, volumes and GPUs.
    Trouble,
}

impl Group {
    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Filmgate => "filmgate",
            Self::Pipeline => "pipeline",
            Self::Trouble => "trouble",
        }
    }
}

/// How a check is made.
pub type Look = for<'a> fn(&'a Ground) -> BoxFuture<'a, Outcome>;

/// A check.
#[derive(Debug)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What it belongs to.
    pub group: Group,
    /// How it is made.
    pub look: Look,
}

/// Every check.
pub const CHECKS: &[Check] = &[
    of_cluster("api-server", |ground| cluster::api_server(ground).boxed()),
    of_cluster("clocks", |ground| cluster::clocks(ground).boxed()),
    of_filmgate("device-plugin", |ground| filmgate::device_plugin(ground).boxed()),
    of_filmgate("agents", |ground| filmgate::agents(ground).boxed()),
    of_filmgate("attribution", |ground| filmgate::attribution(ground).boxed()),
    of_filmgate("scheduler", |ground| filmgate::scheduler(ground).boxed()),
    of_filmgate("extender-config", |ground| filmgate::extender_config(ground).boxed()),
    of_filmgate("rights", |ground| filmgate::rights(ground).boxed()),
    of_filmgate("versions", |ground| filmgate::versions(ground).boxed()),
    of_filmgate("waiting-pods", |ground| filmgate::waiting_pods(ground).boxed()),
    of_pipeline("namespace", |ground| pipeline::namespace(ground).boxed()),
    of_pipeline("secrets", |ground| pipeline::secrets(ground).boxed()),
    of_pipeline("volumes", |ground| pipeline::volumes(ground).boxed()),
    of_pipeline("workloads", |ground| pipeline::workloads(ground).boxed()),
    of_pipeline("ingress", |ground| pipeline::ingress(ground).boxed()),
    of_pipeline("comfyui", |ground| pipeline::comfyui(ground).boxed()),
    of_pipeline("dagster", |ground| pipeline::dagster(ground).boxed()),
    of_trouble("comfyui-start", |ground| trouble::comfyui_start(ground).boxed()),
    of_trouble("storage", |ground| trouble::storage(ground).boxed()),
    of_trouble("crash-loops", |ground| trouble::crash_loops(ground).boxed()),
    of_trouble("gpu-health", |ground| trouble::gpu_health(ground).boxed()),
    of_trouble("wrong-gpu", |ground| trouble::wrong_gpu(ground).boxed()),
];

const fn of_cluster(name: &'static str, look: Look) -> Check {
    Check { name, group: Group::Cluster, look }
}

const fn of_filmgate(name: &'static str, look: Look) -> Check {
    Check { name, group: Group::Filmgate, look }
}

const fn of_pipeline(name: &'static str, look: Look) -> Check {
    Check { name, group: Group::Pipeline, look }
}

const fn of_trouble(name: &'static str, look: Look) -> Check {
    Check { name, group: Group::Trouble, look }
}
