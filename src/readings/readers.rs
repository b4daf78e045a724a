//! Who may read: whoever proves by a service account's token that it is one of those named.
//!
//! The API server says whose a token is (TokenReview). Its word is kept for a minute, so that a
//! reader which connects again costs nothing, and a token that was withdrawn is worth little longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::engine::Time;

/// How long the API server's word about a token counts.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Of a refused one, which may be a reader's before its service account was bound.
const REMEMBERED_REFUSAL: Duration = Duration::from_secs(5);
/// Tokens remembered; agents have a reader or two.
const MOST_TOKENS: usize = 256;
/// Questions to the API server at a time, whoever knocks.
const MOST_REVIEWS: usize = 4;
/// Tokens are a kilobyte or two.
const LONGEST_TOKEN: usize = 16 << 10;
const REVIEW_DEADLINE: Duration = Duration::from_secs(3);

/// Whoever tells whose a token is: the API server, or a stand-in.
pub trait Reviewer: Send + Sync + 'static {
    /// The user whose token it is; `None` where it is nobody's.
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<String>, String>>;
}

/// The API server.
pub struct TokenReviews {
    api: Api<TokenReview>,
    audience: String,
}

impl TokenReviews {
    /// Asks that API server about tokens made for that audience.
    #[must_use]
    pub fn new(client: Client, audience: String) -> Self {
        Self { api: Api::all(client), audience }
    }

    async fn ask(&self, token: &str) -> Result<Option<String>, kube::Error> {
        let audiences = Some(vec![self.audience.clone()]);
        let spec = TokenReviewSpec { token: token.to_owned(), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = self.api.create(&PostParams::default(), &review).await?.status;
        let status = status.filter(|status| status.authenticated == Some(true));
        // An API server that knows no audiences answers without them.
        let is_meant = |audiences: &Vec<String>| audiences.contains(&self.audience);
        let status = status.filter(|status| status.audiences.as_ref().is_some_and(is_meant));
        Ok(status.and_then(|status| status.user?.username))
    }
}

impl Reviewer for TokenReviews {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<String>, String>> {
        Box::pin(async move {
            let asked = tokio::time::timeout(REVIEW_DEADLINE, self.ask(token)).await;
            match asked {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {} s", REVIEW_DEADLINE.as_secs())),
            }
        })
    }
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Readers(Arc<Door>);

struct Door {
    reviewer: Box<dyn Reviewer>,
    /// Users who may read.
    allowed: Vec<String>,
    reviews: Semaphore,
    clock: Clock,
    /// Until when it counts, and what was said.
    known: Mutex<HashMap<String, (Time, bool)>>,
}

/// Why a request is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// No token.
    #[error(
        "readings are for readers with a token: send Authorization: Bearer <service account token>"
    )]
    NoToken,
    /// Nobody's token, or one of somebody else.
    #[error("the token is not one of a reader; --reader names those who may read")]
    NotAReader,
    /// Nobody can tell.
    #[error("the API server cannot be asked whose the token is: {0}")]
    Unknown(String),
}

impl Readers {
    /// Only these users may read.
    pub fn new(reviewer: impl Reviewer, allowed: Vec<String>, clock: Clock) -> Self {
        Self(Arc::new(Door {
            reviewer: Box::new(reviewer),
            allowed,
            reviews: Semaphore::new(MOST_REVIEWS),
            clock,
            known: Mutex::default(),
        }))
    }

    /// Whether the bearer of this header may read.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self, authorization: Option<&str>) -> Result<(), TurnedAway> {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
        let token =
            token.filter(|token| token.len() <= LONGEST_TOKEN).ok_or(TurnedAway::NoToken)?;
        let may_read = match self.0.remembered(token) {
            Some(may_read) => may_read,
            None => self.0.review(token).await?,
        };
        if may_read { Ok(()) } else { Err(TurnedAway::NotAReader) }
    }
}

impl Door {
    fn remembered(&self, token: &str) -> Option<bool> {
        let known = self.known.lock();
        let (until, may_read) = known.get(token)?;
        (*until > self.clock.now()).then_some(*may_read)
    }

    async fn review(&self, token: &str) -> Result<bool, TurnedAway> {
        let Ok(_permit) = self.reviews.acquire().await else {
            return Err(TurnedAway::Unknown("the agent is shutting down".into()));
        };
        // Whoever waited may find it answered.
        if let Some(may_read) = self.remembered(token) {
            return Ok(may_read);
        }
        let user = self.reviewer.review(token).await.map_err(TurnedAway::Unknown)?;
        let may_read = user.is_some_and(|user| self.allowed.contains(&user));
        self.remember(token, may_read);
        Ok(may_read)
    }

    fn remember(&self, token: &str, may_read: bool) {
        let now = self.clock.now();
        let mut known = self.known.lock();
        if known.len() >= MOST_TOKENS {
            known.retain(|_, (until, may_read)| *until > now && *may_read);
        }
        if known.len() < MOST_TOKENS {
            let lasts = if may_read { REMEMBERED } else { REMEMBERED_REFUSAL };
            known.insert(token.to_owned(), (now + lasts, may_read));
        }
    }
}

/// Lets readers through, and health checks.
pub async fn at_the_door(State(readers): State<Readers>, request: Request, next: Next) -> Response {
    if request.uri().path() == "/healthz" {
        return next.run(request).await;
    }
    let header = request.headers().get(header::AUTHORIZATION);
    match readers.check(header.and_then(|value| value.to_str().ok())).await {
        Ok(()) => next.run(request).await,
        Err(why) => why.into_response(),
    }
}

impl IntoResponse for TurnedAway {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::NotAReader => StatusCode::FORBIDDEN,
            Self::Unknown(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = Json(serde_json::json!({ "error": self.to_string() }));
        let mut response = (status, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let bearer = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

#[cfg(test)]
mod tests;
