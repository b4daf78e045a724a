//! The fleet at one moment, shared by all who ask within a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::engine::outlook::Survey;
use crate::engine::{Outlook, Time};
use crate::extender::Gate;

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

/// Takes snapshots of a gate's ledger.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<Option<(Time, Arc<Snapshot>)>>);

impl Snapshots {
    /// One that is no older than [`SHARED_FOR`]; `None` when it could not be taken.
    pub(super) async fn now(&self, gate: &Arc<Gate>, clock: &Clock) -> Option<Arc<Snapshot>> {
        let mut last = self.0.lock().await;
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
