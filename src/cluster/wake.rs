//! Wakes: a waiting pod is tried again when its own annotation changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

use super::bind::within;
use super::identity::Identity;
use crate::engine::PodRef;
use crate::extender::writer::WriteCounts;

/// A new value wakes the pod, and only it.
pub const WAKE_ANNOTATION: &str = "filmgate.dev/wake";
/// Wakes that may wait for the API server. The ledger wakes again what stays unbound.
const QUEUE_LENGTH: usize = 1024;
const AT_A_TIME: usize = 4;
const TRY_LIMIT: Duration = Duration::from_secs(2);

/// What became of writes that nobody waits for.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Tally {
    pub(super) fn note<T, E>(&self, outcome: &Result<T, E>) {
        let counter = if outcome.is_ok() { &self.sent } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> WriteCounts {
        WriteCounts {
            sent: self.sent.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// Calls `work` with each thing that comes out of the queue, a few at a time, until its senders
/// are gone.
pub(super) async fn work_off<T, W: Future<Output = ()>>(
    queue: mpsc::Receiver<T>,
    at_a_time: usize,
    work: impl Fn(T) -> W,
) {
    let next = async |mut queue: mpsc::Receiver<T>| Some((queue.recv().await?, queue));
    stream::unfold(queue, next).for_each_concurrent(at_a_time, work).await;
}

/// The queue's near end.
#[derive(Debug)]
pub(super) struct Wakes {
    queue: mpsc::Sender<PodRef>,
    tally: Arc<Tally>,
}

impl Wakes {
    /// The queue, and its worker in a task of its own that ends with the queue.
    pub(super) fn start(client: Client, identity: Arc<Identity>) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_LENGTH);
        let tally = Arc::new(Tally::default());
        let kept = tally.clone();
        tokio::spawn(async move {
            work_off(queue, AT_A_TIME, |pod| wake(&client, &identity, &kept, pod)).await;
        });
        Self { queue: sender, tally }
    }

    pub(super) fn push(&self, pod: &PodRef) {
        if self.queue.try_send(pod.clone()).is_err() {
            self.tally.drop_one();
        }
    }

    pub(super) fn counts(&self) -> WriteCounts {
        self.tally.counts()
    }
}

async fn wake(client: &Client, identity: &Identity, tally: &Tally, pod: PodRef) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let patch = Patch::Merge(json!({"metadata": {
        "uid": pod.uid, "annotations": {WAKE_ANNOTATION: identity.nonce()},
    }}));
    let parameters = PatchParams::default();
    let woken = within(TRY_LIMIT, pods.patch_metadata(&pod.name, &parameters, &patch)).await;
    tally.note(&woken);
    if let Err(failure) = woken {
        tracing::debug!(%pod, uid = %pod.uid, %failure, "not woken");
    }
}
