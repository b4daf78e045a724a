//! A call's body, whole or not at all.

use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// Longer than allowed.
    #[error("the body is longer than maxBodyBytes ({0} bytes)")]
    TooLong(usize),
    /// It did not come in time.
    #[error("the body did not come within {:.1} s", .0.as_secs_f64())]
    TooSlow(Duration),
    /// The connection broke.
    #[error("the body broke off: {0}")]
    Broken(String),
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        };
        super::problem(status, self)
    }
}

pub(super) async fn read(
    request: Request,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes, BodyError> {
    let body = Limited::new(request.into_body(), limit);
    let whole = tokio::time::timeout(deadline, body.collect()).await;
    match whole.map_err(|_| BodyError::TooSlow(deadline))? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLong(limit)),
        Err(error) => Err(BodyError::Broken(error.to_string())),
    }
}
