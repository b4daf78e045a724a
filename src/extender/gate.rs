//! The gate: one ledger behind one lock, and the rules of the conversation with kube-scheduler.
//!
//! Filter and prioritize read; their one side effect is an expiring hold, or a place in the
//! waiting line. Preempt keeps the place that others leave. Bind admits, and sees each Binding to
//! its end, whoever has stopped listening. No lock is held across an await.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::writer::ClusterWriter;
use crate::clock::Clock;
use crate::cluster::budgets::Budgets;
use crate::cluster::defaults::NamespaceDefaults;
use crate::engine::comfyui::Instances;
use crate::engine::{Bytes, Ledger, NodeName, PodFacts, Policy, Time};
use crate::metrics::Metrics;

mod bind;
mod comfyui;
mod decide;
mod early;
mod feed;
mod gauges;
mod idle;
mod leading;
mod notices;
mod preempt;
mod tasks;

pub use bind::{BindError, BindOrder};
pub use decide::Filtered;
pub use preempt::Preempted;
pub use tasks::{FreshReading, SamplingSource};

use early::EarlyRefusals;
use leading::Leading;

/// Whether refusals are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Pods go only where they fit.
    #[default]
    Enforce,
    /// Decisions are made and counted, and every node passes.
    Observe,
}

/// What the gate needs of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct GateSettings {
    /// Whether refusals are meant.
    pub mode: Mode,
    /// What a pod that declares nothing is taken to need, where its namespace does not say.
    pub default_vram: Option<Bytes>,
    /// How long filter and prioritize may take.
    pub filter_timeout: Duration,
    /// How long a Binding may take before its outcome counts as unknown.
    pub bind_timeout: Duration,
    /// Longest body of a call.
    pub max_body_bytes: usize,
    /// Whether a replica that stands by is ready: beside a kube-scheduler it is, behind a Service
    /// only the leader may be called.
    pub standby_is_ready: bool,
    /// The scheduler whose pods are ours.
    pub scheduler_name: Arc<str>,
    /// A node that nobody has used for so long is marked; `None`: none is.
    pub annotate_idle_after: Option<Duration>,
    /// The ledger's rules.
    pub policy: Policy,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            default_vram: None,
            filter_timeout: Duration::from_secs(1),
            bind_timeout: Duration::from_secs(3),
            max_body_bytes: 128 << 20,
            standby_is_ready: true,
            scheduler_name: Arc::from("filmgate"),
            annotate_idle_after: None,
            policy: Policy::default(),
        }
    }
}

/// Why nothing can be said now. kube-scheduler tries the pod again, with backoff.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// Pods, nodes or the initial fence are still to come.
    #[error("filmgate is not ready yet: it has not seen all pods and nodes")]
    NotReady,
    /// The process is about to end.
    #[error("filmgate is shutting down")]
    Draining,
    /// Another replica answers, or this one has not finished taking over.
    #[error("this filmgate does not lead: another replica answers, or it is still taking over")]
    NotLeading,
    /// An earlier Binding's outcome is not known yet.
    #[error("an earlier Binding of this pod is still in flight")]
    InFlight,
    /// kube-scheduler's news are older than ours.
    #[error("pod is already bound to node {0}")]
    AlreadyBound(NodeName),
    /// The ledger was in use for too long.
    #[error("filmgate is too busy to answer in time")]
    Busy,
}

impl GateError {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
            Self::NotLeading => "not_leading",
            Self::InFlight => "in_flight",
            Self::AlreadyBound(_) => "already_bound",
            Self::Busy => "busy",
        }
    }
}

/// A pod as a call brings it.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// What it asks; `None` where it asks for no GPU.
    pub facts: Option<PodFacts>,
    /// `status.nominatedNodeName`.
    pub nominated: Option<String>,
}

