//! The scenario file of the simulated backend.
//!
//! YAML (so JSON as well), every key documented in `config/scenario-example.yaml`. A key that does
//! not exist is refused by name: a misspelt fault would otherwise be a test that tests nothing.
//! [`ScenarioFile`] reads it again whenever it changes and hands each node to the fleet whole, so
//! that no sampling shows half of an edit.

use std::sync::Arc;

use serde::Deserialize;

pub use self::file::{FileError, ScenarioFile};
pub use self::plan::PlanError;
pub use self::values::{GpuChoice, Memory, Quantity};
use super::curve::Interpolation;
use super::simulated::{Delivery, Loss};

mod file;
mod plan;
mod values;

/// A scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Its nodes.
    pub nodes: Vec<NodeSpec>,
}

/// A node, or several alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// The Kubernetes node's name.
    pub name: String,
    /// Makes that many nodes of it, named `<name>-0` and so on.
    #[serde(default)]
    pub copies: Option<u32>,
    /// Why its memory cannot be told apart by pod; absent where it can.
    #[serde(default)]
    pub degraded: Option<Arc<str>>,
    /// Its GPUs, in groups of equal ones; indexes run through all groups.
    pub gpus: Vec<GpuGroup>,
    /// Pods with processes on them.
    #[serde(default)]
    pub pods: Vec<PodSpec>,
    /// The kubelet's device book.
    #[serde(default)]
    pub devices: Vec<DeviceSpec>,
    /// What is wrong with its agent.
    #[serde(default)]
    pub faults: FaultSpec,
}

/// Equal GPUs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GpuGroup {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// All memory of each.
    pub total: Quantity,
    /// Of it, reserved by the driver.
    #[serde(default)]
    pub reserved: Quantity,
    /// The product's name.
    #[serde(default = "simulated_model")]
    pub model: Arc<str>,
    /// The extended resource.
    #[serde(default = "gpu_resource")]
    pub resource: Arc<str>,
    /// Replicas that the device plugin offers of each.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Utilisation, 0 to 1.
    #[serde(default)]
    pub utilization: Option<f64>,
    /// Temperature.
    #[serde(default)]
    pub temperature_celsius: Option<f64>,
    /// Why they cannot take work; absent where they can.
    #[serde(default)]
    pub unhealthy: Option<Arc<str>>,
    /// Processes on each that belong to no pod.
    #[serde(default)]
    pub foreign: Vec<ForeignSpec>,
}

/// A process that belongs to no pod.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForeignSpec {
    /// What it holds.
    pub memory: Memory,
    /// How `memory` runs between its points.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// When it starts, in seconds after the scenario's start.
    #[serde(default)]
    pub start_seconds: f64,
    /// How long it runs, in seconds; for ever if absent.
    #[serde(default)]
    pub run_seconds: Option<f64>,
}

/// A pod with processes on GPUs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`.
    pub uid: String,
    /// The GPUs that it uses, each by `memory`.
    pub gpus: Vec<GpuChoice>,
    /// What it holds on each.
    pub memory: Memory,
    /// How `memory` runs between its points.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// When it starts, in seconds after the scenario's start; when it is first read, if absent.
    #[serde(default)]
    pub start_seconds: Option<f64>,
    /// How long it runs, in seconds; for ever if absent.
    #[serde(default)]
    pub run_seconds: Option<f64>,
}

/// A device that the kubelet has given to a container.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceSpec {
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The pod's UID. The real kubelet does not tell it.
    #[serde(default)]
    pub uid: Option<String>,
    /// The container.
    pub container: Arc<str>,
    /// The GPU.
    pub gpu: GpuChoice,
}

/// What is wrong with a node's agent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultSpec {
    /// It cannot be reached.
    #[serde(default)]
    pub lost: Option<Loss>,
    /// Its samplings arrive that many seconds after they were made.
    #[serde(default)]
    pub late_seconds: f64,
    /// Repeats samplings, or mixes their order.
    #[serde(default)]
    pub delivery: Delivery,
    /// The first GPU shows more in use than it has.
    #[serde(default)]
    pub impossible_numbers: bool,
}

impl Scenario {
    /// Reads a scenario's text.
    ///
    /// # Errors
    /// When it is no YAML, or not of this shape; the message shows the line.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        serde_saphyr::from_str(text).map_err(|error| SyntaxError(error.to_string()))
    }
}

/// Why a text is no scenario: what is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(String);

fn one() -> u32 {
    1
}

fn simulated_model() -> Arc<str> {
    Arc::from("Simulated GPU")
}

fn gpu_resource() -> Arc<str> {
    Arc::from("nvidia.com/gpu")
}

#[cfg(test)]
mod tests;
