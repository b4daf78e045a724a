//! Carries out what is due, and looks again every minute.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use parking_lot::Mutex;

use super::issue::{self, IssueError};
use super::material::{AUTHORITIES, Certificate, Pair, authorities_in, bundle_of};
use super::plan::{self, Authority, Due, Subject};
use super::store::{Bundled, Store, StoreError, Stored};

/// On the authority's Secret: since when everyone has been told to believe it.
const PUBLISHED: &str = "filmgate.dev/authority-published";

/// Nobody may watch Secrets here, and what is repaired is missed by nobody for a minute: servers keep
/// what they have read.
const LOOK: Duration = Duration::from_secs(60);
/// After the first failure; twice as long after each further one, up to [`LOOK`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Rounds that are begun anew since somebody else wrote at the same time.
const TRIES: usize = 10;
/// Waited before such a round at most.
const STEP_ASIDE: Duration = Duration::from_millis(200);

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the Secrets are.
    pub namespace: String,
    /// The Secret of the authority.
    pub authority: String,
    /// The others, and whom each is for.
    pub leaves: Vec<(String, Subject)>,
    /// The APIService whose server shows one of these certificates.
    pub api_service: Option<String>,
}

/// By Secret: when its certificate ends.
pub type Expiries = BTreeMap<String, Timestamp>;

/// Why certificates are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// An object cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate cannot be made.
    #[error("{secret}: {why}")]
    Issue {
        /// For which Secret.
        secret: String,
        /// What is wrong.
        why: IssueError,
    },
}

/// Keeps certificates.
pub struct Keeper {
    store: Store,
    settings: Settings,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    state: Mutex<State>,
    has_told_of_foreign: AtomicBool,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keeper").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// What the last round came to; `None` before the first.
    last: Option<Result<(), String>>,
    /// Of the last round that succeeded.
    expiries: Expiries,
}

/// Everything that was read.
struct Held {
    authority: Stored,
    /// In the order of the settings.
    leaves: Vec<Stored>,
}

impl Keeper {
    /// Keeps these, by that clock.
    pub fn new(
        client: &Client,
        settings: Settings,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self {
            store: Store::new(client, &settings.namespace),
            settings,
            now: Box::new(now),
            state: Mutex::default(),
            has_told_of_foreign: AtomicBool::default(),
        }
    }

