//! What the ledger noticed of bound pods, told: in counters, and to the pods' owners.

use super::Gate;
use crate::engine::Ledger;
use crate::engine::notice::Notice;
use crate::extender::Mode;

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
        for notice in notices.iter().filter(|notice| self.concerns_us(notice)) {
            self.metrics.notice(notice);
            if let Some(pod) = notice.pod() {
                tracing::info!(%pod, uid = %pod.uid, reason = notice.reason(), "{notice}");
                self.writer.report_notice(pod, notice);
            }
        }
    }

    /// Other schedulers bind their own pods; and who only observes has kube-scheduler's word for it
    /// that pods are bound which he would have refused.
    fn concerns_us(&self, notice: &Notice) -> bool {
        match notice {
            Notice::BoundByAnother { scheduler, .. } => {
                *scheduler == self.settings.scheduler_name && self.settings.mode == Mode::Enforce
            }
            _ => true,
        }
    }
}
