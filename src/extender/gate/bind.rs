//! Bind: admission, the Binding, and what becomes of it.
//!
//! A Binding that was begun is seen to its end in a task of its own, whether or not kube-scheduler
//! still listens. Where nobody knows the outcome the charge stays, and a fence finds it out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Gate, GateError, Mode};
use crate::engine::request::BadRequest;
use crate::engine::{
    Admission, AdmitError, HoldOutcome, NodeName, PodFacts, PodRef, PodUid, Reason,
};
use crate::extender::writer::{BindOutcome, FenceOutcome};

/// A writer that ignores its deadline is cut off this much later: the outcome is then unknown.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);
/// Waits between tries to read a pod.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// What kube-scheduler asks to bind.
#[derive(Debug, Clone)]
pub struct BindOrder {
    /// The pod.
    pub pod: PodRef,
    /// The node.
    pub node: NodeName,
}

/// Why a pod was not bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Nothing can be said now.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The name is another pod's by now.
    #[error("pod {pod} has UID {is}, not {asked}: it is another pod")]
    OtherPod {
        /// Namespace and name.
        pod: String,
        /// The UID it has.
        is: PodUid,
        /// The UID that was to be bound.
        asked: PodUid,
    },
    /// The API server does not say what the pod is.
    #[error("pod {0} cannot be read: {1}")]
    Unreadable(String, String),
    /// It is not admitted.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// It does not fit there (any more).
    #[error("{}", .0.text())]
    Refused(Reason),
    /// The API server refused the Binding.
    #[error("the API server refused the Binding: {0}")]
    RefusedByApi(String),
    /// Someone else decided about the pod.
    #[error("the pod was decided about elsewhere: {0}")]
    Superseded(String),
    /// Nobody knows whether it is bound.
    #[error("the outcome of the Binding is not known yet: {0}")]
    Unknown(String),
    /// A defect of ours.
    #[error("filmgate failed while binding")]
    Defect,
}

impl BindError {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Gate(error) => error.reason(),
            Self::OtherPod { .. } => "other_pod",
            Self::Unreadable(..) => "unreadable",
            Self::BadRequest(_) => Reason::BadRequest.label(),
            Self::Refused(reason) => reason.label(),
            Self::RefusedByApi(_) => "refused",
            Self::Superseded(_) => "superseded",
            Self::Unknown(_) => "unknown",
            Self::Defect => "defect",
        }
    }
}

impl From<AdmitError> for BindError {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::UnknownPod => Self::Gate(GateError::NotReady),
            AdmitError::BadRequest(bad) => Self::BadRequest(bad),
            AdmitError::InFlight => Self::Gate(GateError::InFlight),
            AdmitError::AlreadyBound(node) => Self::Gate(GateError::AlreadyBound(node)),
            AdmitError::Refused(reason) => Self::Refused(reason),
        }
    }
}

/// What is to be sent to the API server.
enum Permit {
    /// The ledger let it through.
    Admitted(Admission),
    /// It is none of the ledger's business.
    Plain(Admission),
    /// The pod is bound there already.
    Done,
}

