//! The Lease that says which replica leads: read again and again, confirmed before each Binding,
//! and, where filmgate takes one itself, written.
//!
//! It is read and not watched: a read that began after a moment shows who led at that moment or
//! later, and a watch may be any time behind.
//!
//! Of the crates that elect leaders, kubert 0.25 compares the Lease's times with this machine's
//! clock (and is built for kube 1), and kube-leader-election 0.44 for kube 4.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bind::within;
use super::client::Failure;
use crate::clock::Clock;
use crate::leadership::{Candidate, Lead, LeaseFacts, Move, Tenure, Term};

/// One request. Several fit between two renewals.
const TRY_LIMIT: Duration = Duration::from_secs(2);
/// However often someone asks for a look, two are at least this far apart.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// What a Lease without a duration is taken to last: client-go's default.
const USUAL_DURATION: i32 = 15;

/// Which Lease, and whose holding counts.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whose holding makes this process the leader.
    pub candidate: Candidate,
    /// How long an own Lease lasts.
    pub duration: Duration,
    /// Time between two reads or renewals.
    pub retry_period: Duration,
}

/// What the Lease says, kept up to date for as long as [`LeaseKeeper::run`] runs.
#[derive(Debug)]
pub struct LeaseKeeper {
    leases: Api<Lease>,
    settings: LeaseSettings,
    clock: Clock,
    tell: watch::Sender<Option<Lead>>,
}

impl LeaseKeeper {
    /// A keeper, and where it tells whether this process leads.
    #[must_use]
    pub fn new(
        client: &Client,
        settings: LeaseSettings,
        clock: Clock,
    ) -> (Self, watch::Receiver<Option<Lead>>) {
        let leases = Api::namespaced(client.clone(), &settings.namespace);
        let (tell, told) = watch::channel(None);
        (Self { leases, settings, clock, tell }, told)
    }

    /// Reads, and where the Lease is our own takes or renews it, until dropped. `is_called` ends
    /// when someone wants a look before the period is over.
    pub async fn run<F: Future<Output = ()>>(&self, is_called: impl Fn() -> F) {
        let mut tenure = Tenure::new(self.settings.candidate.clone());
        loop {
            self.round(&mut tenure).await;
            let lead = tenure.lead(self.clock.now());
            self.tell.send_if_modified(|told| std::mem::replace(told, lead.clone()) != lead);
            tokio::time::sleep(LEAST_PAUSE).await;
            // Candidates that are in step would collide at each try.
            let period = self.settings.retry_period.mul_f64(rand::random_range(0.8..=1.0));
            let _ = tokio::time::timeout(period, is_called()).await;
        }
    }

    async fn round(&self, tenure: &mut Tenure) {
        let asked_at = self.clock.now();
        let found = match self.read().await {
            Ok(found) => found,
            Err(failure) => return tracing::warn!(%failure, "the Lease cannot be read"),
        };
        tenure.observe(found.as_ref().map(facts), asked_at);
        let Candidate::Own { holder, .. } = &self.settings.candidate else { return };
        if tenure.next_move(self.clock.now()) == Move::Wait {
            return;
        }
        let asked_at = self.clock.now();
        match self.write(holding(found, holder, self.settings.duration)).await {
            Ok(written) => tenure.observe(Some(facts(&written)), asked_at),
            Err(Failure::Answered { code: 409, .. }) => {
                tracing::debug!("another was first to write the Lease");
            }
            Err(failure) => tracing::warn!(%failure, "the Lease cannot be written"),
        }
    }

