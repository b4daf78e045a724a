//! One node in the ledger: its last reading, its claims, and the view made of both.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Policy, StalePolicy};
use crate::engine::accounting::{self, NodeView};
use crate::engine::claim::{Claim, ClaimState};
use crate::engine::placement::{self, Placement, Terrain};
use crate::engine::reading::ImpossibleReading;
use crate::engine::request::GpuAsk;
use crate::engine::{AgentRun, NodeName, NodeUid, PodUid, Reading, Reason, Time, score};

/// Ended runs of a node's agent that are remembered, so that their late readings are known as such.
const REMEMBERED_RUNS: usize = 8;

/// A node.
#[derive(Debug)]
pub(in crate::engine) struct Node {
    pub(in crate::engine) name: NodeName,
    /// `None` while no such node exists in the cluster.
    pub(in crate::engine) uid: Option<NodeUid>,
    pub(in crate::engine) is_mps: bool,
    pub(in crate::engine) reading: Option<Arc<Reading>>,
    pub(in crate::engine) read_at: Time,
    /// Number of the newest sampling of the reading's run, heartbeats included.
    newest_sampling: u64,
    /// Why the newest reading was not taken.
    pub(in crate::engine) impossible: Option<ImpossibleReading>,
    pub(in crate::engine) claims: Vec<Claim>,
    pub(in crate::engine) view: NodeView,
    ended_runs: VecDeque<AgentRun>,
}

impl Node {
    pub(super) fn new(name: NodeName) -> Self {
        Self {
            name,
            uid: None,
            is_mps: false,
            reading: None,
            read_at: Time::ZERO,
            newest_sampling: 0,
            impossible: None,
            claims: Vec::new(),
            view: NodeView::default(),
            ended_runs: VecDeque::new(),
        }
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

    /// The view of a pod that has its own claim left out. The kept view serves unless the pod has
    /// a claim here or a hold in it has ended.
    pub(in crate::engine) fn view_for(
        &self,
        pod: Option<&PodUid>,
        policy: &Policy,
        now: Time,
    ) -> Cow<'_, NodeView> {
        let is_current = self.view.valid_until.is_none_or(|until| now < until);
        let has_claim =
            pod.is_some_and(|pod| self.claims.iter().any(|claim| claim.pod.uid == *pod));
        match &self.reading {
            Some(reading) if has_claim || !is_current => {
                Cow::Owned(accounting::view(reading, &self.claims, policy, now, pod))
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
        pod: Option<&PodUid>,
        ask: &GpuAsk,
        policy: &Policy,
        now: Time,
    ) -> Result<Placement, Reason> {
        self.check_usable(policy, now)?;
        placement::place(&self.view_for(pod, policy, now), ask, self.terrain(policy, now))
    }

    /// How well the pod would do here.
    pub(in crate::engine) fn judge(
        &self,
        pod: Option<&PodUid>,
        ask: &GpuAsk,
        policy: &Policy,
        now: Time,
    ) -> Result<f64, Reason> {
        self.place(pod, ask, policy, now).map(|placement| placement.score)
    }

    /// Whether the reading comes from an earlier run of the agent, or is no newer than the last.
    pub(super) fn is_outdated(&self, run: &AgentRun, sampling: u64) -> bool {
        if self.ended_runs.contains(run) {
            return true;
        }
        self.reading
            .as_ref()
            .is_some_and(|last| last.agent == *run && sampling <= self.newest_sampling)
    }

    /// Whether the last reading comes from that run of the agent.
    pub(super) fn is_of_run(&self, run: &AgentRun) -> bool {
        self.reading.as_ref().is_some_and(|last| last.agent == *run)
    }

    /// Takes a newer reading; the run that it replaces has ended.
    pub(super) fn take_reading(&mut self, reading: Arc<Reading>, read_at: Time) {
        if let Some(last) = &self.reading
            && last.agent != reading.agent
        {
            self.ended_runs.push_front(last.agent.clone());
            self.ended_runs.truncate(REMEMBERED_RUNS);
        }
        self.newest_sampling = reading.sampling;
        self.reading = Some(reading);
        self.read_at = self.read_at.max(read_at);
        self.impossible = None;
    }

    /// The reading's run sampled again and nothing had moved; whether that was news.
    pub(super) fn take_heartbeat(&mut self, run: &AgentRun, sampling: u64, read_at: Time) -> bool {
        let is_same_run = self.reading.as_ref().is_some_and(|last| last.agent == *run);
        let is_news = is_same_run && sampling > self.newest_sampling;
        if is_news {
            self.newest_sampling = sampling;
            self.read_at = self.read_at.max(read_at);
        }
        is_news
    }

    /// Forgets all telemetry: the machine behind the name is another one.
    pub(super) fn forget_reading(&mut self) {
        self.reading = None;
        self.impossible = None;
        self.ended_runs.clear();
        self.view = NodeView::default();
    }

    /// Ends holds that are over; the number of those.
    pub(super) fn expire_holds(&mut self, now: Time) -> Vec<PodUid> {
        let is_over =
            |claim: &Claim| matches!(claim.state, ClaimState::Held { until } if until <= now);
        let over =
            self.claims.iter().filter(|claim| is_over(claim)).map(|claim| claim.pod.uid.clone());
        let over: Vec<_> = over.collect();
        self.claims.retain(|claim| !is_over(claim));
        over
    }

    /// Computes the view again; whether a newcomer may find more than before.
    pub(super) fn refresh(&mut self, policy: &Policy, now: Time) -> bool {
        let Some(reading) = &self.reading else { return false };
        let view = accounting::view(reading, &self.claims, policy, now, None);
        let before = std::mem::replace(&mut self.view, view);
        is_roomier(&self.view, &before)
    }
}

fn is_roomier(now: &NodeView, before: &NodeView) -> bool {
    let more_gpus = now.gpus.len() != before.gpus.len();
    let settled = before.is_placing && !now.is_placing;
    let mut pairs = now.gpus.iter().zip(&before.gpus);
    more_gpus
        || settled
        || pairs.any(|(now, before)| {
            now.open_bytes() > before.open_bytes()
                || now.tenants < before.tenants
                || now.foreign < before.foreign
                || now.assigned < before.assigned
        })
}
