//! What is copied from the ledger: under its lock, so no more than must be.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::room::{Room, Sharing};
use crate::engine::accounting::{Asker, NodeView};
use crate::engine::comfyui::Queue;
use crate::engine::ledger::Policy;
use crate::engine::{Attribution, Bytes, Ledger, NodeName, PodFacts, PodUid, Reading, Time};

/// The ledger at one moment.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The rules.
    pub policy: Policy,
    /// Every node that exists and was read, in the ledger's order.
    pub nodes: Vec<Surveyed>,
    /// Every pod with a GPU.
    pub pods: Vec<Arc<PodFacts>>,
    /// Where pods that are not bound have a claim.
    pub(super) claimed: HashMap<PodUid, Claimed>,
    /// Whose pods count as pending.
    pub(super) scheduler: Arc<str>,
    /// What the pods' ComfyUIs have to do, as far as it is known.
    pub(super) queues: HashMap<PodUid, Queue>,
}

/// A node at that moment.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// Its name.
    pub name: NodeName,
    /// Its GPUs as a newcomer finds them.
    pub view: Arc<NodeView>,
    pub(super) reading: Arc<Reading>,
    pub(super) is_mps: bool,
    /// Its figures may be used.
    pub(super) is_usable: bool,
    pub(super) idle_for: Duration,
    /// Its GPUs without the balloons that are on it, where there are some.
    without_balloons: Option<NodeView>,
}

/// The claim of a pod that is not bound.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    node: NodeName,
    /// It may vanish: the pod is not being bound.
    pub(super) is_advice: bool,
    /// What becomes free there is kept for the pod; it does not fit yet.
    pub(super) is_reserved: bool,
}

impl Ledger {
    /// Copies what the outlook is computed from. `scheduler`: whose pods count as pending.
    #[must_use]
    pub fn survey(&self, scheduler: &Arc<str>, now: Time) -> Survey {
        let pods: Vec<_> = self.shared_pods().cloned().collect();
        let unbound = pods.iter().filter(|facts| facts.node.is_none());
        let claimed = unbound.filter_map(|facts| {
            let (node, claim) = self.claim(&facts.id.uid)?;
            let (is_advice, is_reserved) = (claim.is_advice(), claim.is_reserved());
            let claimed = Claimed { node: node.clone(), is_advice, is_reserved };
            Some((facts.id.uid.clone(), claimed))
        });
        Survey {
            policy: self.policy().clone(),
            nodes: self.surveyed(&balloons(&pods), now).collect(),
            claimed: claimed.collect(),
            scheduler: scheduler.clone(),
            queues: HashMap::new(),
            pods,
        }
    }

    fn surveyed(
        &self,
        balloons: &HashMap<NodeName, Vec<PodUid>>,
        now: Time,
    ) -> impl Iterator<Item = Surveyed> {
        let policy = self.policy();
        let nodes = self.nodes().iter().filter(|node| node.uid.is_some());
        nodes.filter_map(move |node| {
            let asker = balloons.get(&node.name).map(|gone| Asker::anyone().without(gone));
            Some(Surveyed {
                without_balloons: asker.map(|one| node.view_for(one, policy, now).into_owned()),
                name: node.name.clone(),
                view: node.view.clone(),
                reading: node.reading.clone()?,
                is_mps: node.is_mps,
                is_usable: node.check_usable(policy, now).is_ok(),
                idle_for: node.idle_for(policy, now),
            })
        })
    }
}

/// Balloons by the node that they are on.
fn balloons(pods: &[Arc<PodFacts>]) -> HashMap<NodeName, Vec<PodUid>> {
    let mut balloons: HashMap<_, Vec<_>> = HashMap::new();
    for facts in pods.iter().filter(|facts| facts.is_balloon()) {
        if let Some(node) = &facts.node {
            balloons.entry(node.clone()).or_default().push(facts.id.uid.clone());
        }
    }
    balloons
}

impl Survey {
    /// The same where the prompts of these pods are known.
    #[must_use]
    pub fn with_queues(self, queues: HashMap<PodUid, Queue>) -> Self {
        Self { queues, ..self }
    }