/// The service behind the verbs. See the module's head.
pub struct Gate {
    ledger: RwLock<Ledger>,
    settings: GateSettings,
    defaults: Arc<NamespaceDefaults>,
    budgets: Arc<Budgets>,
    early: Mutex<EarlyRefusals>,
    /// Taken after the ledger's lock, where both are.
    comfyui: RwLock<Instances>,
    writer: Arc<dyn ClusterWriter>,
    metrics: Metrics,
    clock: Clock,
    /// Something changed that may free memory or ask for a sampling.
    changed: Notify,
    is_ready: AtomicBool,
    /// Set under the ledger's write lock, so that no admission is under way when it is set.
    is_draining: AtomicBool,
    leading: Leading,
    /// Minor versions that kube-scheduler is behind the API server, where that is known.
    kube_scheduler_skew: Mutex<Option<i64>>,
    /// Whoever writes a mark on an idle node, or takes it off.
    marking: tokio::sync::Mutex<()>,
    /// Bindings under way.
    binds: TaskTracker,
    /// Ends the background tasks.
    stop: CancellationToken,
}

impl Gate {
    /// A gate with an empty ledger that is not ready, where no namespace has a default of its own
    /// and nobody's disruption budget is known.
    #[must_use]
    pub fn new(settings: GateSettings, writer: Arc<dyn ClusterWriter>, clock: Clock) -> Arc<Self> {
        let defaults = Arc::new(NamespaceDefaults::new(settings.default_vram));
        Self::in_cluster(settings, writer, clock, defaults, Arc::new(Budgets::unknown()))
    }

    /// A gate that reads pods under these defaults, as its cluster's watches do, and adds no victim
    /// that these budgets protect.
    #[must_use]
    pub fn in_cluster(
        settings: GateSettings,
        writer: Arc<dyn ClusterWriter>,
        clock: Clock,
        defaults: Arc<NamespaceDefaults>,
        budgets: Arc<Budgets>,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger: RwLock::new(Ledger::new(settings.policy.clone())),
            settings,
            defaults,
            budgets,
            early: Mutex::default(),
            comfyui: RwLock::default(),
            writer,
            metrics: Metrics::new(),
            clock,
            changed: Notify::new(),
            is_ready: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            leading: Leading::default(),
            kube_scheduler_skew: Mutex::default(),
            marking: tokio::sync::Mutex::default(),
            binds: closed_tracker(),
            stop: CancellationToken::new(),
        })
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn settings(&self) -> &GateSettings {
        &self.settings
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The time by its clock: what events that are fed to it must be stamped with.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Reads the ledger. For tests, the demo and tools: calls go through the verbs.
    pub fn with_ledger<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        read(&self.ledger.read())
    }

    /// All watches have their data and every doubt of an earlier process is settled (or not).
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Release);
        self.changed.notify_one();
    }

    /// How many minor versions the kube-scheduler beside it is behind the API server.
    pub fn set_kube_scheduler_skew(&self, versions: i64) {
        *self.kube_scheduler_skew.lock() = Some(versions);
    }

    /// The process is about to end: whoever listens should look elsewhere.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Whether calls are answered.
    ///
    /// # Errors
    /// Why not.
    pub fn check_answering(&self) -> Result<(), GateError> {
        if self.is_draining() {
            Err(GateError::Draining)
        } else if !self.is_ready.load(Ordering::Acquire) {
            Err(GateError::NotReady)
        } else if !self.is_leading() {
            Err(GateError::NotLeading)
        } else {
            Ok(())
        }
    }

    /// The same for a call: one that comes in vain means that its kube-scheduler leads by now.
    fn check_call(&self) -> Result<(), GateError> {
        let checked = self.check_answering();
        if checked == Err(GateError::NotLeading) {
            self.leading.called_in_vain.notify_one();
        }
        checked
    }

    /// The pod of a call, with its namespace's default.
    #[must_use]
    pub fn incoming(&self, pod: &Pod) -> Incoming {
        let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
        Incoming { facts: self.defaults.facts(pod), nominated }
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, Ledger>, GateError> {
        self.ledger.try_read_for(self.settings.filter_timeout).ok_or(GateError::Busy)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ledger> {
        self.ledger.write()
    }
}

/// Can be waited for at any time, and takes more afterwards.
fn closed_tracker() -> TaskTracker {
    let tracker = TaskTracker::new();
    tracker.close();
    tracker
}
