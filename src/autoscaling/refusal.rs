//! Why a caller gets no answer, in the form in which Kubernetes' clients show it.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use super::catalogue::METRICS;
use super::reviews::{Attributes, Caller};
use crate::extender::gate::GateError;

/// Why a caller gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody knows who calls.
    #[error("who calls is not known: {0}")]
    Unauthenticated(String),
    /// The caller has no right to it.
    #[error("{} may not {asked}", caller.user)]
    Forbidden {
        /// Who calls.
        caller: Caller,
        /// What for.
        asked: Attributes,
    },
    /// No metric has that name.
    #[error("there is no metric {0:?}; there are {known}", known = names())]
    UnknownMetric(String),
    /// There is nothing at that path.
    #[error("there is no {0}")]
    UnknownPath(String),
    /// The label selector is none.
    #[error("labelSelector: {0}")]
    BadSelector(String),
    /// The metric is not of pods.
    #[error("labelSelector: {0} is of the whole fleet and takes no selector: leave it out")]
    NoSelector(&'static str),
    /// This replica cannot tell yet, or no more.
    #[error("{0}")]
    NotReady(GateError),
    /// Somebody who was asked did not answer.
    #[error("cannot tell now: {0}")]
    Unanswered(String),
}

fn names() -> String {
    METRICS.map(|metric| metric.name).join(", ")
}

impl Refusal {
    /// The status, and Kubernetes' word for it.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::UnknownMetric(_) | Self::UnknownPath(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::BadSelector(_) | Self::NoSelector(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::NotReady(_) | Self::Unanswered(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, reason) = self.status();
        let body = Status {
            status: Some("Failure".to_owned()),
            code: Some(i32::from(code.as_u16())),
            reason: Some(reason.to_owned()),
            message: Some(self.to_string()),
            ..Status::default()
        };
        let mut response = (code, Json(body)).into_response();
        if code == StatusCode::UNAUTHORIZED {
            let bearer = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