    /// Pods that run, or are to.
    pub(crate) fn living(&self) -> impl Iterator<Item = &PodFacts> {
        self.pods.iter().map(|facts| &**facts).filter(|facts| !facts.has_ended)
    }

    /// Pods of this scheduler that are to run, and are neither bound nor being bound.
    pub(super) fn pending(&self) -> impl Iterator<Item = &PodFacts> {
        self.living().filter(|facts| {
            let claim = self.claimed.get(&facts.id.uid);
            facts.node.is_none()
                && !facts.is_gated
                && facts.scheduler == self.scheduler
                && claim.is_none_or(|claim| claim.is_advice)
        })
    }

    pub(super) fn idle(&self) -> Vec<(NodeName, Duration)> {
        let with_gpus = self.nodes.iter().filter(|node| !node.view.gpus.is_empty());
        with_gpus.map(|node| (node.name.clone(), node.idle_for)).collect()
    }

    /// The node that the pod is on, or has a claim on.
    fn place(&self, facts: &PodFacts) -> Option<NodeName> {
        let claimed = || self.claimed.get(&facts.id.uid).map(|claim| claim.node.clone());
        facts.node.clone().or_else(claimed)
    }
}

/// The nodes' rooms.
#[derive(Debug)]
pub(super) struct Fleet {
    /// What usable nodes have to give now, in the ledger's order: balloons leave for whoever
    /// needs the place.
    pub(super) rooms: Vec<Room>,
    /// Positions of those that balloons hold.
    pub(super) ballooned: Vec<usize>,
    /// What each kind of node would have to give if it were empty, the most common kind first.
    pub(super) kinds: Vec<Room>,
}

impl Fleet {
    pub(super) fn of(survey: &Survey) -> Self {
        let usable = survey.nodes.iter().filter(|node| node.is_usable);
        let (mut rooms, mut ballooned) = (Vec::new(), Vec::new());
        let mut positions = HashMap::new();
        for node in usable {
            positions.insert(&node.name, rooms.len());
            ballooned.extend(node.without_balloons.is_some().then_some(rooms.len()));
            let view = node.without_balloons.as_ref().unwrap_or(&node.view);
            rooms.push(Room::of(&view.gpus, node.sharing(&survey.policy)));
        }
        for facts in survey.living().filter(|facts| !facts.is_balloon()) {
            let place = survey.place(facts).and_then(|node| positions.get(&node).copied());
            if let (Some(at), Ok(ask)) = (place, &facts.ask) {
                rooms[at].give_devices(ask);
            }
        }
        Self { rooms, ballooned, kinds: kinds(survey) }
    }
}

impl Surveyed {
    fn sharing<'a>(&self, policy: &'a Policy) -> Sharing<'a> {
        let is_degraded = self.reading.attribution != Attribution::Full;
        Sharing { policy, is_mps: self.is_mps, is_degraded }
    }

    /// What the empty node is, for all that pods can tell.
    fn kind(&self) -> Kind {
        let gpus = self.view.gpus.iter();
        let gpus = gpus.map(|gpu| (gpu.resource.clone(), gpu.replicas, gpu.total, gpu.reserved));
        let is_degraded = self.reading.attribution != Attribution::Full;
        Kind { gpus: gpus.collect(), is_mps: self.is_mps, is_degraded }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    gpus: Vec<(Arc<str>, u32, Bytes, Bytes)>,
    is_mps: bool,
    is_degraded: bool,
}

fn kinds(survey: &Survey) -> Vec<Room> {
    let mut kinds: BTreeMap<Kind, (usize, &Surveyed)> = BTreeMap::new();
    for node in survey.nodes.iter().filter(|node| !node.view.gpus.is_empty()) {
        kinds.entry(node.kind()).or_insert((0, node)).0 += 1;
    }
    let mut kinds: Vec<_> = kinds.into_values().collect();
    kinds.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let emptied = |(_, node): (usize, &Surveyed)| {
        Room::emptied(&node.view.gpus, node.sharing(&survey.policy))
    };
    kinds.into_iter().map(emptied).collect()
}
