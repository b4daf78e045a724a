//! Who calls, and whether they may: delegated to the API server, as Kubernetes' aggregation layer
//! demands of whatever stands behind it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio::sync::{Semaphore, watch};

use super::front_proxy::FrontProxy;
use super::refusal::Refusal;
use super::remembered::Remembered;
use super::reviews::{Attributes, Caller, Reviewer};
use crate::clock::Clock;
use crate::tls::PeerCertificates;

/// How long the API server's word counts, as in Kubernetes' own extension servers.
const REMEMBERED: Duration = Duration::from_secs(10);
/// A right that was just given is not to be waited for.
const REMEMBERED_REFUSAL: Duration = Duration::from_secs(2);
/// Questions to the API server at a time, whoever knocks.
const MOST_REVIEWS: usize = 8;
/// Tokens are a kilobyte or two.
const LONGEST_TOKEN: usize = 16 << 10;

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Callers(Arc<Door>);

struct Door {
    proxy: watch::Receiver<Option<Arc<FrontProxy>>>,
    reviewer: Box<dyn Reviewer>,
    reviews: Semaphore,
    tokens: Remembered<String, Option<Caller>>,
    rights: Remembered<(Caller, Attributes), bool>,
    clock: Clock,
}

impl Callers {
    /// Those of this front proxy, and those whom the reviewer knows.
    pub fn new(
        proxy: watch::Receiver<Option<Arc<FrontProxy>>>,
        reviewer: impl Reviewer,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Door {
            proxy,
            reviewer: Box::new(reviewer),
            reviews: Semaphore::new(MOST_REVIEWS),
            tokens: Remembered::default(),
            rights: Remembered::default(),
            clock,
        }))
    }

    /// Who calls: for whom the front proxy does, else the bearer of a token.
    ///
    /// # Errors
    /// When nobody can tell.
    pub async fn identify(
        &self,
        shown: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<Caller, Refusal> {
        let by_certificate = self.0.by_certificate(shown, headers);
        if let Ok(caller) = by_certificate {
            return Ok(caller);
        }
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        match token.filter(|token| token.len() <= LONGEST_TOKEN) {
            Some(token) => self.0.by_token(token).await,
            None => by_certificate,
        }
    }

    /// Lets the caller have what it asks for.
    ///
    /// # Errors
    /// When it may not, or nobody can tell.
    pub async fn authorize(&self, caller: &Caller, asked: Attributes) -> Result<(), Refusal> {
        if self.0.may(caller, &asked).await? {
            Ok(())
        } else {
            Err(Refusal::Forbidden { caller: caller.clone(), asked })
        }
    }
}

impl Door {
    fn by_certificate(
        &self,
        shown: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<Caller, Refusal> {
        if shown.own().is_none() {
            let hint = "ask through the API server, or send Authorization: Bearer <token>";
            return Err(Refusal::Unauthenticated(hint.to_owned()));
        }
        let Some(proxy) = self.proxy.borrow().clone() else {
            let why = "the cluster's front proxy has not been read yet";
            return Err(Refusal::Unanswered(why.to_owned()));
        };
        let caller = proxy.caller(shown, headers);
        caller.map_err(|why| Refusal::Unauthenticated(format!("the client certificate: {why}")))
    }

    async fn by_token(&self, token: &str) -> Result<Caller, Refusal> {
        let question = token.to_owned();
        let caller = match self.tokens.get(&question, self.clock.now()) {
            Some(known) => known,
            None => {
                let _permit = self.reviews.acquire().await.map_err(unanswered)?;
                let caller = self.reviewer.authenticate(token).await.map_err(unanswered)?;
                let lasts = if caller.is_some() { REMEMBERED } else { REMEMBERED_REFUSAL };
                self.tokens.keep(question, caller.clone(), lasts, self.clock.now());
                caller
            }
        };
        caller.ok_or_else(|| Refusal::Unauthenticated("the token is nobody's".to_owned()))
    }

    async fn may(&self, caller: &Caller, asked: &Attributes) -> Result<bool, Refusal> {
        let question = (caller.clone(), asked.clone());
        if let Some(known) = self.rights.get(&question, self.clock.now()) {
            return Ok(known);
        }
        let _permit = self.reviews.acquire().await.map_err(unanswered)?;
        let may = self.reviewer.authorize(caller, asked).await.map_err(unanswered)?;
        let lasts = if may { REMEMBERED } else { REMEMBERED_REFUSAL };
        self.rights.keep(question, may, lasts, self.clock.now());
        Ok(may)
    }
}

fn unanswered(why: impl ToString) -> Refusal {
    Refusal::Unanswered(why.to_string())
}
