//! Preempt.

use super::decide::check_undecided;
use super::{Gate, GateError, Incoming, Mode};
use crate::engine::{Candidate, PodFacts};

/// Preempt's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preempted {
    /// Whatever kube-scheduler chooses: filmgate has no say.
    AsAsked,
    /// Nobody is to be evicted.
    Nobody,
    /// This candidate's victims, among whom there may be more than kube-scheduler named.
    One(Candidate),
}

impl Gate {
    /// Of kube-scheduler's candidates the best where the VRAM fits with the victims gone, or with
    /// some more that no budget protects. Its place is kept for the pod; until that ends the pod
    /// gets no further victims.
    ///
    /// # Errors
    /// When nothing can be said now; the ledger is as before.
    pub fn preempt(
        &self,
        pod: &Incoming,
        candidates: &[Candidate],
    ) -> Result<Preempted, GateError> {
        self.check_call()?;
        let (Some(facts), Mode::Enforce) = (&pod.facts, self.settings.mode) else {
            return Ok(Preempted::AsAsked);
        };
        let chosen = self.choose_victims(facts, candidates)?;
        if let Preempted::One(chosen) = &chosen {
            self.metrics.victims(chosen.victims.len());
        }
        Ok(chosen)
    }

    fn choose_victims(
        &self,
        facts: &PodFacts,
        candidates: &[Candidate],
    ) -> Result<Preempted, GateError> {
        let now = self.clock.now();
        let chosen = {
            let ledger = self.read()?;
            check_undecided(&ledger, &facts.id.uid)?;
            let Ok(ask) = &facts.ask else { return Ok(Preempted::Nobody) };
            let spares = |pod: &PodFacts| self.budgets.protects(pod);
            let chosen = ledger.choose_candidate(facts, ask, candidates, &spares, now);
            chosen.map(|chosen| (chosen, ask))
        };
        let Some((chosen, ask)) = chosen else {
            if let Ok(ask) = &facts.ask {
                self.tell(|ledger, now| ledger.wait_for_candidates(facts, ask, candidates, now));
            }
            return Ok(Preempted::Nobody);
        };
        // Between the two locks someone may have come: then nobody leaves for nothing.
        let is_kept = self.tell(|ledger, now| ledger.nominate(facts, ask, &chosen, now));
        Ok(if is_kept { Preempted::One(chosen) } else { Preempted::Nobody })
    }
}
