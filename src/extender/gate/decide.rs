//! Filter and prioritize.

use parking_lot::RwLockWriteGuard;

use super::{Gate, GateError, Incoming, Mode};
use crate::engine::request::BadRequest;
use crate::engine::{GpuAsk, Ledger, PodFacts, PodUid, Reason, Refusals, Time, score};

/// The best node alone gets this; the others at most one less.
const BEST_SCORE: i64 = 10;

/// Filter's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filtered {
    /// Every node passes.
    All,
    /// What each says.
    Each(Refusals),
    /// No node passes, since the pod's annotations cannot be meant.
    BadRequest(BadRequest),
}

impl Gate {
    /// Which of these nodes could take the pod now. Where one remains it is held (kube-scheduler
    /// does not ask for priorities then); where none does, the pod waits.
    ///
    /// # Errors
    /// When nothing can be said now; the ledger is as before.
    pub fn filter(&self, pod: &Incoming, names: &[&str]) -> Result<Filtered, GateError> {
        self.check_call()?;
        let Some(facts) = &pod.facts else { return Ok(Filtered::All) };
        let now = self.clock.now();
        let uid = &facts.id.uid;
        let judged = {
            let ledger = self.read()?;
            check_undecided(&ledger, uid)?;
            match &facts.ask {
                Ok(ask) => Ok(judge(&ledger, uid, ask, names, now)),
                Err(bad) => Err(bad),
            }
        };
        match (judged, &facts.ask) {
            (Ok(judged), Ok(ask)) => Ok(self.conclude(facts, ask, names, judged, now)),
            (Err(bad), _) | (_, Err(bad)) => Ok(self.refuse_request(uid, bad, names.len(), now)),
        }
    }

    fn conclude(
        &self,
        facts: &PodFacts,
        ask: &GpuAsk,
        names: &[&str],
        judged: Judged,
        now: Time,
    ) -> Filtered {
        if self.settings.mode == Mode::Observe {
            self.metrics.observed_refusals(&judged.refusals.reasons);
            return Filtered::All;
        }
        self.metrics.refusals(&judged.refusals.reasons);
        self.early.lock().take(&facts.id.uid);
        match judged.remaining {
            Remaining::None if names.is_empty() => {}
            Remaining::None => self.refuse_everywhere(facts, ask, names, now),
            Remaining::One(at) => self.hold_only(facts, ask, names[at], now),
            Remaining::Several if judged.is_waiting => self.write().stop_waiting(&facts.id.uid),
            Remaining::Several => {}
        }
        Filtered::Each(judged.refusals)
    }

    fn hold_only(&self, facts: &PodFacts, ask: &GpuAsk, node: &str, now: Time) {
        let mut ledger = self.write();
        ledger.stop_waiting(&facts.id.uid);
        ledger.hold(&facts.id, ask, node, now);
    }

    /// The pod waits, and its owner is told how near it came, unless that was just done.
    fn refuse_everywhere(&self, facts: &PodFacts, ask: &GpuAsk, names: &[&str], now: Time) {
        let uid = &facts.id.uid;
        let is_told = self.writer.wants_refusal(&facts.id);
        let miss = {
            let mut ledger = self.write();
            ledger.wait(uid, ask, names.iter().copied(), now);
            let ledger = RwLockWriteGuard::downgrade(ledger);
            if ledger.pod(uid).is_none() {
                self.early.lock().insert(uid, ask, names, now);
            }
            is_told.then(|| ledger.nearest_miss(uid, ask, names.iter().copied(), now)).flatten()
        };
        if let Some(miss) = miss {
            self.writer.report_refusal(&facts.id, miss.to_string());
        }
    }

    fn refuse_request(&self, uid: &PodUid, bad: &BadRequest, nodes: usize, now: Time) -> Filtered {
        if self.settings.mode == Mode::Observe {
            self.metrics.observed_refusals(&vec![Some(Reason::BadRequest); nodes]);
            return Filtered::All;
        }
        self.metrics.refusals(&vec![Some(Reason::BadRequest); nodes]);
        let holds = self.with_ledger(|ledger| ledger.claim(uid).is_some());
        if holds {
            self.write().release_hold(uid, now);
        }
        Filtered::BadRequest(bad.clone())
    }

    /// A score, 0 to 10, for each of these nodes; the best one is held for the pod.
    ///
    /// # Errors
    /// When nothing can be said now; the ledger is as before.
    pub fn prioritize(&self, pod: &Incoming, names: &[&str]) -> Result<Vec<i64>, GateError> {
        self.check_call()?;
        let ask = pod.facts.as_ref().and_then(|facts| Some((facts, facts.ask.as_ref().ok()?)));
        let (Some((facts, ask)), Mode::Enforce) = (ask, self.settings.mode) else {
            return Ok(vec![0; names.len()]);
        };
        let now = self.clock.now();
        let verdicts = {
            let ledger = self.read()?;
            check_undecided(&ledger, &facts.id.uid)?;
            ledger.judge(&facts.id.uid, ask, names.iter().copied(), now)
        };
        let Some((best, top)) = best(&verdicts, names) else { return Ok(vec![0; names.len()]) };
        self.write().hold(&facts.id, ask, names[best], now);
        let scale = |(at, verdict): (usize, &Result<f64, Reason>)| match verdict {
            Ok(_) if at == best => BEST_SCORE,
            Ok(score) => score::to_extender_scale(*score, top),
            Err(_) => 0,
        };
        Ok(verdicts.iter().enumerate().map(scale).collect())
    }
}

struct Judged {
    refusals: Refusals,
    remaining: Remaining,
    is_waiting: bool,
}

/// Distinct nodes that pass.
enum Remaining {
    None,
    One(usize),
    Several,
}

fn judge(ledger: &Ledger, uid: &PodUid, ask: &GpuAsk, names: &[&str], now: Time) -> Judged {
    let refusals = ledger.refusals(uid, ask, names.iter().copied(), now);
    let remaining = remaining(&refusals.reasons, names);
    Judged { refusals, remaining, is_waiting: ledger.is_waiting(uid) }
}

fn remaining(reasons: &[Option<Reason>], names: &[&str]) -> Remaining {
    let passing = |at: &usize| reasons[*at].is_none();
    let Some(first) = (0..names.len()).find(passing) else { return Remaining::None };
    let is_another = |at: &usize| passing(at) && names[*at] != names[first];
    let another = (first + 1..names.len()).find(is_another);
    if another.is_some() { Remaining::Several } else { Remaining::One(first) }
}

/// Nothing can be said of a pod that is bound or may be any moment.
pub(super) fn check_undecided(ledger: &Ledger, uid: &PodUid) -> Result<(), GateError> {
    match ledger.claim(uid) {
        Some((node, claim)) if !claim.is_advice() => Err(if ledger.is_binding(uid) {
            GateError::InFlight
        } else {
            GateError::AlreadyBound(node.clone())
        }),
        _ => Ok(()),
    }
}

/// Position and score of the best; of equals the one whose name comes first.
fn best(verdicts: &[Result<f64, Reason>], names: &[&str]) -> Option<(usize, f64)> {
    let scored = verdicts.iter().enumerate();
    let scored = scored.filter_map(|(at, verdict)| Some((at, *verdict.as_ref().ok()?)));
    let comes_first = |left: usize, right: usize| names[right].cmp(names[left]);
    scored.max_by(|(left, a), (right, b)| a.total_cmp(b).then_with(|| comes_first(*left, *right)))
}
