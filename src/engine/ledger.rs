//! The ledger: which pod has, or is promised, which bytes of which GPU.
//!
//! It is fed with nodes, pods and readings, and owns every claim. **Safety lives in
//! [`Ledger::admit`] alone**, the only way to a Binding: it admits nothing that would raise
//! `foreign + Σ max(charge, measured)` of a GPU above `total − reserved − headroom`. Holds,
//! scores and wakes are advice and may vanish at any moment.

mod admission;
mod directory;
mod events;
mod idle;
mod judging;
mod line;
mod node;
mod notices;
mod preemption;
mod starvation;
mod victims;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::accounting::Asker;
use super::claim::{Claim, ClaimState};
use super::digest::{Digest, Resources};
use super::score::Weights;
use super::waiting::WaitingLine;
use super::{Bytes, NodeName, PodFacts, PodRef, PodUid, Time};

use directory::Directory;
use notices::Notices;
use starvation::Reservation;

pub use admission::{Admission, AdmitError, HoldOutcome};
pub use events::{Arrival, NodeFacts};
pub use idle::IdleMark;
pub use judging::Refusals;
pub use line::{WaitingPod, Wake};
pub(super) use node::Node;
pub use notices::OverCharge;
pub use preemption::{Candidate, Spares, Victim};

/// The rules by which the ledger decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Bytes per GPU that nobody is promised: contexts and small growth.
    pub headroom: Bytes,
    /// A reading older than this is not trusted.
    pub stale_after: Duration,
    /// What then.
    pub stale_policy: StalePolicy,
    /// How long a hold lives.
    pub hold_ttl: Duration,
    /// How long a nominated claim outlives the last of its victims.
    pub nomination_ttl: Duration,
    /// How long a balloon may stay on a node that could be used, before it is asked to leave.
    pub balloon_patience: Duration,
    /// How long a pod waits before what becomes free on one GPU is kept for it.
    pub starvation_after: Duration,
    /// How long the hold of a woken pod lives: it is tried within its backoff, or not at all.
    pub wake_ttl: Duration,
    /// Whether holds are placed at all. Without them binds conflict more often; nothing else.
    pub holds: bool,
    /// The least time for which a force-deleted pod stays charged.
    pub force_delete_grace: Duration,
    /// Where memory is not attributable: how long a gone pod stays charged.
    pub unattributed_grace: Duration,
    /// A pod of unknown need takes a GPU with at most this much foreign memory.
    pub exclusive_foreign: Bytes,
    /// Outside PyTorch's allocator, so outside `vram-fraction`: one CUDA context.
    pub cuda_context: Bytes,
    /// How the device plugin chooses among shared GPUs.
    pub plugin_allocation: PluginAllocation,
    /// Weights of the score's terms.
    pub weights: Weights,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            headroom: Bytes::mib(512),
            stale_after: Duration::from_secs(10),
            stale_policy: StalePolicy::Declared,
            hold_ttl: Duration::from_secs(30),
            nomination_ttl: Duration::from_secs(60),
            // Its autoscaler looks every 15 s, and waits for as long again before it lets go.
            balloon_patience: Duration::from_secs(40),
            starvation_after: Duration::from_secs(120),
            wake_ttl: Duration::from_secs(5),
            holds: true,
            force_delete_grace: Duration::from_secs(30),
            unattributed_grace: Duration::from_secs(30),
            exclusive_foreign: Bytes::gib(1),
            cuda_context: Bytes::mib(512),
            plugin_allocation: PluginAllocation::Distributed,
            weights: Weights::default(),
        }
    }
}

/// What a reading older than `staleAfter` is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StalePolicy {
    /// Charges, and the last known foreign memory and measurements, still count.
    Declared,
    /// Nothing: the node takes no pods.
    Reject,
}

/// How NVIDIA's device plugin chooses among shared GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PluginAllocation {
    /// The GPU with the fewest replicas in use: its only rule up to v0.19.
    Distributed,
    /// The GPU with the most: an option since v0.20.
    Packed,
}

/// Position of a node in the ledger; positions are never used again for another name.
pub(super) type NodeIndex = usize;

/// UIDs of deleted pods that are remembered, so that a late word of one does not bring it back.
const REMEMBERED_DELETIONS: usize = 8192;

/// Which pod has which bytes. See the module's head.
#[derive(Debug)]
pub struct Ledger {
    policy: Policy,
    directory: Directory,
    nodes: Vec<Node>,
    /// What each node says to the usual ask. Apart from the nodes, so that thousands of them lie
    /// close together.
    digests: Vec<Digest>,
    resources: Resources,
    /// Nodes that time or a sampling that is asked for may change: few of many.
    restless: BTreeSet<NodeIndex>,
    /// Where each pod's one claim lies.
    claim_at: HashMap<PodUid, NodeIndex>,
    /// Every pod with a GPU request that exists.
    pods: HashMap<PodUid, Arc<PodFacts>>,
    deleted: Deletions,
    waiting: WaitingLine,
    /// Nodes where a newcomer may find more than before.
    freed: BTreeSet<NodeIndex>,
    expired_holds: u64,
    reservation: Reservation,
    /// What people should know, until somebody asks.
    notices: Notices,
}

#[derive(Debug, Default)]
struct Deletions {
    known: HashSet<PodUid>,
    order: VecDeque<PodUid>,
}

