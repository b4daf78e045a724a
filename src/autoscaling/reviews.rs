//! What only the API server knows: whose a token is, and who may do what.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::{GROUP, VERSION};

const REVIEW_DEADLINE: Duration = Duration::from_secs(3);

/// Who calls, as Kubernetes knows users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else an authenticator said.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// A metric's values.
    Metric {
        /// For the pods of this namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// What is at that path.
    Path(String),
}

impl fmt::Display for Attributes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metric { namespace, name } => {
                write!(formatter, "list {name} in group {GROUP} in namespace {namespace}")
            }
            Self::Path(path) => write!(formatter, "get {path}"),
        }
    }
}

/// Whoever knows callers: the API server, or a stand-in.
pub trait Reviewer: Send + Sync + 'static {
    /// Whose token it is; `None` where it is nobody's.
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Caller>, String>>;

    /// Whether the caller may.
    fn authorize<'a>(
        &'a self,
        caller: &'a Caller,
        asked: &'a Attributes,
    ) -> BoxFuture<'a, Result<bool, String>>;
}

/// The API server. It must let filmgate create TokenReviews and SubjectAccessReviews
/// (`system:auth-delegator`).
pub struct ApiServer {
    tokens: Api<TokenReview>,
    rights: Api<SubjectAccessReview>,
}

impl ApiServer {
    /// That API server.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self { tokens: Api::all(client.clone()), rights: Api::all(client.clone()) }
    }

    async fn whose(&self, token: &str) -> Result<Option<Caller>, kube::Error> {
        // No audience: the API server's own, as for every caller of its APIs.
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = self.tokens.create(&PostParams::default(), &review).await?.status;
        let status = status.filter(|status| status.authenticated == Some(true));
        Ok(status.and_then(|status| status.user).and_then(Caller::of))
    }

    async fn may(&self, caller: &Caller, asked: &Attributes) -> Result<bool, kube::Error> {
        let spec = review(caller, asked);
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let status = self.rights.create(&PostParams::default(), &review).await?.status;
        Ok(status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

impl Caller {
    fn of(user: UserInfo) -> Option<Self> {
        let (groups, extra) = (user.groups.unwrap_or_default(), user.extra.unwrap_or_default());
        Some(Self { user: user.username?, groups, extra })
    }
}

fn review(caller: &Caller, asked: &Attributes) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(caller.user.clone()),
        groups: Some(caller.groups.clone()),
        extra: Some(caller.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match asked {
        Attributes::Metric { namespace, name } => {
            spec.resource_attributes = Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                version: Some(VERSION.to_owned()),
                namespace: Some(namespace.clone()),
                resource: Some(name.clone()),
                verb: Some("list".to_owned()),
                ..ResourceAttributes::default()
            });
        }
        Attributes::Path(path) => {
            let (path, verb) = (Some(path.clone()), Some("get".to_owned()));
            spec.non_resource_attributes = Some(NonResourceAttributes { path, verb });
        }
    }
    spec
}

impl Reviewer for ApiServer {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Caller>, String>> {
        Box::pin(in_time(self.whose(token)))
    }

    fn authorize<'a>(
        &'a self,
        caller: &'a Caller,
        asked: &'a Attributes,
    ) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(in_time(self.may(caller, asked)))
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(REVIEW_DEADLINE, asked).await {
        Ok(answer) => answer.map_err(|error| format!("the API server: {error}")),
        Err(_) => Err(format!("the API server: no answer in {} s", REVIEW_DEADLINE.as_secs())),
    }
}
