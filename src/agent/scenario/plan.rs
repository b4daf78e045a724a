//! From what a scenario says to what the fleet is to be.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{DeviceSpec, FaultSpec, GpuChoice, GpuGroup, Memory, NodeSpec, PodSpec, Scenario};
use crate::agent::curve::{Amount, CurveError, Interpolation};
use crate::agent::gpu_uuid;
use crate::agent::simulated::{Faults, GpuPlan, GpuSpec, NodePlan};
use crate::engine::{Attribution, DeviceAssignment, Health, PodRef, PodUid, Time};

/// Most nodes that one file may make.
const MOST_NODES: u32 = 100_000;

/// Why a scenario cannot be. `at` names the entry (`nodes[0] gpu-0: pods[1] studio/a`).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A name or UID that is empty.
    #[error("{at}: {field} is empty: give it one")]
    Empty {
        /// The entry.
        at: String,
        /// The key.
        field: &'static str,
    },
    /// Two nodes of one name.
    #[error("{at}: node {name} is there twice: rename one")]
    DuplicateNode {
        /// The entry.
        at: String,
        /// The name.
        name: String,
    },
    /// A number out of its range.
    #[error("{at}: {field} is {value}: {range}")]
    OutOfRange {
        /// The entry.
        at: String,
        /// The key.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// One pod cannot run on all copies of a node.
    #[error("{at}: copies with pods or devices: a pod has one node; write those nodes one by one")]
    CopiedPods {
        /// The entry.
        at: String,
    },
    /// The node has no such GPU.
    #[error("{at}: there is no GPU {gpu}: the node's are {known}")]
    UnknownGpu {
        /// The entry.
        at: String,
        /// What was asked for.
        gpu: String,
        /// The GPUs that there are.
        known: String,
    },
    /// Two pods of one UID.
    #[error("{at}: pod {uid} is on this node twice: list all its GPUs in one entry")]
    DuplicatePod {
        /// The entry.
        at: String,
        /// The UID.
        uid: String,
    },
    /// Points that make no curve.
    #[error("{at}: memory {source}")]
    Curve {
        /// The entry.
        at: String,
        /// What is wrong with them.
        source: CurveError,
    },
}

/// When things begin.
pub(super) struct Starts<'a> {
    /// The scenario itself.
    pub(super) scenario: Time,
    /// Now.
    pub(super) now: Time,
    /// When each pod was first read.
    pub(super) first_read: &'a HashMap<PodUid, Time>,
}

/// The nodes that the scenario describes.
pub(super) fn nodes(scenario: &Scenario, starts: &Starts<'_>) -> Result<Vec<NodePlan>, PlanError> {
    let mut names = HashSet::new();
    let mut plans = Vec::new();
    for (index, spec) in scenario.nodes.iter().enumerate() {
        let at = format!("nodes[{index}] {}", spec.name);
        for name in node_names(spec, &at)? {
            if !names.insert(name.clone()) {
                return Err(PlanError::DuplicateNode { at, name });
            }
            plans.push(node(name, spec, &at, starts)?);
        }
    }
    Ok(plans)
}

fn node_names(spec: &NodeSpec, at: &str) -> Result<Vec<String>, PlanError> {
    not_empty(at, "name", &spec.name)?;
    let Some(copies) = spec.copies else { return Ok(vec![spec.name.clone()]) };
    if !(1..=MOST_NODES).contains(&copies) {
        return Err(out_of_range(at, "copies", copies, "1 to 100000"));
    }
    if copies > 1 && !(spec.pods.is_empty() && spec.devices.is_empty()) {
        return Err(PlanError::CopiedPods { at: at.into() });
    }
    Ok((0..copies).map(|copy| format!("{}-{copy}", spec.name)).collect())
}

fn node(
    name: String,
    spec: &NodeSpec,
    at: &str,
    starts: &Starts<'_>,
) -> Result<NodePlan, PlanError> {
    let mut gpus = Vec::new();
    for (index, group) in spec.gpus.iter().enumerate() {
        let at = format!("{at}: gpus[{index}]");
        let plan = gpu(group, &at, starts)?;
        gpus.extend(std::iter::repeat_n(plan, group.count as usize));
    }
    let mut seen = HashSet::new();
    for (index, pod) in spec.pods.iter().enumerate() {
        let at = format!("{at}: pods[{index}] {}/{}", pod.namespace, pod.name);
        if !seen.insert(&pod.uid) {
            return Err(PlanError::DuplicatePod { at, uid: pod.uid.clone() });
        }
        put_pod(pod, &at, starts, &name, &mut gpus)?;
    }
    let device = |(index, device): (usize, &DeviceSpec)| {
        assignment(device, &format!("{at}: devices[{index}]"), &name, &gpus)
    };
    let devices = spec.devices.iter().enumerate().map(device).collect::<Result<_, _>>()?;
    let attribution = match &spec.degraded {
        Some(why) => Attribution::Degraded { why: Arc::clone(why) },
        None => Attribution::Full,
    };
    Ok(NodePlan { faults: faults(&spec.faults, at)?, attribution, devices, gpus, name })
}

