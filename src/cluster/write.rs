//! [`ClusterWriter`] by the API server.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::time::{Instant, timeout};

use super::bind::{Binding, within};
use super::defaults::NamespaceDefaults;
use super::events::{Reports, Subject};
use super::fence;
use super::identity::Identity;
use super::idle;
use super::lease::Mandate;
use super::wake::Wakes;
use crate::engine::notice::Notice;
use crate::engine::{Admission, IdleMark, NodeName, PodFacts, PodRef};
use crate::extender::writer::{BindOutcome, ClusterWriter, FenceOutcome, SideWrites};

const GET_LIMIT: Duration = Duration::from_secs(2);

/// Writes to the API server. Bindings and fences go out as they are asked for; wakes and events
/// wait in bounded queues, each with a worker of its own, so that they never hold up a Binding.
pub struct KubeWriter {
    client: Client,
    identity: Arc<Identity>,
    defaults: Arc<NamespaceDefaults>,
    /// `None` where this process is the only one.
    mandate: Option<Arc<Mandate>>,
    wakes: Wakes,
    reports: Reports,
}

impl KubeWriter {
    /// A writer and its two workers, which end with it. Needs a Tokio runtime.
    #[must_use]
    pub fn start(
        client: Client,
        identity: Arc<Identity>,
        defaults: Arc<NamespaceDefaults>,
    ) -> Self {
        let wakes = Wakes::start(client.clone(), identity.clone());
        let reports = Reports::start(client.clone(), identity.clone());
        Self { client, identity, defaults, mandate: None, wakes, reports }
    }

    /// The same where each Binding needs a mandate.
    #[must_use]
    pub fn under(self, mandate: Arc<Mandate>) -> Self {
        Self { mandate: Some(mandate), ..self }
    }

    /// Fences every unbound pod that asks for a GPU, and returns their number when each has
    /// answered: afterwards no Binding of an earlier process can commit.
    pub async fn fence_unbound(&self) -> usize {
        fence::fence_unbound(&self.client, &self.identity).await
    }

    /// Returns what of the time is left when a Binding may be sent.
    async fn may_bind(&self, deadline: Duration) -> Result<Duration, String> {
        let Some(mandate) = &self.mandate else { return Ok(deadline) };
        let began = Instant::now();
        let confirmed = timeout(deadline, mandate.confirm()).await;
        confirmed.unwrap_or_else(|_| Err("the Lease was not read in time".to_owned()))?;
        Ok(deadline.saturating_sub(began.elapsed()))
    }

    async fn fence_one(&self, pod: &PodRef) -> FenceOutcome {
        let fenced = fence::fence(&self.client, &self.identity, pod).await;
        match fenced.and_then(|pod| self.defaults.facts(&pod)) {
            Some(facts) if facts.node.is_some() => FenceOutcome::Bound(facts),
            Some(facts) => FenceOutcome::Unbound(facts),
            None => FenceOutcome::Gone,
        }
    }

    async fn read(&self, pod: &PodRef) -> Result<Option<PodFacts>, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let read = within(GET_LIMIT, pods.get_opt(&pod.name)).await;
        let read = read.map_err(|failure| failure.to_string())?;
        Ok(read.and_then(|pod| self.defaults.facts(&pod)))
    }
}

impl ClusterWriter for KubeWriter {
    fn bind<'a>(
        &'a self,
        admission: &'a Admission,
        node: &'a NodeName,
        deadline: Duration,
    ) -> BoxFuture<'a, BindOutcome> {
        let (client, identity, defaults) = (&self.client, &*self.identity, &*self.defaults);
        let binding = Binding { client, identity, defaults, admission, node };
        async move {
            // Asked after the admission: who leads now led then, and fences come later.
            match self.may_bind(deadline).await {
                Ok(left) => binding.post_within(left).await,
                Err(why) => BindOutcome::Refused(why),
            }
        }
        .boxed()
    }

    fn fence<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, FenceOutcome> {
        self.fence_one(pod).boxed()
    }

    fn get<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<Option<PodFacts>, String>> {
        self.read(pod).boxed()
    }

    fn wake(&self, pod: &PodRef) {
        self.wakes.push(pod);
    }

    fn wants_refusal(&self, pod: &PodRef) -> bool {
        self.reports.wants(pod, Subject::WAITING)
    }

    fn report_refusal(&self, pod: &PodRef, message: String) {
        self.reports.push(pod, Subject::WAITING, message);
    }

    fn report_notice(&self, pod: &PodRef, notice: &Notice) {
        self.reports.push(pod, Subject::of(notice), notice.to_string());
    }

    fn mark_idle<'a>(&'a self, mark: &'a IdleMark) -> BoxFuture<'a, Result<(), String>> {
        idle::mark(&self.client, mark).boxed()
    }

    fn side_writes(&self) -> Option<SideWrites> {
        Some(SideWrites { wakes: self.wakes.counts(), events: self.reports.counts() })
    }
}
