//! Marks on nodes whose GPUs nobody uses, for whoever removes nodes. No decision depends on them.
//!
//! A mark is due when the node has been idle for long enough. It goes when anybody has, or is
//! promised, anything there: a hold is enough, so that it is gone before the pod is bound. Of a node
//! that nobody has read of late nothing is known: what is on it stays.

use std::time::Duration;

use super::{Ledger, Node};
use crate::engine::{NodeName, NodeUid, Time};

/// A mark that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleMark {
    /// The node.
    pub node: NodeName,
    /// Its UID.
    pub uid: NodeUid,
    /// For how long it has been idle, which is to be written on it; `None`: it is used, and the
    /// mark is to go.
    pub idle_for: Option<Duration>,
}

impl Ledger {
    /// Marks to be written, on nodes that have been idle for at least `after`, and before them
    /// those to be taken off.
    #[must_use]
    pub fn idle_marks_due(&self, after: Duration, now: Time) -> Vec<IdleMark> {
        let with_gpus = self.nodes.iter().filter(|node| !node.view.gpus.is_empty());
        let due = |node: &Node| {
            let idle_for = node.idle_for(&self.policy, now);
            if node.is_marked_idle {
                node.is_used(&self.policy, now).then(|| mark(node, None)).flatten()
            } else {
                (idle_for >= after).then(|| mark(node, Some(idle_for))).flatten()
            }
        };
        let mut due: Vec<_> = with_gpus.filter_map(due).collect();
        due.sort_by_key(|mark| mark.idle_for.is_some());
        due
    }

    /// The mark that must go before a pod is bound there.
    #[must_use]
    pub fn idle_mark_on(&self, node: &str) -> Option<IdleMark> {
        let node = self.node(node).filter(|node| node.is_marked_idle)?;
        mark(node, None)
    }

    /// The mark is about to be written, or has been taken off; whether that is still right. From
    /// then on the node counts as marked, or as not, whatever the watch says later.
    pub fn note_idle_mark(&mut self, mark: &IdleMark, now: Time) -> bool {
        let Some(index) = self.node_index(mark.node.as_str()) else { return false };
        let node = &mut self.nodes[index];
        let is_written = mark.idle_for.is_some();
        let is_right = node.uid.as_ref() == Some(&mark.uid)
            && !(is_written && node.is_used(&self.policy, now));
        if is_right {
            node.is_marked_idle = is_written;
        }
        is_right
    }
}

fn mark(node: &Node, idle_for: Option<Duration>) -> Option<IdleMark> {
    Some(IdleMark { node: node.name.clone(), uid: node.uid.clone()?, idle_for })
}
