//! What the ledger noticed of bound pods, told: in counters, and to the pods' owners.

use super::Gate;
use crate::engine::Ledger;

impl Gate {
    /// Tells what came up. Only who answers tells: of several extenders, one.
    pub(super) fn tell_notices(&self) {
        // They mostly do not, and a look needs no write lock.
        if self.check_answering().is_err() || !self.with_ledger(Ledger::has_notices) {
            return;
        }
        let notices = {
            let mut ledger = self.write();
            ledger.take_notices(self.clock.now())
        };
        for notice in &notices {
            self.metrics.notice(notice);
            if let Some(pod) = notice.pod() {
                tracing::info!(%pod, uid = %pod.uid, reason = notice.reason(), "{notice}");
                self.writer.report_notice(pod, notice);
            }
        }
    }
}
