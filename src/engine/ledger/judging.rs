//! What filter and prioritize ask: thousands of nodes in a row, for one pod.

use super::{Ledger, NodeIndex};
use crate::engine::accounting::Asker as Eyes;
use crate::engine::digest::UsualAsk;
use crate::engine::request::GpuAsk;
use crate::engine::{PodUid, Reason, Time};

/// What each of the named nodes says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals {
    /// For each name in order: why it is refused, or `None`.
    pub reasons: Vec<Option<Reason>>,
    /// A name may be there more than once.
    pub may_repeat: bool,
}

/// A pod that is about to be judged at many nodes.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    eyes: Eyes<'a>,
    ask: &'a GpuAsk,
    usual: Option<UsualAsk>,
    /// The node that it has a claim on.
    own: Option<NodeIndex>,
    now: Time,
}

impl Ledger {
    /// Judges the pod on each named node: its score there, or why it does not fit.
    pub fn judge<'n>(
        &self,
        pod: &PodUid,
        ask: &GpuAsk,
        nodes: impl IntoIterator<Item = &'n str>,
        now: Time,
    ) -> Vec<Result<f64, Reason>> {
        let asker = self.asker(pod, ask, now);
        let mut lookups = self.directory.lookups();
        let judge = |name: &str| {
            let index = lookups.next(name).ok_or(Reason::UnknownNode)?;
            self.score_at(index, asker)
        };
        nodes.into_iter().map(judge).collect()
    }

    /// Why each named node refuses the pod; as [`Ledger::judge`], without a score.
    pub fn refusals<'n>(
        &self,
        pod: &PodUid,
        ask: &GpuAsk,
        nodes: impl IntoIterator<Item = &'n str>,
        now: Time,
    ) -> Refusals {
        let asker = self.asker(pod, ask, now);
        let mut seen = Seen { known: vec![0; self.nodes().len() / 64 + 1], unknown: 0 };
        let mut may_repeat = false;
        let mut lookups = self.directory.lookups();
        let refusal = |name: &str| {
            let index = lookups.next(name);
            may_repeat |= seen.again(index);
            match index {
                Some(index) => self.fits_at(index, asker).err(),
                None => Some(Reason::UnknownNode),
            }
        };
        let reasons = nodes.into_iter().map(refusal).collect();
        Refusals { reasons, may_repeat }
    }

    /// The pod as it is now: what it holds is its own.
    pub(super) fn asker<'a>(&self, pod: &'a PodUid, ask: &'a GpuAsk, now: Time) -> Asker<'a> {
        let usual = UsualAsk::of(ask, &self.resources);
        Asker { eyes: self.eyes_of(pod), ask, usual, own: self.claim_at.get(pod).copied(), now }
    }

    /// Whether the pod fits there.
    pub(super) fn fits_at(&self, index: NodeIndex, asker: Asker<'_>) -> Result<(), Reason> {
        match self.by_digest(index, asker) {
            Some((answer, _)) => answer,
            None => self.score_by_placement(index, asker).map(|_| ()),
        }
    }

    fn score_at(&self, index: NodeIndex, asker: Asker<'_>) -> Result<f64, Reason> {
        match self.by_digest(index, asker) {
            Some((answer, usual)) => {
                answer.map(|()| self.digests[index].score(usual, self.policy(), asker.now))
            }
            None => self.score_by_placement(index, asker),
        }
    }

    /// What the digest says; it knows nothing of the pod's own claim.
    fn by_digest(
        &self,
        index: NodeIndex,
        asker: Asker<'_>,
    ) -> Option<(Result<(), Reason>, UsualAsk)> {
        let usual = asker.usual.filter(|_| asker.own != Some(index))?;
        Some((self.digests[index].fits(usual, asker.now)?, usual))
    }

    fn score_by_placement(&self, index: NodeIndex, asker: Asker<'_>) -> Result<f64, Reason> {
        let placed = self.nodes()[index].place(asker.eyes, asker.ask, self.policy(), asker.now);
        placed.map(|placement| placement.score)
    }
}

/// Which nodes were named before.
struct Seen {
    known: Vec<u64>,
    unknown: usize,
}

impl Seen {
    /// Notes the node; whether it may have been named before. Unknown ones are not told apart.
    fn again(&mut self, index: Option<NodeIndex>) -> bool {
        let Some(index) = index else {
            self.unknown += 1;
            return self.unknown > 1;
        };
        let (word, bit) = (index / 64, 1 << (index % 64));
        let is_again = self.known[word] & bit != 0;
        self.known[word] |= bit;
        is_again
    }
}