impl Deletions {
    fn remember(&mut self, pod: PodUid) {
        if self.known.insert(pod.clone()) {
            self.order.push_back(pod);
        }
        if self.order.len() > REMEMBERED_DELETIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            directory: Directory::default(),
            nodes: Vec::new(),
            digests: Vec::new(),
            resources: Resources::default(),
            restless: BTreeSet::new(),
            claim_at: HashMap::new(),
            pods: HashMap::new(),
            deleted: Deletions::default(),
            waiting: WaitingLine::default(),
            freed: BTreeSet::new(),
            expired_holds: 0,
            reservation: Reservation::default(),
            notices: Notices::default(),
        }
    }

    /// The rules.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is known of a pod with a GPU request.
    #[must_use]
    pub fn pod(&self, uid: &PodUid) -> Option<&PodFacts> {
        self.pods.get(uid).map(|facts| &**facts)
    }

    /// Every pod with a GPU request.
    pub fn pods(&self) -> impl Iterator<Item = &PodFacts> {
        self.pods.values().map(|facts| &**facts)
    }

    /// The same, to be kept.
    pub(super) fn shared_pods(&self) -> impl Iterator<Item = &Arc<PodFacts>> {
        self.pods.values()
    }

    /// The pod's claim and its node.
    #[must_use]
    pub fn claim(&self, uid: &PodUid) -> Option<(&NodeName, &Claim)> {
        let node = &self.nodes[*self.claim_at.get(uid)?];
        let claim = node.claims.iter().find(|claim| claim.pod.uid == *uid)?;
        Some((&node.name, claim))
    }

    /// Every claim with its node.
    pub fn claims(&self) -> impl Iterator<Item = (&NodeName, &Claim)> {
        self.nodes.iter().flat_map(|node| node.claims.iter().map(|claim| (&node.name, claim)))
    }

    /// Names of all nodes that exist.
    pub fn node_names(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter().filter(|node| node.uid.is_some()).map(|node| &node.name)
    }

    /// Names of the nodes that exist and of which an agent has told something.
    pub fn gpu_nodes(&self) -> impl Iterator<Item = &NodeName> {
        let is_told = |node: &&Node| node.reading.is_some() || node.impossible.is_some();
        let known = self.nodes.iter().filter(|node| node.uid.is_some());
        known.filter(is_told).map(|node| &node.name)
    }

    /// Holds that ended unused since the start.
    #[must_use]
    pub fn expired_holds(&self) -> u64 {
        self.expired_holds
    }

    /// Pods whose Binding has an unknown outcome.
    pub fn in_doubt(&self) -> impl Iterator<Item = &PodRef> {
        self.claims()
            .filter(|(_, claim)| claim.state == ClaimState::Binding { in_doubt: true })
            .map(|(_, claim)| &claim.pod)
    }

    /// How the pod looks at nodes. One that is not known yet respects every nomination.
    pub(super) fn eyes_of<'a>(&self, pod: &'a PodUid) -> Asker<'a> {
        let priority = self.pods.get(pod).map_or(i32::MIN, |facts| facts.priority);
        Asker { pod: Some(pod), priority, ..Asker::anyone() }
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn node_index(&self, name: &str) -> Option<NodeIndex> {
        self.directory.find(name)
    }

    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        Some(&self.nodes[self.node_index(name)?])
    }

    /// The node's position, made on first mention.
    fn intern(&mut self, name: &NodeName) -> NodeIndex {
        let (index, is_new) = self.directory.intern(name.as_str());
        if is_new {
            let node = Node::new(name.clone());
            self.digests.push(Digest::of(&node, &self.policy, &mut self.resources));
            self.nodes.push(node);
        }
        index
    }

    /// Takes the pod's claim out of the ledger.
    fn remove_claim(&mut self, uid: &PodUid, now: Time) -> Option<(NodeIndex, Claim)> {
        let index = self.claim_at.remove(uid)?;
        let node = &mut self.nodes[index];
        let position = node.claims.iter().position(|claim| claim.pod.uid == *uid)?;
        let claim = node.claims.swap_remove(position);
        self.refresh(index, now);
        Some((index, claim))
    }

    /// Puts a claim in; the pod must have none.
    fn insert_claim(&mut self, index: NodeIndex, claim: Claim, now: Time) {
        debug_assert!(!self.claim_at.contains_key(&claim.pod.uid), "a pod has one claim");
        self.claim_at.insert(claim.pod.uid.clone(), index);
        self.nodes[index].claims.push(claim);
        self.refresh(index, now);
    }

    fn claim_mut(&mut self, uid: &PodUid) -> Option<(NodeIndex, &mut Claim)> {
        let index = *self.claim_at.get(uid)?;
        let claim = self.nodes[index].claims.iter_mut().find(|claim| claim.pod.uid == *uid)?;
        Some((index, claim))
    }

    /// Computes the node's view again and notes whether newcomers may find more.
    fn refresh(&mut self, index: NodeIndex, now: Time) {
        if self.nodes[index].refresh(&self.policy, now) {
            self.freed.insert(index);
        }
        self.note_change(index);
    }

    /// Brings what is kept beside the nodes up to date; due whenever one of them has changed.
    fn note_change(&mut self, index: NodeIndex) {
        let node = &self.nodes[index];
        self.digests[index] = Digest::of(node, &self.policy, &mut self.resources);
        if node.is_restless() {
            self.restless.insert(index);
        } else {
            self.restless.remove(&index);
        }
    }
}