impl Gate {
    /// Binds the pod to the node if it is admitted there. The work goes on when the caller is
    /// dropped.
    ///
    /// # Errors
    /// Why the pod is not bound, or not known to be.
    pub async fn bind(self: &Arc<Self>, order: BindOrder) -> Result<(), BindError> {
        let in_flight = self.binds.token();
        let (gate, pod) = (Arc::clone(self), order.pod.clone());
        let task = tokio::spawn(async move {
            let _in_flight = in_flight;
            gate.bind_to_end(order).await
        });
        match task.await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.doubt(&pod);
                Err(BindError::Defect)
            }
        }
    }

    async fn bind_to_end(self: &Arc<Self>, order: BindOrder) -> Result<(), BindError> {
        let deadline = Instant::now() + self.settings.bind_timeout;
        self.check_call()?;
        let asks_for_gpu = self.make_known(&order.pod).await?;
        let (admission, is_charged) = match self.permit(&order, asks_for_gpu)? {
            Permit::Done => return Ok(()),
            Permit::Plain(admission) => (admission, false),
            Permit::Admitted(admission) => (admission, true),
        };
        if is_charged {
            self.unmark(&order.node).await;
        }
        let outcome = self.send(&admission, &order.node, deadline).await;
        self.metrics.bind_outcome(&outcome);
        let result = self.conclude_bind(&order.pod, &outcome, is_charged);
        log(&order, &admission, &result);
        result
    }

    async fn send(&self, admission: &Admission, node: &NodeName, until: Instant) -> BindOutcome {
        let left = until.saturating_duration_since(Instant::now());
        let sent = self.writer.bind(admission, node, left);
        let cut = tokio::time::timeout(left + DEADLINE_GRACE, sent).await;
        cut.unwrap_or_else(|_| BindOutcome::Unknown("no answer in time".to_owned()))
    }

    /// The ledger knows the pod afterwards, if it asks for a GPU.
    async fn make_known(&self, pod: &PodRef) -> Result<bool, BindError> {
        if self.with_ledger(|ledger| ledger.pod(&pod.uid).is_some()) {
            return Ok(true);
        }
        let read = self.writer.get(pod);
        let read = tokio::time::timeout(self.settings.bind_timeout / 2, read).await;
        let read = read.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match read.map_err(|why| BindError::Unreadable(pod.to_string(), why))? {
            None => Ok(false),
            Some(facts) if facts.id.uid != pod.uid => Err(BindError::OtherPod {
                pod: pod.to_string(),
                is: facts.id.uid,
                asked: pod.uid.clone(),
            }),
            Some(facts) => {
                self.apply_pod(facts);
                Ok(true)
            }
        }
    }

    /// Decides under the ledger's lock, under which a drain begins, too, and a leader's end.
    fn permit(&self, order: &BindOrder, asks_for_gpu: bool) -> Result<Permit, BindError> {
        let mut ledger = self.write();
        self.check_answering()?;
        if !asks_for_gpu {
            return Ok(Permit::Plain(plain(&order.pod)));
        }
        let (uid, node, now) = (&order.pod.uid, order.node.as_str(), self.clock.now());
        let admitted = match self.settings.mode {
            Mode::Enforce => ledger.admit(uid, node, now),
            Mode::Observe => ledger.admit_unchecked(uid, node, now).map(|(admission, refusal)| {
                self.metrics.observed_refusals(&[refusal]);
                admission
            }),
        };
        match admitted {
            Ok(admission) => Ok(Permit::Admitted(admission)),
            Err(AdmitError::AlreadyBound(at)) if at == order.node => Ok(Permit::Done),
            Err(AdmitError::BadRequest(_)) if self.settings.mode == Mode::Observe => {
                Ok(Permit::Plain(plain(&order.pod)))
            }
            Err(error) => {
                self.metrics.bind_conflict(&error);
                Err(error.into())
            }
        }
    }

    fn conclude_bind(
        self: &Arc<Self>,
        pod: &PodRef,
        outcome: &BindOutcome,
        is_charged: bool,
    ) -> Result<(), BindError> {
        let uid = &pod.uid;
        match outcome {
            BindOutcome::Bound => {
                self.tell(|ledger, now| ledger.bound(uid, now));
                Ok(())
            }
            BindOutcome::Refused(why) => {
                self.tell(|ledger, now| ledger.not_bound(uid, now));
                Err(BindError::RefusedByApi(why.clone()))
            }
            BindOutcome::Superseded(why) => {
                if is_charged {
                    self.spawn_settling(pod, Settling::Look);
                }
                Err(BindError::Superseded(why.clone()))
            }
            BindOutcome::Unknown(why) => {
                if is_charged {
                    self.doubt(pod);
                }
                Err(BindError::Unknown(why.clone()))
            }
        }
    }

    /// The charge stays until a fence tells whether the pod is bound.
    fn doubt(self: &Arc<Self>, pod: &PodRef) {
        let is_binding = {
            let mut ledger = self.write();
            ledger.doubt(&pod.uid);
            ledger.is_binding(&pod.uid)
        };
        if is_binding {
            self.spawn_settling(pod, Settling::Fence);
        }
    }

    fn spawn_settling(self: &Arc<Self>, pod: &PodRef, how: Settling) {
        let (gate, pod) = (Arc::clone(self), pod.clone());
        tokio::spawn(async move {
            let stop = gate.stop.clone();
            stop.run_until_cancelled(gate.settle(&pod, how)).await;
        });
    }

    /// Asks the API server what became of the pod, until it answers.
    async fn settle(&self, pod: &PodRef, how: Settling) {
        let found = match how {
            Settling::Fence => self.writer.fence(pod).await,
            Settling::Look => self.look(pod).await,
        };
        let is_ours = |facts: &PodFacts| facts.id.uid == pod.uid;
        self.tell(|ledger, now| match found {
            FenceOutcome::Bound(facts) if is_ours(&facts) => ledger.apply_pod(facts, now),
            FenceOutcome::Unbound(facts) if is_ours(&facts) => {
                ledger.apply_pod(facts, now);
                ledger.not_bound(&pod.uid, now);
            }
            // Gone, or another pod has its name. It may have been bound in between.
            _ => ledger.delete_pod(&pod.uid, None, now),
        });
        tracing::info!(%pod, uid = %pod.uid, "the pod's Binding is settled");
    }

    /// Our Binding cannot commit any more; the charge ends when its pod has been looked at.
    async fn look(&self, pod: &PodRef) -> FenceOutcome {
        let mut wait = FIRST_RETRY;
        loop {
            match self.writer.get(pod).await {
                Ok(Some(facts)) if facts.node.is_some() => return FenceOutcome::Bound(facts),
                Ok(Some(facts)) => return FenceOutcome::Unbound(facts),
                Ok(None) => return FenceOutcome::Gone,
                Err(why) => tracing::warn!(%pod, %why, "the pod cannot be read; trying again"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }
}

/// How the outcome of a Binding is found out.
#[derive(Debug, Clone, Copy)]
enum Settling {
    /// It may still commit: fence it off.
    Fence,
    /// It cannot commit any more: look where the pod is.
    Look,
}

/// A Binding under no other precondition than the pod's UID, with nothing written on it.
fn plain(pod: &PodRef) -> Admission {
    Admission {
        pod: pod.clone(),
        resource_version: Arc::from(""),
        ask: None,
        annotations: Vec::new(),
        hold: HoldOutcome::Missing,
    }
}

fn log(order: &BindOrder, admission: &Admission, result: &Result<(), BindError>) {
    let (pod, uid, node, hold) = (&order.pod, &order.pod.uid, &order.node, admission.hold);
    match result {
        Ok(()) => tracing::info!(%pod, %uid, %node, ?hold, "bound"),
        Err(why) => {
            tracing::warn!(%pod, %uid, %node, ?hold, reason = why.reason(), %why, "not bound");
        }
    }
}
