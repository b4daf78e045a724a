//! Who leads: what a process may conclude from a Lease that it reads again and again. Pure: no IO,
//! time is an argument.
//!
//! Times in a Lease are another machine's and are compared for equality alone. What counts is when,
//! by our own monotonic clock, a read began that showed something new: at that moment or later the
//! holder was alive. From there the Lease runs out, for us as for everyone who watches it.
//!
//! Running out is how a process learns that it leads no more when nothing else can tell it. No
//! Binding rests on it: each is sent after a read that began when it had been admitted and that
//! showed the same [`Term`] (`cluster::lease`). A new leader takes the Lease before it fences, so a
//! Binding admitted before such a read is stopped by the fence.

use std::time::Duration;

use crate::engine::Time;

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseFacts {
    /// `spec.holderIdentity`; empty where nobody holds it.
    pub holder: String,
    /// `spec.leaseTransitions`.
    pub transitions: i32,
    /// `spec.renewTime` as it stands: another text is another renewal.
    pub renewed: String,
    /// `spec.leaseDurationSeconds`.
    pub duration: Duration,
}

/// One holder's time with the Lease. Whoever holds it twice has two terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Who.
    pub holder: String,
    /// Which change of holders brought it.
    pub transitions: i32,
}

impl LeaseFacts {
    /// The term under way; `None` where nobody holds the Lease.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        let is_held = !self.holder.is_empty();
        is_held.then(|| Term { holder: self.holder.clone(), transitions: self.transitions })
    }
}

/// Whose Lease makes this process the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// That of the kube-scheduler in the same pod: it holds as `<hostname>_<uuid>`.
    Sibling {
        /// The pod's hostname, which both containers have.
        hostname: String,
    },
    /// Its own.
    Own {
        /// As whom it holds. No two runs have the same.
        holder: String,
        /// It leads for so long after a renewal: less than the Lease lasts for others.
        renew_deadline: Duration,
    },
}

impl Candidate {
    /// Whether that holder makes this process the leader.
    #[must_use]
    pub fn is_ours(&self, holder: &str) -> bool {
        match self {
            Self::Sibling { hostname } => {
                holder.strip_prefix(hostname.as_str()).is_some_and(|rest| rest.starts_with('_'))
            }
            Self::Own { holder: own, .. } => own == holder,
        }
    }

    /// How long we rely on what a read showed. Others take the Lease when `duration` has passed
    /// since *they* saw its last renewal, which may have been before we did, on a clock that may
    /// run faster: we give up a tenth earlier.
    fn reliance(&self, duration: Duration) -> Duration {
        match self {
            Self::Sibling { .. } => duration - duration / 10,
            Self::Own { renew_deadline, .. } => *renew_deadline,
        }
    }
}

/// This process leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// In this term.
    pub term: Term,
    /// Until then, unless a renewal is seen before.
    pub until: Time,
}

/// What a candidate for its own Lease does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Another holds it.
    Wait,
    /// It is free: take it.
    Take,
    /// It is ours: renew it.
    Renew,
}

/// What is known of the Lease.
#[derive(Debug)]
pub struct Tenure {
    candidate: Candidate,
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    lease: LeaseFacts,
    /// When the read began that showed it first.
    since: Time,
}

impl Tenure {
    /// Nothing is known yet, so this process does not lead.
    #[must_use]
    pub fn new(candidate: Candidate) -> Self {
        Self { candidate, seen: None }
    }

    /// A read, or an own write, that began at `asked_at` showed this; `None` where there is no
    /// such Lease.
    pub fn observe(&mut self, lease: Option<LeaseFacts>, asked_at: Time) {
        let is_known = self.seen.as_ref().map(|seen| &seen.lease) == lease.as_ref();
        if !is_known {
            self.seen = lease.map(|lease| Seen { lease, since: asked_at });
        }
    }

    /// Whether this process leads, by what it has seen.
    #[must_use]
    pub fn lead(&self, now: Time) -> Option<Lead> {
        let Seen { lease, since } = self.seen.as_ref()?;
        let term = lease.term().filter(|term| self.candidate.is_ours(&term.holder))?;
        let until = *since + self.candidate.reliance(lease.duration);
        (now < until).then_some(Lead { term, until })
    }