fn gpu(group: &GpuGroup, at: &str, starts: &Starts<'_>) -> Result<GpuPlan, PlanError> {
    let (total, reserved) = (group.total.0, group.reserved.0);
    if reserved >= total {
        let value = format!("{reserved} of {total}");
        return Err(out_of_range(at, "reserved", value, "less than total, which is above 0"));
    }
    if group.count == 0 || group.count > 1024 {
        return Err(out_of_range(at, "count", group.count, "1 to 1024"));
    }
    if group.replicas == 0 {
        return Err(out_of_range(at, "replicas", 0, "1 (not shared) or more"));
    }
    if let Some(ratio) = group.utilization.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
        return Err(out_of_range(at, "utilization", ratio, "0 to 1"));
    }
    let mut foreign = Vec::new();
    for (index, process) in group.foreign.iter().enumerate() {
        let at = format!("{at}: foreign[{index}]");
        let start = starts.scenario + seconds(&at, "startSeconds", process.start_seconds)?;
        foreign.push(amount(
            &at,
            &process.memory,
            process.interpolation,
            start,
            process.run_seconds,
        )?);
    }
    let unhealthy = |why: &Arc<str>| Health::Unhealthy { why: Arc::clone(why) };
    Ok(GpuPlan {
        spec: GpuSpec {
            model: Arc::clone(&group.model),
            total,
            reserved,
            resource: Arc::clone(&group.resource),
            replicas: group.replicas,
            utilization_ratio: group.utilization,
            temperature_celsius: group.temperature_celsius,
        },
        health: group.unhealthy.as_ref().map_or(Health::Healthy, unhealthy),
        foreign,
        pods: Vec::new(),
    })
}

fn put_pod(
    pod: &PodSpec,
    at: &str,
    starts: &Starts<'_>,
    node: &str,
    gpus: &mut [GpuPlan],
) -> Result<(), PlanError> {
    not_empty(at, "uid", &pod.uid)?;
    let uid = PodUid::from(&pod.uid);
    let start = match pod.start_seconds {
        Some(start) => starts.scenario + seconds(at, "startSeconds", start)?,
        None => starts.first_read.get(&uid).copied().unwrap_or(starts.now),
    };
    let amount = amount(at, &pod.memory, pod.interpolation, start, pod.run_seconds)?;
    let id = PodRef { namespace: Arc::clone(&pod.namespace), name: Arc::clone(&pod.name), uid };
    for choice in &pod.gpus {
        let position = position(choice, at, node, gpus)?;
        gpus[position].pods.push((id.clone(), amount.clone()));
    }
    Ok(())
}

fn amount(
    at: &str,
    memory: &Memory,
    interpolation: Interpolation,
    starts: Time,
    run_seconds: Option<f64>,
) -> Result<Amount, PlanError> {
    let curve =
        memory.curve(interpolation).map_err(|source| PlanError::Curve { at: at.into(), source })?;
    let run = run_seconds.map(|run| seconds(at, "runSeconds", run)).transpose()?;
    Ok(Amount::Curve { curve, starts, ends: run.map(|run| starts + run) })
}

fn assignment(
    device: &DeviceSpec,
    at: &str,
    node: &str,
    gpus: &[GpuPlan],
) -> Result<DeviceAssignment, PlanError> {
    let position = position(&device.gpu, at, node, gpus)?;
    Ok(DeviceAssignment {
        namespace: Arc::clone(&device.namespace),
        pod: Arc::clone(&device.pod),
        uid: device.uid.as_ref().map(PodUid::from),
        container: Arc::clone(&device.container),
        resource: Arc::clone(&gpus[position].spec.resource),
        gpu: gpu_uuid(node, position as u32),
    })
}

fn faults(spec: &FaultSpec, at: &str) -> Result<Faults, PlanError> {
    Ok(Faults {
        lost: spec.lost,
        late: seconds(&format!("{at}: faults"), "lateSeconds", spec.late_seconds)?,
        delivery: spec.delivery,
        has_impossible_numbers: spec.impossible_numbers,
    })
}

/// Where in the node's list that GPU is.
fn position(
    choice: &GpuChoice,
    at: &str,
    node: &str,
    gpus: &[GpuPlan],
) -> Result<usize, PlanError> {
    let found = match choice {
        GpuChoice::Index(index) => (0..gpus.len()).find(|position| *position == *index as usize),
        GpuChoice::Uuid(uuid) => {
            (0..gpus.len()).find(|position| gpu_uuid(node, *position as u32) == *uuid)
        }
    };
    found.ok_or_else(|| {
        let known =
            (0..gpus.len()).map(|index| format!("{index} ({})", gpu_uuid(node, index as u32)));
        let known: Vec<_> = known.collect();
        PlanError::UnknownGpu { at: at.into(), gpu: choice.to_string(), known: known.join(", ") }
    })
}

fn not_empty(at: &str, field: &'static str, value: &str) -> Result<(), PlanError> {
    if value.is_empty() { Err(PlanError::Empty { at: at.into(), field }) } else { Ok(()) }
}

fn seconds(at: &str, field: &'static str, value: f64) -> Result<Duration, PlanError> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| out_of_range(at, field, value, "seconds count from 0 up"))
}

fn out_of_range(
    at: &str,
    field: &'static str,
    value: impl ToString,
    range: &'static str,
) -> PlanError {
    PlanError::OutOfRange { at: at.into(), field, value: value.to_string(), range }
}
