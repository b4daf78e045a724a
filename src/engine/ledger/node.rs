//! One node in the ledger: its last reading, its claims, and the view made of both.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{Policy, StalePolicy};
use crate::engine::accounting::{self, Asker, GpuState, NodeView};
use crate::engine::claim::{Claim, ClaimState};
use crate::engine::placement::{self, Placement, Terrain};
use crate::engine::reading::ImpossibleReading;
use crate::engine::request::GpuAsk;
use crate::engine::{AgentRun, Bytes, GpuReading, NodeName, NodeUid, Reading, Reason, Time, score};

/// A node.
#[derive(Debug)]
pub(in crate::engine) struct Node {
    pub(in crate::engine) name: NodeName,
    /// `None` while no such node exists in the cluster.
    pub(in crate::engine) uid: Option<NodeUid>,
    /// It was in the cluster, and is not.
    is_gone: bool,
    pub(in crate::engine) is_mps: bool,
    /// It says of itself that nobody uses it.
    pub(super) is_marked_idle: bool,
    pub(in crate::engine) reading: Option<Arc<Reading>>,
    pub(in crate::engine) read_at: Time,
    /// Since when there is one without a break.
    pub(super) readable_since: Time,
    /// The agent's run and its newest sampling, heartbeats and impossible readings included.
    newest: Option<(AgentRun, u64)>,
    /// What a sampling that began later shows is news, whichever run it is of.
    known_at: Time,
    /// Only such a sampling is taken.
    needs_proof: bool,
    /// A reading came that may be news and may be old: a sampling on demand will tell.
    pub(super) is_disputed: bool,
    /// Why the newest reading was not taken.
    pub(in crate::engine) impossible: Option<ImpossibleReading>,
    pub(in crate::engine) claims: Vec<Claim>,
    pub(in crate::engine) view: Arc<NodeView>,
    /// Since when nobody has, or is promised, anything of its GPUs, as far as they were read.
    idle_since: Option<Time>,
}

impl Node {
    pub(super) fn new(name: NodeName) -> Self {
        Self {
            name,
            uid: None,
            is_gone: false,
            is_mps: false,
            is_marked_idle: false,
            reading: None,
            read_at: Time::ZERO,
            readable_since: Time::ZERO,
            newest: None,
            known_at: Time::ZERO,
            needs_proof: false,
            is_disputed: false,
            impossible: None,
            claims: Vec::new(),
            view: Arc::default(),
            idle_since: None,
        }
    }

    /// Such a node existed and does not any more.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// A node with this name and UID exists; whether it is another than the last, or was gone.
    pub(super) fn appear(&mut self, uid: NodeUid, now: Time) -> bool {
        let was_gone = std::mem::take(&mut self.is_gone);
        let before = self.uid.replace(uid);
        let is_another = was_gone || (before.is_some() && before != self.uid);
        if is_another {
            self.forget_reading();
            self.demand_proof(now);
        }
        is_another
    }

    /// The node is no longer in the cluster.
    pub(super) fn disappear(&mut self) {
        self.is_gone |= self.uid.take().is_some();
        self.forget_reading();
    }

    /// From now on only a sampling that began after that moment is taken.
    pub(super) fn demand_proof(&mut self, began_after: Time) {
        self.needs_proof = true;
        self.known_at = self.known_at.max(began_after);
    }

    /// What was read says nothing any more: only a sampling that begins from now on is taken, and
    /// is asked for where there was one before.
    pub(super) fn distrust_reading(&mut self, now: Time) {
        self.is_disputed |= self.reading.is_some() || self.impossible.is_some();
        self.forget_reading();
        self.demand_proof(now);
    }

    /// Age of the last reading.
    pub(in crate::engine) fn age(&self, now: Time) -> Duration {
        now.since(self.read_at)
    }

    /// Whether the node's figures may be used.
    pub(in crate::engine) fn check_usable(&self, policy: &Policy, now: Time) -> Result<(), Reason> {
        if self.uid.is_none() {
            Err(Reason::UnknownNode)
        } else if self.impossible.is_some() {
            Err(Reason::ImpossibleReading)
        } else if self.reading.is_none() {
            Err(Reason::NeverRead)
        } else if policy.stale_policy == StalePolicy::Reject && self.age(now) > policy.stale_after {
            Err(Reason::StaleReading)
        } else {
            Ok(())
        }
    }

