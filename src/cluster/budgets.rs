//! `PodDisruptionBudget`s: whom filmgate must not ask to leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{Selector, SelectorExt};
use kube::runtime::reflector::{self, Store, store::Writer};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio_util::task::AbortOnDropHandle;

use super::backoff::WatchRetries;
use crate::engine::PodFacts;

/// The budgets of the cluster. As long as they are not known, every pod counts as protected: a
/// replica without the right to see them adds no victims, and works on.
#[derive(Debug)]
pub struct Budgets {
    known: Store<PodDisruptionBudget>,
    /// All of them were listed, and the watch has not failed since.
    is_current: AtomicBool,
}

/// Watches budgets until it is dropped.
#[derive(Debug)]
pub struct BudgetsWatch {
    /// What it keeps up to date.
    pub budgets: Arc<Budgets>,
    _task: AbortOnDropHandle<()>,
}

impl Budgets {
    /// Budgets that nobody watches: every pod counts as protected.
    #[must_use]
    pub fn unknown() -> Self {
        Self { known: reflector::store().0, is_current: AtomicBool::new(false) }
    }

    /// Begins to watch the budgets of all namespaces.
    #[must_use]
    pub fn watch(client: &Client) -> BudgetsWatch {
        let (known, writer) = reflector::store();
        let budgets = Arc::new(Self { known, is_current: AtomicBool::new(false) });
        let watching = Arc::clone(&budgets).keep(client.clone(), writer);
        BudgetsWatch { budgets, _task: AbortOnDropHandle::new(tokio::spawn(watching)) }
    }

    /// Whether some budget selects the pod, or may. How many of its pods a budget could do without
    /// does not matter: kube-scheduler's own victims may use that up in the same moment.
    #[must_use]
    pub fn protects(&self, pod: &PodFacts) -> bool {
        if !self.is_current.load(Ordering::Acquire) {
            return true;
        }
        self.known.state().iter().any(|budget| selects(budget, pod))
    }

    /// After each failure all are listed again: that alone tells that they are known once more.
    async fn keep(self: Arc<Self>, client: Client, mut writer: Writer<PodDisruptionBudget>) {
        for pause in WatchRetries::new() {
            let mut events = watcher(Api::all(client.clone()), watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => self.take(&event, &mut writer),
                    Err(error) => {
                        self.lose_sight(&error);
                        break;
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn take(&self, event: &Event<PodDisruptionBudget>, writer: &mut Writer<PodDisruptionBudget>) {
        writer.apply_watcher_event(event);
        let is_listed = !matches!(event, Event::Init | Event::InitApply(_));
        self.is_current.store(is_listed, Ordering::Release);
    }

    fn lose_sight(&self, error: &watcher::Error) {
        let what = "poddisruptionbudgets";
        if self.is_current.swap(false, Ordering::AcqRel) {
            tracing::warn!(what, %error, "watch failed: no victims are added until it works");
        } else {
            tracing::debug!(what, %error, "watch failed; trying again");
        }
    }
}

fn selects(budget: &PodDisruptionBudget, pod: &PodFacts) -> bool {
    let is_near = budget.metadata.namespace.as_deref() == Some(&*pod.id.namespace);
    // Without a selector it selects nobody; with an empty one, everybody.
    let Some(selector) = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
        return false;
    };
    let nothing = BTreeMap::new();
    let labels = pod.labels.as_deref().unwrap_or(&nothing);
    is_near && Selector::try_from(selector.clone()).map_or(true, |one| one.matches(labels))
}

#[cfg(test)]
mod tests;
