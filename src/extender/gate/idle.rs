//! Keeps the marks on idle nodes, where that is wanted.

use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use crate::engine::{IdleMark, NodeName};

/// Rounds are this far apart.
const PAUSE: Duration = Duration::from_secs(1);
/// After a write that failed, which for lack of the right all do.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);
/// A fleet that falls idle at once is marked at leisure.
const MOST_PER_ROUND: usize = 8;
/// A Binding waits no longer for the mark to go.
const UNMARK_LIMIT: Duration = Duration::from_secs(1);

impl Gate {
    /// Runs until [`Gate::drain`]; returns at once where no node is to be marked.
    pub async fn mark_idle_nodes(self: Arc<Self>) {
        let Some(after) = self.settings.annotate_idle_after else { return };
        while !self.stop.is_cancelled() {
            let pause = match self.write_due_marks(after).await {
                Ok(()) => PAUSE,
                Err(why) => {
                    tracing::warn!(%why, "an idle node cannot be marked; trying again later");
                    PAUSE_AFTER_FAILURE
                }
            };
            self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    async fn write_due_marks(&self, after: Duration) -> Result<(), String> {
        if self.check_answering().is_err() {
            return Ok(());
        }
        let now = self.clock.now();
        let due = self.with_ledger(|ledger| ledger.idle_marks_due(after, now));
        for mark in due.iter().take(MOST_PER_ROUND) {
            self.write_mark(mark).await?;
        }
        Ok(())
    }

    /// Takes the mark off the node before a pod is bound to it: whoever removes idle nodes must not
    /// find it on one that is used. A mark that cannot be taken off keeps no pod waiting.
    pub(super) async fn unmark(&self, node: &NodeName) {
        if self.settings.annotate_idle_after.is_none() {
            return;
        }
        let marked = self.with_ledger(|ledger| ledger.idle_mark_on(node.as_str()));
        let Some(mark) = marked else { return };
        let removed = tokio::time::timeout(UNMARK_LIMIT, self.write_mark(&mark)).await;
        if let Err(why) = removed.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            tracing::warn!(%node, %why, "the node is marked as idle though a pod is bound to it");
        }
    }

    /// One at a time, so that a mark on its way is there before it is taken off.
    async fn write_mark(&self, mark: &IdleMark) -> Result<(), String> {
        let _one_at_a_time = self.marking.lock().await;
        let is_written = mark.idle_for.is_some();
        // A pod may have come since: what is admitted from now on finds the node marked.
        if is_written && !self.write().note_idle_mark(mark, self.clock.now()) {
            return Ok(());
        }
        self.writer.mark_idle(mark).await?;
        if !is_written {
            self.write().note_idle_mark(mark, self.clock.now());
        }
        tracing::debug!(node = %mark.node, idle_for = ?mark.idle_for, "idle mark");
        Ok(())
    }
}