    /// What to do about an own Lease that was read a moment ago.
    #[must_use]
    pub fn next_move(&self, now: Time) -> Move {
        match &self.seen {
            None => Move::Take,
            Some(seen) if seen.lease.holder.is_empty() => Move::Take,
            Some(seen) if self.candidate.is_ours(&seen.lease.holder) => Move::Renew,
            Some(seen) if now.since(seen.since) >= seen.lease.duration => Move::Take,
            Some(_) => Move::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn lease(holder: &str, transitions: i32, renewed: &str) -> Option<LeaseFacts> {
        let (holder, renewed) = (holder.to_owned(), renewed.to_owned());
        Some(LeaseFacts { holder, transitions, renewed, duration: LEASE })
    }

    fn sibling() -> Tenure {
        Tenure::new(Candidate::Sibling { hostname: "film-0".to_owned() })
    }

    fn own() -> Tenure {
        let renew_deadline = Duration::from_secs(10);
        Tenure::new(Candidate::Own { holder: "film-0_1".to_owned(), renew_deadline })
    }

    fn at(seconds: u64) -> Time {
        Time::from_secs(seconds)
    }

    #[test]
    fn leads_while_the_scheduler_of_its_pod_holds_the_lease() {
        let mut tenure = sibling();
        assert_eq!(tenure.lead(at(0)), None);
        tenure.observe(lease("film-0_4f1c", 3, "a"), at(1));
        let term = Term { holder: "film-0_4f1c".to_owned(), transitions: 3 };
        let until = at(1) + Duration::from_millis(13_500);
        assert_eq!(tenure.lead(at(2)), Some(Lead { term, until }));
        tenure.observe(lease("film-1_77aa", 4, "b"), at(3));
        assert_eq!(tenure.lead(at(3)), None);
        tenure.observe(lease("", 4, "c"), at(4));
        assert_eq!(tenure.lead(at(4)), None);
        tenure.observe(None, at(5));
        assert_eq!(tenure.lead(at(5)), None);
    }

    #[test]
    fn a_hostname_that_begins_alike_is_another() {
        let mut tenure = sibling();
        for holder in ["film-01_4f1c", "film-0", "other-film-0_4f1c"] {
            tenure.observe(lease(holder, 1, "a"), at(1));
            assert_eq!(tenure.lead(at(1)), None, "{holder}");
        }
    }

    #[test]
    fn a_lease_that_is_not_renewed_runs_out_by_our_own_clock() {
        let mut tenure = sibling();
        tenure.observe(lease("film-0_4f1c", 1, "a"), at(100));
        for second in 101..113 {
            tenure.observe(lease("film-0_4f1c", 1, "a"), at(second));
            assert!(tenure.lead(at(second)).is_some(), "{second}");
        }
        assert_eq!(tenure.lead(at(114)), None, "before another may take it, at 115");
        tenure.observe(lease("film-0_4f1c", 1, "b"), at(113));
        assert!(tenure.lead(at(114)).is_some());
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_asked_for() {
        let mut tenure = sibling();
        tenure.observe(lease("film-0_4f1c", 1, "a"), at(100));
        // The answer came 20 s later, or the process stood still meanwhile.
        tenure.observe(lease("film-0_4f1c", 1, "b"), at(101));
        assert_eq!(tenure.lead(at(121)), None);
    }

    #[test]
    fn the_same_holder_after_another_is_another_term() {
        let mut tenure = sibling();
        tenure.observe(lease("film-0_4f1c", 1, "a"), at(1));
        let first = tenure.lead(at(1)).unwrap().term;
        tenure.observe(lease("film-0_4f1c", 3, "b"), at(2));
        assert_ne!(tenure.lead(at(2)).unwrap().term, first);
    }

    #[test]
    fn takes_its_own_lease_where_there_is_none_or_nobody_holds_it() {
        let mut tenure = own();
        tenure.observe(None, at(1));
        assert_eq!(tenure.next_move(at(1)), Move::Take);
        tenure.observe(lease("", 1, "a"), at(2));
        assert_eq!(tenure.next_move(at(2)), Move::Take);
        tenure.observe(lease("film-0_1", 2, "b"), at(3));
        assert_eq!(tenure.next_move(at(3)), Move::Renew);
    }

    #[test]
    fn takes_anothers_lease_when_no_renewal_was_seen_for_as_long_as_it_lasts() {
        let mut tenure = own();
        tenure.observe(lease("film-1_2", 1, "a"), at(100));
        tenure.observe(lease("film-1_2", 1, "a"), at(114));
        assert_eq!(tenure.next_move(at(114)), Move::Wait);
        assert_eq!(tenure.next_move(at(115)), Move::Take);
        tenure.observe(lease("film-1_2", 1, "b"), at(115));
        assert_eq!(tenure.next_move(at(115)), Move::Wait);
    }

    #[test]
    fn its_own_lease_ends_for_itself_before_it_ends_for_others() {
        let mut tenure = own();
        tenure.observe(lease("film-0_1", 1, "a"), at(100));
        assert!(tenure.lead(at(109)).is_some());
        assert_eq!(tenure.lead(at(110)), None);
    }
}
