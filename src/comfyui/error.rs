//! Why a ComfyUI's answer is none.

use std::time::Duration;

use crate::engine::Bytes;
use crate::engine::comfyui::Trouble;

/// What can come of asking, as label of a metric: `ok`, and each [`AskError::reason`].
pub const OUTCOMES: [&str; 9] = [
    "ok",
    "unreachable",
    "timed_out",
    "redirect",
    "status",
    "not_json",
    "too_large",
    "missing",
    "impossible",
];

/// Why a ComfyUI's answer is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no connection, or it broke.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no whole answer within {0:?}")]
    TimedOut(Duration),
    /// It sends us elsewhere.
    #[error("{path} answers {status}: redirects are not followed")]
    Redirect {
        /// What was asked.
        path: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// It refuses.
    #[error("{path} answers {status}")]
    Status {
        /// What was asked.
        path: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// It is something else than ComfyUI, or a page of a proxy before it.
    #[error("{path} answers with what is no JSON (its type: {content_type}): is this its port?")]
    NotJson {
        /// What was asked.
        path: &'static str,
        /// What the answer says that it is.
        content_type: String,
    },
    /// Its answer does not end.
    #[error("{path} answers with more than {most}")]
    TooLarge {
        /// What was asked.
        path: &'static str,
        /// The most that is read.
        most: Bytes,
    },
    /// It is JSON of something else.
    #[error("{path} answers without {key}: is this ComfyUI's port?")]
    Missing {
        /// What was asked.
        path: &'static str,
        /// What is not there.
        key: &'static str,
    },
    /// A figure that cannot be.
    #[error("{path} answers {key}: {value}, which {problem}")]
    Impossible {
        /// What was asked.
        path: &'static str,
        /// Where.
        key: String,
        /// What stands there, shortened.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl AskError {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::Redirect { .. } => "redirect",
            Self::Status { .. } => "status",
            Self::NotJson { .. } => "not_json",
            Self::TooLarge { .. } => "too_large",
            Self::Missing { .. } => "missing",
            Self::Impossible { .. } => "impossible",
        }
    }
}

impl From<AskError> for Trouble {
    fn from(error: AskError) -> Self {
        Self { code: error.reason(), text: error.to_string().into() }
    }
}
