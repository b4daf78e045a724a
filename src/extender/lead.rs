//! From standby to leader and back.
//!
//! Who takes over may not trust anything that it knew: the leader before it may have Bindings on
//! the wire, and our watch may be behind what it bound. So, in this order, and over again from the
//! start for each term: own Bindings of an earlier term have ended; every unbound pod is fenced;
//! the pods are listed; the nodes are read again; and only then calls are answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Gate;
use crate::cluster::lease::Mandate;
use crate::cluster::{KubeWriter, Relists, WatchesEnded};
use crate::engine::Time;
use crate::leadership::{Lead, Term};

/// Nodes whose agents take longer stay refused until they answer: the others are not kept waiting.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// What a replica needs to lead.
pub struct Replica {
    /// Answers only while this replica leads.
    pub gate: Arc<Gate>,
    /// Fences.
    pub writer: Arc<KubeWriter>,
    /// Sends Bindings only while this replica leads.
    pub mandate: Arc<Mandate>,
    /// Lists pods.
    pub relists: Relists,
}

impl Replica {
    /// Leads whenever the Lease says so, until nobody tells about the Lease any more.
    ///
    /// # Errors
    /// When the watches of the cluster ended.
    pub async fn run(self, mut told: watch::Receiver<Option<Lead>>) -> Result<(), WatchesEnded> {
        while let Some(term) = self.next_term(&mut told).await {
            tracing::info!(holder = %term.holder, "taking over");
            let mut cut_off = told.clone();
            let taken_over = tokio::select! {
                // A takeover that the term's end cuts off does not count.
                biased;
                () = self.follow(&mut cut_off, &term, |_| ()) => false,
                done = self.take_over() => done.map(|()| true)?,
            };
            if taken_over {
                self.reign(&mut told, &term).await;
            }
            tracing::warn!(holder = %term.holder, taken_over, "this filmgate leads no more");
        }
        Ok(())
    }

    /// Waits for a term that has not come to its end; `None` when nobody tells of any.
    async fn next_term(&self, told: &mut watch::Receiver<Option<Lead>>) -> Option<Term> {
        let is_under_way = |lead: &Lead| self.gate.now() < lead.until;
        let lead = told.wait_for(|lead| lead.as_ref().is_some_and(is_under_way)).await;
        lead.ok()?.as_ref().map(|lead| lead.term.clone())
    }

    /// No Binding but our own can commit when this returns, and the ledger knows all that did.
    async fn take_over(&self) -> Result<(), WatchesEnded> {
        self.gate.bindings_ended().await;
        let fenced = self.writer.fence_unbound().await;
        self.relists.pods().await?;
        self.gate.read_again(READ_LIMIT).await;
        tracing::info!(fenced, "no Binding of an earlier leader can commit any more");
        Ok(())
    }

    /// Answers until the term is over.
    async fn reign(&self, told: &mut watch::Receiver<Option<Lead>>, term: &Term) {
        self.gate.metrics().takeover();
        self.mandate.set(Some(term.clone()));
        self.follow(told, term, |until| self.gate.lead_until(until)).await;
        self.gate.stand_by();
        self.mandate.set(None);
    }

    /// Tells each new end of the term; returns when it is over, or has come to its end because
    /// nothing was seen of it.
    async fn follow(
        &self,
        told: &mut watch::Receiver<Option<Lead>>,
        term: &Term,
        renewed: impl Fn(Time),
    ) {
        loop {
            let until = match &*told.borrow_and_update() {
                Some(lead) if lead.term == *term => lead.until,
                _ => return,
            };
            let left = until.since(self.gate.now());
            if left.is_zero() {
                return;
            }
            renewed(until);
            if let Ok(Err(_nobody_tells)) = tokio::time::timeout(left, told.changed()).await {
                return;
            }
        }
    }
}
