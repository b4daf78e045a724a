//! What a pod asks of GPUs, read from its containers and annotations.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Bytes;
use super::bytes::QuantityError;

/// Bytes per GPU that each GPU container needs; `filmgate.dev/vram.<container>` for one of several.
pub const VRAM_ANNOTATION: &str = "filmgate.dev/vram";
/// The chosen GPUs, for the downward API; `filmgate.dev/gpu.<container>` for one of several.
pub const GPU_ANNOTATION: &str = "filmgate.dev/gpu";
/// A declaration below this is surely a mistake: a CUDA context alone takes more.
pub const LEAST_VRAM: Bytes = Bytes::mib(64);
/// A declaration above this (1 PiB) is surely a mistake too: digits too many.
pub const MOST_VRAM: Bytes = Bytes::gib(1 << 20);
const EXAMPLE: &str = "12Gi";

/// A container as far as GPUs go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Its name.
    pub name: Arc<str>,
    /// When it runs.
    pub kind: ContainerKind,
    /// Extended GPU resources it requests, and how many of each.
    pub gpus: Vec<(Arc<str>, u32)>,
    /// The annotation that its `NVIDIA_VISIBLE_DEVICES` is read from by the downward API.
    pub steered_by: Option<Arc<str>>,
}

/// When a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerKind {
    /// Before the others, to its end: its GPUs are handed on to them.
    Init,
    /// An init container with `restartPolicy: Always`: beside the others.
    Sidecar,
    /// An ordinary container.
    App,
}

/// What a pod asks of GPUs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuAsk {
    /// Containers that run side by side: their needs add up.
    pub shares: Vec<Share>,
    /// Init containers: each runs alone, so its need counts where it is above the others'. The
    /// need of sidecars that already run beside it is added to it, on whichever GPU they are.
    pub early: Vec<Share>,
}

/// What one container asks of GPUs of one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// The container.
    pub container: Arc<str>,
    /// The extended resource.
    pub resource: Arc<str>,
    /// How many GPUs (or replicas).
    pub gpus: u32,
    /// What it needs on each.
    pub vram: Vram,
    /// The annotation that tells the container its GPUs, where it reads one.
    pub steered_by: Option<Arc<str>>,
}

/// What a container needs on each of its GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "source", content = "bytes")]
pub enum Vram {
    /// Declared by annotation.
    Declared(Bytes),
    /// The namespace's or the configuration's default.
    Default(Bytes),
    /// Unknown: a whole GPU.
    Exclusive,
}

/// An annotation that cannot be meant. The text names it, its value and a right example.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not an amount of memory.
    #[error("annotation {annotation}: {value:?} {problem}; write for example {EXAMPLE}")]
    Quantity {
        /// The annotation's key.
        annotation: String,
        /// Its value.
        value: String,
        /// What is wrong.
        problem: QuantityError,
    },
    /// An amount too small to be meant.
    #[error(
        "annotation {annotation}: {value:?} is {bytes} bytes, less than {LEAST_VRAM} and surely a mistake; write for example {EXAMPLE}"
    )]
    TooSmall {
        /// The annotation's key.
        annotation: String,
        /// Its value.
        value: String,
        /// The value in bytes.
        bytes: u64,
    },
    /// A container that has no GPU or does not exist.
    #[error(
        "annotation {annotation}: no container named {container:?} asks for a GPU (those that do: {known}); write for example {VRAM_ANNOTATION}: {EXAMPLE}"
    )]
    UnknownContainer {
        /// The annotation's key.
        annotation: String,
        /// The container that it names.
        container: String,
        /// The GPU containers, joined by commas.
        known: String,
    },
}

/// Whether filmgate decides about this extended resource.
#[must_use]
pub fn is_gpu_resource(resource: &str) -> bool {
    matches!(resource, "nvidia.com/gpu" | "nvidia.com/gpu.shared")
        || resource.starts_with("nvidia.com/mig-")
}

