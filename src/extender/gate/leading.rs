//! Whether this replica leads, and the gate's part in taking over.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Gate, GateError};
use crate::engine::Time;

/// How often it is looked whether the nodes were read.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The gate's knowledge of who leads.
#[derive(Debug, Default)]
pub(super) struct Leading {
    reign: Mutex<Reign>,
    /// A call came while this replica stood by.
    pub(super) called_in_vain: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
enum Reign {
    /// There is no other replica.
    #[default]
    Alone,
    /// Another leads, or nobody.
    StandBy,
    /// Until then, by the gate's clock, whether or not anyone says that it is over.
    Until(Time),
}

impl Gate {
    /// Whether this replica leads now.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        match *self.leading.reign.lock() {
            Reign::Alone => true,
            Reign::StandBy => false,
            Reign::Until(until) => self.now() < until,
        }
    }

    /// No Binding is begun from now on. Those under way go on.
    pub fn stand_by(&self) {
        let _no_admission_under_way = self.write();
        *self.leading.reign.lock() = Reign::StandBy;
    }

    /// This replica leads until then. To be called when it has taken over, and for each renewal.
    pub fn lead_until(&self, until: Time) {
        *self.leading.reign.lock() = Reign::Until(until);
        self.changed.notify_one();
    }

    /// Returns when no Binding is under way.
    pub async fn bindings_ended(&self) {
        self.binds.wait().await;
    }

    /// From now on only samplings that begin later say what is free: to be called when the ledger
    /// knows what earlier leaders did. Returns when the nodes were read again, or after `at_most`;
    /// those that were not are refused until they are.
    pub async fn read_again(&self, at_most: Duration) {
        self.tell(|ledger, now| ledger.distrust_readings(now));
        let all_read = async {
            while self.with_ledger(|ledger| ledger.distrusted()) > 0 {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        if tokio::time::timeout(at_most, all_read).await.is_err() {
            let nodes = self.with_ledger(|ledger| ledger.distrusted());
            tracing::warn!(nodes, "not read again yet: refused until they are");
        }
    }

    /// Returns when a call comes while this replica stands by.
    pub async fn called_in_vain(&self) {
        self.leading.called_in_vain.notified().await;
    }

    /// What a probe is told.
    ///
    /// # Errors
    /// Why this replica is not ready.
    pub fn check_ready(&self) -> Result<(), GateError> {
        match self.check_answering() {
            Err(GateError::NotLeading) if self.settings.standby_is_ready => Ok(()),
            checked => checked,
        }
    }
}
