//! Workloads: pods of one namespace that have one owner.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::room::Room;
use super::slots;
use super::survey::Survey;
use crate::engine::{Bytes, PodFacts, PodUid};

/// Workloads that are told of: those with the most pods.
pub(super) const MOST_WORKLOADS: usize = 50;

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadOutlook {
    /// Its pods' namespace.
    pub namespace: Arc<str>,
    /// Its name: [`PodFacts::workload`].
    pub name: Arc<str>,
    /// Its pods that run or are to run.
    pub pods: usize,
    /// How many more pods that ask what its youngest does fit now; `None` where that pod's
    /// annotations cannot be read.
    pub slots: Option<u64>,
    /// What its pods hold on a GPU; `None` where no process of theirs is seen.
    pub footprint: Option<Footprint>,
}

/// The most that a workload's running pods held on one GPU within the peak window: of each pod the
/// GPU on which it held most; of the pods the quantiles, by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Half of the pods held no more.
    pub median: Bytes,
    /// 95 % of the pods held no more.
    pub p95: Bytes,
    /// No pod held more.
    pub most: Bytes,
}

/// The workloads with the most pods, those first.
pub(super) fn of(survey: &Survey, rooms: &[Room]) -> Vec<WorkloadOutlook> {
    let mut workloads: BTreeMap<(&Arc<str>, &Arc<str>), Vec<&PodFacts>> = BTreeMap::new();
    for facts in survey.living() {
        workloads.entry((&facts.id.namespace, &facts.workload)).or_default().push(facts);
    }
    let mut workloads: Vec<_> = workloads.into_iter().collect();
    workloads.sort_by_key(|(_, pods)| Reverse(pods.len()));
    workloads.truncate(MOST_WORKLOADS);
    let peaks = peaks(survey);
    let told = workloads.into_iter().map(|((namespace, name), pods)| WorkloadOutlook {
        namespace: namespace.clone(),
        name: name.clone(),
        pods: pods.len(),
        slots: youngest(&pods).map(|ask| slots::of_ask(rooms, ask)),
        footprint: Footprint::of(&pods, &peaks),
    });
    told.collect()
}

fn youngest<'a>(pods: &[&'a PodFacts]) -> Option<&'a crate::engine::GpuAsk> {
    let youngest = pods.iter().max_by_key(|facts| (facts.created_at, &facts.id.name))?;
    youngest.ask.as_ref().ok()
}

/// Of each pod that is measured somewhere, the most that it held on one GPU.
fn peaks(survey: &Survey) -> HashMap<&PodUid, Bytes> {
    let mut peaks: HashMap<&PodUid, Bytes> = HashMap::new();
    let gpus = survey.nodes.iter().flat_map(|node| &node.reading.gpus);
    for memory in gpus.flat_map(|gpu| &gpu.pods) {
        let peak = peaks.entry(&memory.uid).or_default();
        *peak = (*peak).max(memory.peak).max(memory.used);
    }
    peaks
}

impl Footprint {
    fn of(pods: &[&PodFacts], peaks: &HashMap<&PodUid, Bytes>) -> Option<Self> {
        let peak = |facts: &&PodFacts| peaks.get(&facts.id.uid).copied();
        let held = pods.iter().filter_map(peak).filter(|bytes| *bytes > Bytes::ZERO);
        let mut held: Vec<Bytes> = held.collect();
        held.sort_unstable();
        let rank = |percent: usize| held.get((held.len() * percent).div_ceil(100).max(1) - 1);
        Some(Self { median: *rank(50)?, p95: *rank(95)?, most: *held.last()? })
    }
}
