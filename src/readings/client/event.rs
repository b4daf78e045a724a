//! What the streams tell, and why they cannot.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::engine::{AgentRun, NodeName, Reading, Time};
use crate::readings::protocol::ProtocolError;

/// What the ledger should know.
#[derive(Debug)]
pub enum Event {
    /// A reading that is newer than those before.
    Arrival(Arrival),
    /// A newer sampling that showed the same.
    Heartbeat(Heartbeat),
    /// No readings come from this node at present.
    Lost(Lost),
}

/// A reading came in.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The reading; its figures are not checked yet.
    pub reading: Arc<Reading>,
    /// When it was received.
    pub received_at: Time,
    /// The sampling began after this moment: known where the reading answers a question.
    pub began_after: Option<Time>,
}

/// An agent sampled and nothing had moved since the last [`Arrival`].
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The node.
    pub node: NodeName,
    /// The agent's run.
    pub agent: AgentRun,
    /// The sampling's number.
    pub sampling: u64,
    /// When it was received.
    pub received_at: Time,
}

/// A stream ended, or could not be had. It is tried again unless the node's endpoint is gone. News
/// for people and counters: what the last reading is worth, its age decides.
#[derive(Debug)]
pub struct Lost {
    /// The node.
    pub node: NodeName,
    /// Why.
    pub why: LostReason,
    /// When.
    pub at: Time,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum LostReason {
    /// Nobody answers at the URL, or the connection broke.
    #[error("cannot read from the agent at {url}: {why}")]
    Unreachable {
        /// The URL.
        url: Url,
        /// The error and its causes.
        why: String,
    },
    /// The agent says no.
    #[error("the agent answered {status}: {text}{}", remedy(*.status))]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// The agent ended the stream.
    #[error("the agent ended the stream")]
    Ended,
    /// Nothing came for `staleAfter`.
    #[error("nothing came from the agent for {:.1} s", .0.as_secs_f64())]
    Silent(Duration),
    /// This process did not run, or was too busy to read: what waits in the socket may be old.
    #[error("this process did not read for {:.1} s (stopped or overloaded)", .0.as_secs_f64())]
    Paused(Duration),
    /// A line without end.
    #[error("the agent sent a line longer than {0} bytes")]
    LineTooLong(usize),
    /// The agent says what it should not.
    #[error("the agent {0}")]
    Protocol(#[from] ProtocolError),
    /// Its endpoint vanished.
    #[error("the agent's endpoint is gone")]
    Withdrawn,
}

impl LostReason {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Ended => "ended",
            Self::Silent(_) => "silent",
            Self::Paused(_) => "paused",
            Self::LineTooLong(_) => "line_too_long",
            Self::Protocol(ProtocolError::Malformed(_)) => "malformed",
            Self::Protocol(ProtocolError::Version(_)) => "version",
            Self::Protocol(ProtocolError::WrongNode(_)) => "wrong_node",
            Self::Protocol(ProtocolError::OutOfStep { .. }) => "out_of_step",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub(super) fn unreachable(url: &Url, error: &dyn Error) -> Self {
        let mut why = error.to_string();
        let mut cause = error.source();
        let mut is_distrusted = false;
        while let Some(deeper) = cause {
            why = format!("{why}: {deeper}");
            is_distrusted |= is_about_a_certificate(deeper);
            cause = deeper.source();
        }
        if is_distrusted {
            why += "; agents.tls.caFile has to hold the authority that signed the agent's \
                    certificate, and agents.tls.serverName the name in it";
        }
        Self::Unreachable { url: url.clone(), why }
    }
}

/// What a reader can do about an answer that turns it away.
fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "; agents.tls.tokenFile has to hold a token of such a reader, made for the agent's \
             --audience"
        }
        _ => "",
    }
}

fn is_about_a_certificate(error: &(dyn Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // These do not count what they hold as their cause.
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    held.is_some_and(|held| is_about_a_certificate(held))
}

/// Why "sample now" has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SampleNowError {
    /// No agent is known for the node.
    #[error("no agent is known for node {0}")]
    NoAgent(NodeName),
    /// No answer in time.
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// As with a stream.
    #[error(transparent)]
    Failed(#[from] LostReason),
    /// The answer is no newer than what was known before the question: no evidence.
    #[error("the agent answered with sampling {0}, which was known before it was asked")]
    NotNew(u64),
}