    /// No hold in the kept view has ended.
    pub(super) fn is_view_current(&self, now: Time) -> bool {
        self.view.valid_until.is_none_or(|until| now < until)
    }

    /// The asker's view. The kept one, which is anyone's, serves unless a claim here does not
    /// count for the asker, or a hold has ended.
    pub(in crate::engine) fn view_for(
        &self,
        asker: Asker<'_>,
        policy: &Policy,
        now: Time,
    ) -> Cow<'_, NodeView> {
        let is_special =
            !asker.gone.is_empty() || self.claims.iter().any(|claim| asker.overlooks(claim));
        match &self.reading {
            Some(reading) if is_special || !self.is_view_current(now) => {
                Cow::Owned(accounting::view(reading, &self.claims, policy, now, asker))
            }
            _ => Cow::Borrowed(&self.view),
        }
    }

    /// What the node's GPUs are judged by.
    pub(in crate::engine) fn terrain<'a>(&self, policy: &'a Policy, now: Time) -> Terrain<'a> {
        let freshness = score::freshness(self.age(now), policy.stale_after);
        Terrain { policy, is_mps: self.is_mps, freshness }
    }

    /// Where the pod would go here.
    pub(in crate::engine) fn place(
        &self,
        asker: Asker<'_>,
        ask: &GpuAsk,
        policy: &Policy,
        now: Time,
    ) -> Result<Placement, Reason> {
        self.check_usable(policy, now)?;
        placement::place(&self.view_for(asker, policy, now), ask, self.terrain(policy, now))
    }

    /// Whether the reading is newer than all that came before. Within a run its number tells; of
    /// another run, only that its sampling began after our question. Without that it may be a late
    /// word of an agent that has ended, or of the machine that had this name before.
    pub(super) fn is_news(&mut self, reading: &Reading, began_after: Option<Time>) -> bool {
        let is_proven = began_after.is_some_and(|began_after| began_after >= self.known_at);
        let is_news = match &self.newest {
            _ if self.needs_proof => is_proven,
            Some((run, newest)) if *run == reading.agent => return reading.sampling > *newest,
            Some(_) => is_proven,
            None => true,
        };
        self.is_disputed |= !is_news;
        is_news
    }

    /// What we have was sampled no earlier than this reading, in the same run.
    pub(super) fn has_shown(&self, reading: &Reading) -> bool {
        let newest = self.newest.as_ref().filter(|(run, _)| *run == reading.agent);
        let is_shown = newest.is_some_and(|(_, newest)| reading.sampling <= *newest);
        is_shown && self.reading.is_some() && self.impossible.is_none()
    }

    /// Takes a newer reading.
    pub(super) fn take_reading(&mut self, reading: Arc<Reading>, read_at: Time) {
        self.note_newest(&reading, read_at);
        if self.reading.is_none() {
            self.readable_since = read_at;
        }
        self.read_at = self.read_at.max(read_at);
        self.reading = Some(reading);
        self.impossible = None;
    }

    /// Notes that a newer reading cannot be true: the node is refused until a better one comes.
    pub(super) fn refuse_reading(
        &mut self,
        reading: &Reading,
        read_at: Time,
        why: ImpossibleReading,
    ) {
        self.note_newest(reading, read_at);
        self.impossible = Some(why);
    }

    fn note_newest(&mut self, reading: &Reading, read_at: Time) {
        self.newest = Some((reading.agent.clone(), reading.sampling));
        self.known_at = self.known_at.max(read_at);
        self.needs_proof = false;
        self.is_disputed = false;
    }

    /// The reading's run sampled again and nothing had moved; whether that was news. After a
    /// reading that was not taken, "nothing" means that one.
    pub(super) fn take_heartbeat(&mut self, run: &AgentRun, sampling: u64, read_at: Time) -> bool {
        let Some((_, newest)) = self.newest.as_mut().filter(|(newest, _)| newest == run) else {
            return false;
        };
        let is_news = sampling > *newest && !self.needs_proof;
        if is_news {
            *newest = sampling;
            self.known_at = self.known_at.max(read_at);
        }
        let is_usable = is_news && self.reading.is_some() && self.impossible.is_none();
        if is_usable {
            self.read_at = self.read_at.max(read_at);
        }
        is_usable
    }

    /// Forgets all telemetry: the machine behind the name is another one.
    fn forget_reading(&mut self) {
        self.reading = None;
        self.impossible = None;
        self.needs_proof = true;
        self.view = Arc::default();
        self.idle_since = None;
    }

    /// Time, or a sampling that is asked for, may change something here.
    pub(super) fn is_restless(&self) -> bool {
        let is_placing =
            |claim: &Claim| self.reading.as_ref().is_some_and(|reading| claim.is_placing(reading));
        let is_restless = |claim: &Claim| match claim.state {
            ClaimState::Held { .. } | ClaimState::Leaving { .. } => true,
            ClaimState::Nominated => true,
            ClaimState::Bound { .. } => is_placing(claim),
            ClaimState::Reserved { .. } | ClaimState::Binding { .. } => false,
        };
        self.is_disputed || self.claims.iter().any(is_restless)
    }

    /// Ends advice that is over, and hands it out.
    pub(super) fn expire_advice(&mut self, now: Time) -> Vec<Claim> {
        self.claims.extract_if(.., |claim| claim.is_over(now)).collect()
    }

    /// Computes the view again; whether a newcomer may find more than before.
    pub(super) fn refresh(&mut self, policy: &Policy, now: Time) -> bool {
        let Some(reading) = &self.reading else { return false };
        let view = accounting::view(reading, &self.claims, policy, now, Asker::anyone());
        self.idle_since = self.is_idle(reading, policy).then(|| self.idle_since.unwrap_or(now));
        let before = std::mem::replace(&mut self.view, Arc::new(view));
        is_roomier(&self.view, &before)
    }

    /// Nobody has, or is promised, anything of the GPUs. A little may be in use by no pod: what
    /// `headroom` is for.
    fn is_idle(&self, reading: &Reading, policy: &Policy) -> bool {
        let is_unused = |gpu: &GpuReading| {
            gpu.used <= policy.headroom && gpu.pods.iter().all(|pod| pod.used == Bytes::ZERO)
        };
        self.claims.is_empty() && reading.gpus.iter().all(is_unused)
    }

    /// For how long it has been idle; zero where nobody knows, since it was not read of late.
    pub(in crate::engine) fn idle_for(&self, policy: &Policy, now: Time) -> Duration {
        let since = self.idle_since.filter(|_| self.is_known(policy, now));
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Somebody has, or is promised, something of its GPUs.
    pub(super) fn is_used(&self, policy: &Policy, now: Time) -> bool {
        !self.claims.is_empty() || (self.is_known(policy, now) && self.idle_since.is_none())
    }

    fn is_known(&self, policy: &Policy, now: Time) -> bool {
        let is_read = self.reading.is_some() && self.impossible.is_none();
        is_read && self.age(now) <= policy.stale_after
    }
}

fn is_roomier(now: &NodeView, before: &NodeView) -> bool {
    let is_same = |(now, before): (&GpuState, &GpuState)| now.uuid == before.uuid;
    let same_gpus =
        now.gpus.len() == before.gpus.len() && now.gpus.iter().zip(&before.gpus).all(is_same);
    let settled =
        (before.is_placing && !now.is_placing) || (before.is_predicted && !now.is_predicted);
    !same_gpus
        || settled
        || now.devices_left != before.devices_left
        || now.gpus.iter().zip(&before.gpus).any(|(now, before)| may_take_more(now, before))
}

/// Whether some pod that the GPU would have refused before may fit it now.
fn may_take_more(now: &GpuState, before: &GpuState) -> bool {
    // What victims give back counts as kept at once, and is room for the pod that waits for it.
    now.open_bytes() > before.open_bytes()
        || now.kept > before.kept
        || now.tenants < before.tenants
        || now.foreign < before.foreign
        || now.assigned != before.assigned
        || now.vacating != before.vacating
        || now.replicas != before.replicas
        || now.resource != before.resource
}
