//! The kubelet's book, by its own sockets.
//!
//! PodResources tells which devices a container was given, and names the pod; PodsAPI, where the
//! kubelet has it, tells which pod of that name it is.

use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic::transport::Channel;

use self::devices::Offers;
use self::socket::{LONGEST_ANSWER, Socket};
use self::wire::pod_resources::pod_resources_lister_client::PodResourcesListerClient;
use self::wire::pod_resources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ListPodResourcesRequest,
};
use self::wire::pods::ListPodsRequest;
use self::wire::pods::pods_client::PodsClient;
use super::book::{Book, Bookkeeper, KnownPod, NoBook};
use crate::engine::DeviceAssignment;

mod devices;
mod pods;
mod socket;
pub mod wire;

/// For all of PodResources; a busy kubelet answers in milliseconds.
const DEADLINE: Duration = Duration::from_secs(2);
/// The same for one that hangs: samplings, and whoever asked for them, must not wait for it.
const DEADLINE_OF_HUNG: Duration = Duration::from_millis(200);
/// One that hung may only be slow: this much later it is given the whole time again.
const IMPATIENCE: Duration = Duration::from_secs(10);
/// PodsAPI is worth less waiting: without it the book has names alone.
const PODS_DEADLINE: Duration = Duration::from_millis(500);
/// A pod that is new since the last look is told from a namesake by asking once more.
const ROUNDS: u32 = 2;

/// This machine's kubelet.
#[derive(Debug)]
pub struct Kubelet {
    pod_resources: Socket,
    pods_api: Socket,
    offers: Mutex<Offers>,
    /// The pods of the last look: those *before* the next one asks.
    pods: Mutex<Vec<KnownPod>>,
    /// When it was given the whole time and did not answer.
    hung_at: Mutex<Option<Instant>>,
}

impl Kubelet {
    /// The kubelet that has its folder there: `/var/lib/kubelet`, unless it was told otherwise.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        let socket = |name: &str| Socket::at(&folder.join(name));
        Self {
            pod_resources: socket("pod-resources/kubelet.sock"),
            pods_api: socket("pods-api/pods-api.sock"),
            offers: Mutex::default(),
            pods: Mutex::default(),
            hung_at: Mutex::default(),
        }
    }

    async fn read(&self) -> Result<Book, NoBook> {
        let channel = self.pod_resources.dial().await?;
        let mut kubelet =
            PodResourcesListerClient::new(channel).max_decoding_message_size(LONGEST_ANSWER);
        let offered = self.offered(&mut kubelet).await?;
        let offers = self.offers.lock().update(&offered, Instant::now());
        let (assignments, pods) = self.assigned(&mut kubelet).await?;
        Ok(Book { assignments, offers, pods })
    }

    async fn offered(
        &self,
        kubelet: &mut PodResourcesListerClient<Channel>,
    ) -> Result<AllocatableResourcesResponse, NoBook> {
        match kubelet.get_allocatable_resources(AllocatableResourcesRequest {}).await {
            Ok(answer) => Ok(answer.into_inner()),
            // Kubernetes before 1.23.
            Err(status) if status.code() == Code::Unimplemented => Ok(Default::default()),
            Err(status) => Err(self.pod_resources.failed(&status)),
        }
    }

    async fn assigned(
        &self,
        kubelet: &mut PodResourcesListerClient<Channel>,
    ) -> Result<(Vec<DeviceAssignment>, Vec<KnownPod>), NoBook> {
        let mut before = std::mem::take(&mut *self.pods.lock());
        let mut round = 1;
        loop {
            let listed = kubelet.list(ListPodResourcesRequest {}).await;
            let listed = listed.map_err(|status| self.pod_resources.failed(&status))?;
            let mut assignments = devices::assignments(listed.get_ref());
            let after = self.list_pods().await.unwrap_or_default();
            let is_open = pods::identify(&mut assignments, &before, &after);
            if !is_open || round == ROUNDS {
                self.pods.lock().clone_from(&after);
                return Ok((assignments, after));
            }
            before = after;
            round += 1;
        }
    }

    /// The node's pods; `None` where the kubelet does not tell them.
    async fn list_pods(&self) -> Option<Vec<KnownPod>> {
        let ask = async {
            let channel = self.pods_api.dial().await.ok()?;
            let mut kubelet = PodsClient::new(channel).max_decoding_message_size(LONGEST_ANSWER);
            pods::known(kubelet.list_pods(ListPodsRequest {}).await.ok()?.get_ref()).ok()
        };
        let pods = timeout(PODS_DEADLINE, ask).await.ok().flatten();
        if pods.is_none() {
            self.pods_api.hang_up();
        }
        pods
    }
}

impl Bookkeeper for Kubelet {
    async fn look(&self) -> Result<Book, NoBook> {
        let now = Instant::now();
        let hangs = self.hung_at.lock().is_some_and(|at| now.duration_since(at) < IMPATIENCE);
        let deadline = if hangs { DEADLINE_OF_HUNG } else { DEADLINE };
        let Ok(book) = timeout(deadline, self.read()).await else {
            self.pod_resources.hang_up();
            if !hangs {
                *self.hung_at.lock() = Some(now);
            }
            let why = format!("no answer within {} s", deadline.as_secs_f64());
            return Err(self.pod_resources.unreachable(why));
        };
        *self.hung_at.lock() = None;
        if book.is_err() {
            self.pod_resources.hang_up();
        }
        book
    }
}

#[cfg(test)]
mod tests;