    /// Lets an own Lease go, so that another need not wait for its end. To be called when no
    /// Binding can be begun any more and [`LeaseKeeper::run`] has ended.
    pub async fn release(&self) {
        let Candidate::Own { holder, .. } = &self.settings.candidate else { return };
        let Ok(Some(mut lease)) = self.read().await else { return };
        if facts(&lease).holder != *holder {
            return;
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        match self.write(lease).await {
            Ok(_) => tracing::info!("the Lease is released"),
            Err(failure) => tracing::warn!(%failure, "the Lease is not released"),
        }
    }

    async fn read(&self) -> Result<Option<Lease>, Failure> {
        within(self.limit(), self.leases.get_opt(&self.settings.name)).await
    }

    /// A stored Lease is replaced in the version that was read, so that of two writers one wins.
    async fn write(&self, mut lease: Lease) -> Result<Lease, Failure> {
        let parameters = PostParams::default();
        if lease.metadata.resource_version.is_some() {
            let name = &self.settings.name;
            return within(self.limit(), self.leases.replace(name, &parameters, &lease)).await;
        }
        lease.metadata.name = Some(self.settings.name.clone());
        within(self.limit(), self.leases.create(&parameters, &lease)).await
    }

    fn limit(&self) -> Duration {
        TRY_LIMIT.min(self.settings.duration / 4)
    }
}

/// What the Lease is when `holder` has taken or renewed it.
fn holding(found: Option<Lease>, holder: &str, duration: Duration) -> Lease {
    let mut lease = found.unwrap_or_default();
    let spec = lease.spec.get_or_insert_default();
    let now = MicroTime(Timestamp::now());
    if spec.holder_identity.as_deref() != Some(holder) {
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        spec.acquire_time = Some(now.clone());
        spec.holder_identity = Some(holder.to_owned());
    }
    spec.lease_duration_seconds = i32::try_from(duration.as_secs()).ok();
    spec.renew_time = Some(now);
    lease
}

fn facts(lease: &Lease) -> LeaseFacts {
    let none = LeaseSpec::default();
    let spec = lease.spec.as_ref().unwrap_or(&none);
    let seconds = spec.lease_duration_seconds.unwrap_or(USUAL_DURATION);
    LeaseFacts {
        holder: spec.holder_identity.clone().unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
        renewed: spec.renew_time.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
    }
}

/// The right to send Bindings: the term in which this process leads, confirmed by a read of the
/// Lease that begins after the admission.
///
/// A term that has ended is not confirmed. Where it is confirmed, the next leader takes the Lease
/// after the admission, and so fences the pod in a later version than the one that was admitted.
#[derive(Debug)]
pub struct Mandate {
    leases: Api<Lease>,
    name: String,
    term: Mutex<Option<Term>>,
    /// One read serves all who came before it.
    last: tokio::sync::Mutex<Option<LastRead>>,
}

#[derive(Debug)]
struct LastRead {
    began: Instant,
    showed: Result<Option<Term>, String>,
}

impl Mandate {
    /// No term yet.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str) -> Arc<Self> {
        Arc::new(Self {
            leases: Api::namespaced(client.clone(), namespace),
            name: name.to_owned(),
            term: Mutex::default(),
            last: tokio::sync::Mutex::default(),
        })
    }

    /// From now on Bindings are sent in that term, or in none.
    pub fn set(&self, term: Option<Term>) {
        *self.term.lock() = term;
    }

    /// Whether the term is still under way.
    ///
    /// # Errors
    /// For people: why no Binding may be sent.
    pub(super) async fn confirm(&self) -> Result<(), String> {
        let term = self.term.lock().clone();
        let Some(term) = term else { return Err("this filmgate does not lead".to_owned()) };
        match self.read_after(Instant::now()).await {
            Ok(now) if now.as_ref() == Some(&term) => Ok(()),
            Ok(Some(now)) => Err(format!("the Lease is held by {}", now.holder)),
            Ok(None) => Err("nobody holds the Lease any more".to_owned()),
            Err(why) => Err(format!("the Lease cannot be read: {why}")),
        }
    }

    async fn read_after(&self, moment: Instant) -> Result<Option<Term>, String> {
        let mut last = self.last.lock().await;
        if let Some(read) = last.as_ref().filter(|read| read.began > moment) {
            return read.showed.clone();
        }
        let began = Instant::now();
        let read = within(TRY_LIMIT, self.leases.get_opt(&self.name)).await;
        let showed = read.map(|lease| lease.and_then(|lease| facts(&lease).term()));
        let showed = showed.map_err(|failure| failure.to_string());
        *last = Some(LastRead { began, showed: showed.clone() });
        showed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_is_a_transition_and_renewing_is_none() {
        let taken = holding(None, "film-0_1", Duration::from_secs(15));
        let first = facts(&taken);
        assert_eq!((first.holder.as_str(), first.transitions), ("film-0_1", 1));
        assert_eq!(first.duration, Duration::from_secs(15));
        let renewed = facts(&holding(Some(taken.clone()), "film-0_1", Duration::from_secs(15)));
        assert_eq!(renewed.term(), first.term());
        let lost = facts(&holding(Some(taken), "film-1_2", Duration::from_secs(15)));
        assert_eq!((lost.holder.as_str(), lost.transitions), ("film-1_2", 2));
    }

    #[test]
    fn a_lease_without_a_holder_has_no_term() {
        let empty = Lease { spec: Some(LeaseSpec::default()), ..Lease::default() };
        assert_eq!(facts(&empty).term(), None);
        assert_eq!(facts(&empty).duration, Duration::from_secs(15));
    }
}