/// Reads one VRAM annotation's value.
///
/// # Errors
/// When it is no amount of memory, or one too small to be meant.
pub fn parse_vram(annotation: &str, value: &str) -> Result<Bytes, BadRequest> {
    let bytes = match Bytes::parse_quantity(value) {
        Ok(bytes) if bytes > MOST_VRAM => Err(QuantityError::TooLarge),
        parsed => parsed,
    };
    let bytes = bytes.map_err(|problem| BadRequest::Quantity {
        annotation: annotation.to_owned(),
        value: shortened(value),
        problem,
    })?;
    if bytes < LEAST_VRAM {
        return Err(BadRequest::TooSmall {
            annotation: annotation.to_owned(),
            value: shortened(value),
            bytes: bytes.get(),
        });
    }
    Ok(bytes)
}

/// Annotations may hold 256 KiB; a message quotes the start.
fn shortened(value: &str) -> String {
    const QUOTED_CHARS: usize = 40;
    match value.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// What the pod asks, or `None` where it asks for no GPU.
///
/// # Errors
/// When an annotation cannot be meant.
pub fn read_ask(
    containers: &[ContainerFacts],
    annotations: &BTreeMap<String, String>,
    default_vram: Option<Bytes>,
) -> Result<Option<GpuAsk>, BadRequest> {
    let with_gpus: Vec<_> = containers.iter().filter(|one| !one.gpus.is_empty()).collect();
    if with_gpus.is_empty() {
        return Ok(None);
    }
    refuse_unknown_containers(&with_gpus, annotations)?;
    let for_all = match annotations.get(VRAM_ANNOTATION) {
        Some(value) => Vram::Declared(parse_vram(VRAM_ANNOTATION, value)?),
        None => default_vram.map_or(Vram::Exclusive, Vram::Default),
    };
    let mut ask = GpuAsk { shares: Vec::new(), early: Vec::new() };
    for container in &with_gpus {
        let mut vram = container_vram(&container.name, annotations)?.unwrap_or(for_all);
        let steered_by = steering(container, with_gpus.len() == 1);
        let is_early = container.kind == ContainerKind::Init;
        if is_early {
            // Only sidecars come before it: the API server lists init containers first.
            vram = ask.shares.iter().fold(vram, |sum, sidecar| sum.beside(sidecar.vram));
        }
        let side = if is_early { &mut ask.early } else { &mut ask.shares };
        side.extend(container.gpus.iter().map(|(resource, gpus)| Share {
            container: container.name.clone(),
            resource: resource.clone(),
            gpus: *gpus,
            vram,
            steered_by: steered_by.clone(),
        }));
    }
    Ok(Some(ask))
}

fn container_vram(
    container: &str,
    annotations: &BTreeMap<String, String>,
) -> Result<Option<Vram>, BadRequest> {
    let annotation = format!("{VRAM_ANNOTATION}.{container}");
    let value = annotations.get(&annotation);
    value.map(|value| parse_vram(&annotation, value).map(Vram::Declared)).transpose()
}

/// A container is steered when its devices come from an annotation that is about it alone.
fn steering(container: &ContainerFacts, is_only_one: bool) -> Option<Arc<str>> {
    let annotation = container.steered_by.as_ref()?;
    let own = annotation
        .strip_prefix(GPU_ANNOTATION)
        .and_then(|rest| rest.strip_prefix('.'))
        .is_some_and(|name| *name == *container.name);
    let single = **annotation == *GPU_ANNOTATION && is_only_one && container.gpus.len() == 1;
    (own || single).then(|| annotation.clone())
}

fn refuse_unknown_containers(
    with_gpus: &[&ContainerFacts],
    annotations: &BTreeMap<String, String>,
) -> Result<(), BadRequest> {
    for annotation in annotations.keys() {
        let Some(container) =
            annotation.strip_prefix(VRAM_ANNOTATION).and_then(|rest| rest.strip_prefix('.'))
        else {
            continue;
        };
        if !with_gpus.iter().any(|one| *one.name == *container) {
            let names: Vec<&str> = with_gpus.iter().map(|one| &*one.name).collect();
            return Err(BadRequest::UnknownContainer {
                annotation: annotation.clone(),
                container: container.to_owned(),
                known: names.join(", "),
            });
        }
    }
    Ok(())
}

impl GpuAsk {
    /// One steered container that needs `vram` on each of `gpus` GPUs: the usual case.
    #[must_use]
    pub fn steered(gpus: u32, vram: Vram) -> Self {
        Self::single(gpus, vram, Some(Arc::from(GPU_ANNOTATION)))
    }

    /// One container whose GPU the device plugin chooses.
    #[must_use]
    pub fn unsteered(gpus: u32, vram: Vram) -> Self {
        Self::single(gpus, vram, None)
    }

    fn single(gpus: u32, vram: Vram, steered_by: Option<Arc<str>>) -> Self {
        let share = Share {
            container: Arc::from("main"),
            resource: Arc::from("nvidia.com/gpu"),
            gpus,
            vram,
            steered_by,
        };
        Self { shares: vec![share], early: Vec::new() }
    }

    /// Every container's share, init containers last.
    pub fn all_shares(&self) -> impl Iterator<Item = &Share> {
        self.shares.iter().chain(&self.early)
    }

    /// The most that one container needs on one GPU; `None` when that is a whole GPU.
    #[must_use]
    pub fn most_per_gpu(&self) -> Option<Bytes> {
        self.all_shares()
            .map(|share| share.vram.bytes())
            .try_fold(Bytes::ZERO, |most, bytes| Some(most.max(bytes?)))
    }

    /// What the pod needs on one GPU where all of its containers came to lie there; `None` when
    /// that is a whole GPU.
    #[must_use]
    pub fn sum_per_gpu(&self) -> Option<Bytes> {
        let bytes = |share: &Share| share.vram.bytes();
        let side_by_side =
            self.shares.iter().try_fold(Bytes::ZERO, |sum, share| Some(sum + bytes(share)?))?;
        self.early.iter().try_fold(side_by_side, |most, share| Some(most.max(bytes(share)?)))
    }

    /// What the containers need together at a time, over all their GPUs, where it is known.
    #[must_use]
    pub fn total(&self) -> Bytes {
        let bytes = |share: &Share| {
            let each = share.vram.bytes().unwrap_or(Bytes::ZERO).get();
            Bytes::new(each.saturating_mul(u64::from(share.gpus)))
        };
        let side_by_side = self.shares.iter().map(bytes).sum::<Bytes>();
        self.early.iter().map(bytes).fold(side_by_side, Bytes::max)
    }

    /// The most GPUs that one container has: as many distinct ones, where they are not replicas.
    #[must_use]
    pub fn most_gpus(&self) -> u32 {
        self.all_shares().map(|share| share.gpus).max().unwrap_or(0)
    }

    /// How many devices the containers hold at the same time.
    #[must_use]
    pub fn devices(&self) -> u32 {
        let side_by_side: u32 = self.shares.iter().map(|share| share.gpus).sum();
        let alone = self.early.iter().map(|share| share.gpus).max().unwrap_or(0);
        side_by_side.max(alone)
    }

    /// The same of one extended resource.
    #[must_use]
    pub fn devices_of(&self, resource: &str) -> u32 {
        let devices = |share: &Share| if *share.resource == *resource { share.gpus } else { 0 };
        let side_by_side: u32 = self.shares.iter().map(devices).sum();
        let alone = self.early.iter().map(devices).max().unwrap_or(0);
        side_by_side.max(alone)
    }

    /// Whether every container takes the GPU that filmgate chooses.
    #[must_use]
    pub fn is_steered(&self) -> bool {
        self.all_shares().all(|share| share.steered_by.is_some())
    }
}

impl Vram {
    /// The bytes, where they are known.
    #[must_use]
    pub const fn bytes(self) -> Option<Bytes> {
        match self {
            Self::Declared(bytes) | Self::Default(bytes) => Some(bytes),
            Self::Exclusive => None,
        }
    }

    /// What both need where they lie on one GPU.
    fn beside(self, other: Self) -> Self {
        let both = |bytes: Bytes| other.bytes().map(|others| bytes + others);
        match self {
            Self::Declared(bytes) => both(bytes).map_or(Self::Exclusive, Self::Declared),
            Self::Default(bytes) => both(bytes).map_or(Self::Exclusive, Self::Default),
            Self::Exclusive => Self::Exclusive,
        }
    }

    /// Where the figure comes from, for people.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::Declared(_) => "declared",
            Self::Default(_) => "default",
            Self::Exclusive => "exclusive",
        }
    }
}

#[cfg(test)]
mod tests;