    /// What the last round came to; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<Result<(), String>> {
        self.state.lock().last.clone()
    }

    /// What the last round that succeeded left.
    #[must_use]
    pub fn expiries(&self) -> Expiries {
        self.state.lock().expiries.clone()
    }

    /// Looks every minute, for good.
    pub async fn run(&self) {
        let mut retry = FIRST_RETRY;
        loop {
            match self.round().await {
                Ok(_) => retry = FIRST_RETRY,
                Err(error) => {
                    tracing::warn!(%error, again_in = ?retry, "certificates are not all kept");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LOOK);
                    continue;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Does all that is due. Of several processes that do so at once each ends with the same
    /// certificates.
    ///
    /// # Errors
    /// What is in the way. What was due before is done.
    pub async fn round(&self) -> Result<Expiries, KeepError> {
        let done = self.tries().await;
        let mut state = self.state.lock();
        if let Ok(expiries) = &done {
            state.expiries.clone_from(expiries);
        }
        state.last = Some(done.as_ref().map(drop).map_err(ToString::to_string));
        done
    }

    async fn tries(&self) -> Result<Expiries, KeepError> {
        let mut tries = 1;
        loop {
            match self.once((self.now)()).await {
                Err(KeepError::Store(StoreError::Conflict(what))) if tries < TRIES => {
                    tracing::debug!(what, "begins anew: somebody else was faster");
                    tries += 1;
                    tokio::time::sleep(STEP_ASIDE.mul_f64(rand::random())).await;
                }
                done => return done,
            }
        }
    }

    async fn once(&self, now: Timestamp) -> Result<Expiries, KeepError> {
        let mut held = self.read().await?;
        let authority = self.authority(&mut held, now).await?;
        let believed = held.believed(&authority.certificate, now);
        self.publish(&mut held, &believed).await?;
        // Without an API server that listens nobody's certificate moves, and all others are made.
        let bundled = self.bundle(&believed).await;
        if bundled.is_ok() && held.published().is_none() {
            self.mark_published(&mut held, now).await?;
        }
        let signs = Authority { certificate: &authority.certificate, published: held.published() };
        let mut expiries = Expiries::new();
        expiries.insert(self.settings.authority.clone(), authority.certificate.ends);
        for (leaf, (name, subject)) in held.leaves.iter_mut().zip(&self.settings.leaves) {
            let current = Pair::in_data(leaf.data());
            let due = plan::leaf_due(current.as_ref(), subject, signs, &believed, now);
            let pair = match (due, current) {
                (None, Some(current)) => current,
                (due, _) => {
                    let made = issue::leaf(&authority, subject, now);
                    let made = made.map_err(|why| not_issued(name, why))?;
                    self.put(leaf, &made, &believed, due).await?;
                    made
                }
            };
            expiries.insert(name.clone(), pair.certificate.ends);
        }
        bundled?;
        Ok(expiries)
    }

    async fn read(&self) -> Result<Held, StoreError> {
        let authority = self.store.read(&self.settings.authority).await?;
        let leaves = self.settings.leaves.iter().map(|(name, _)| self.store.read(name));
        Ok(Held { authority, leaves: futures::future::try_join_all(leaves).await? })
    }

    /// The authority that signs, made where there must be a new one.
    async fn authority(&self, held: &mut Held, now: Timestamp) -> Result<Pair, KeepError> {
        let current = Pair::in_data(held.authority.data());
        let due = plan::authority_due(current.as_ref(), now);
        let (None, Some(current)) = (due, current) else {
            let name = &self.settings.authority;
            let made = issue::authority(now).map_err(|why| not_issued(name, why))?;
            let believed = held.believed(&made.certificate, now);
            let is_first = held.pairs().next().is_none();
            let annotations = held.authority.annotations_mut();
            annotations.remove(PUBLISHED);
            if is_first {
                // There is nobody to wait for.
                annotations.insert(PUBLISHED.to_owned(), now.to_string());
            }
            self.put(&mut held.authority, &made, &believed, due).await?;
            return Ok(made);
        };
        Ok(current)
    }

    async fn put(
        &self,
        stored: &mut Stored,
        pair: &Pair,
        believed: &[Certificate],
        due: Option<Due>,
    ) -> Result<(), StoreError> {
        pair.put_into(stored.data_mut());
        stored.data_mut().insert(AUTHORITIES.to_owned(), bundle_of(believed));
        self.store.write(stored).await?;
        let (secret, ends) = (stored.name(), pair.certificate.ends);
        tracing::info!(secret, %ends, why = due.map(Due::why), "a certificate was made");
        Ok(())
    }

    /// Tells everyone whom to believe, before anyone shows what a new authority signed.
    async fn publish(&self, held: &mut Held, believed: &[Certificate]) -> Result<(), StoreError> {
        let bundle = bundle_of(believed);
        // A Secret without a certificate gets all at once.
        let in_use = held.leaves.iter_mut().filter(|leaf| Pair::in_data(leaf.data()).is_some());
        for stored in in_use.chain([&mut held.authority]) {
            if stored.data().get(AUTHORITIES) != Some(&bundle) {
                stored.data_mut().insert(AUTHORITIES.to_owned(), bundle.clone());
                self.store.write(stored).await?;
                tracing::info!(secret = stored.name(), "authorities were published");
            }
        }
        Ok(())
    }

    /// Tells the API server, where that is wanted.
    async fn bundle(&self, believed: &[Certificate]) -> Result<(), StoreError> {
        let Some(name) = &self.settings.api_service else { return Ok(()) };
        match self.store.bundle(name, &bundle_of(believed)).await? {
            Bundled::Foreign(whose) => self.tell_of_foreign(name, &whose),
            Bundled::Written => tracing::info!(name, "authorities were published"),
            Bundled::Same => {}
        }
        Ok(())
    }

    async fn mark_published(&self, held: &mut Held, now: Timestamp) -> Result<(), StoreError> {
        held.authority.annotations_mut().insert(PUBLISHED.to_owned(), now.to_string());
        self.store.write(&mut held.authority).await?;
        tracing::info!("everyone has been told of the authority");
        Ok(())
    }

    fn tell_of_foreign(&self, name: &str, whose: &str) {
        if !self.has_told_of_foreign.swap(true, Ordering::Relaxed) {
            tracing::warn!(name, whose, "the APIService is somebody else's, and left alone");
        }
    }
}

impl Held {
    /// What the Secrets have that can be used.
    fn pairs(&self) -> impl Iterator<Item = Pair> {
        self.leaves.iter().filter_map(|leaf| Pair::in_data(leaf.data()))
    }

    fn believed(&self, authority: &Certificate, now: Timestamp) -> Vec<Certificate> {
        let mut known = authorities_in(self.authority.data());
        known.extend(Pair::in_data(self.authority.data()).map(|pair| pair.certificate));
        for leaf in &self.leaves {
            // Where the authority's Secret was emptied, its certificates say whom to believe.
            let Some(own) = Pair::in_data(leaf.data()) else { continue };
            let signed = authorities_in(leaf.data()).into_iter();
            known.extend(signed.filter(|one| own.certificate.is_signed_by(one)));
        }
        let leaves: Vec<_> = self.pairs().map(|pair| pair.certificate).collect();
        plan::believed(authority, &known, &leaves.iter().collect::<Vec<_>>(), now)
    }

    fn published(&self) -> Option<Timestamp> {
        self.authority.annotations()?.get(PUBLISHED)?.parse().ok()
    }
}

fn not_issued(secret: &str, why: IssueError) -> KeepError {
    KeepError::Issue { secret: secret.to_owned(), why }
}
