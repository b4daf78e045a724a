//! The fleet at one moment, shared by all who ask within a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::engine::outlook::Survey;
use crate::engine::{Outlook, Time};
use crate::extender::Gate;
use crate::extender::gate::GateError;

/// A HorizontalPodAutoscaler asks every 15 s, and a cluster may have hundreds of them: a ledger is
/// copied once for all that ask together.
const SHARED_FOR: Duration = Duration::from_millis(500);

/// The fleet at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The ledger.
    pub survey: Survey,
    /// What follows from it.
    pub outlook: Outlook,
}

/// What autoscalers are told from: snapshots of a gate's ledger. Cheap to clone.
#[derive(Clone)]
pub struct Figures(Arc<Source>);

struct Source {
    gate: Arc<Gate>,
    clock: Clock,
    last: Mutex<Option<(Time, Arc<Snapshot>)>>,
}

impl Figures {
    /// Those of that gate, by its clock.
    #[must_use]
    pub fn of(gate: Arc<Gate>, clock: Clock) -> Self {
        Self(Arc::new(Source { gate, clock, last: Mutex::default() }))
    }

    /// A standby knows the fleet as the leader does: whether this replica leads.
    pub(super) fn check_knowing(&self) -> Result<bool, GateError> {
        match self.0.gate.check_answering() {
            Ok(()) => Ok(true),
            Err(GateError::NotLeading) => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// A snapshot that is no older than [`SHARED_FOR`]; `None` when it could not be taken.
    pub(super) async fn now(&self) -> Option<Arc<Snapshot>> {
        let Source { gate, clock, last } = &*self.0;
        let mut last = last.lock().await;
        let is_young = |(until, _): &&(Time, Arc<Snapshot>)| clock.now() < *until;
        if let Some((_, snapshot)) = last.as_ref().filter(is_young) {
            return Some(Arc::clone(snapshot));
        }
        let (until, gate) = (clock.now() + SHARED_FOR, Arc::clone(gate));
        // A large fleet's outlook takes a while, and calls are not to wait for it.
        let taken = tokio::task::spawn_blocking(move || {
            let survey = gate.survey();
            Arc::new(Snapshot { outlook: Outlook::of(&survey), survey })
        });
        let taken = taken.await.ok()?;
        *last = Some((until, Arc::clone(&taken)));
        Some(taken)
    }
}
