//! A device plugin that shares GPUs by the rules of NVIDIA's (k8s-device-plugin v0.20.0,
//! `internal/rm/allocate.go`, strategy `envvar`): time-slicing replicas, given *distributed* or
//! *packed*.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use futures::stream::{BoxStream, unfold};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use self::wire::device_plugin_server::{DevicePlugin, DevicePluginServer};
use self::wire::registration_client::RegistrationClient;
use self::wire::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, ContainerPreferredAllocationResponse, Device,
    DevicePluginOptions, Empty, ListAndWatchResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest,
};

/// `proto/deviceplugin.proto`
#[allow(clippy::all)]
mod wire {
    tonic::include_proto!("v1beta1");
}

const OPTIONS: DevicePluginOptions =
    DevicePluginOptions { get_preferred_allocation_available: true };

/// Which GPU the next device is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The one with the fewest devices in use.
    Distributed,
    /// The one with the most.
    Packed,
}

/// What a plugin offers.
#[derive(Clone, Debug)]
pub struct Offering {
    /// The extended resource.
    pub resource: &'static str,
    /// The GPUs' UUIDs.
    pub gpus: Vec<&'static str>,
    /// Each as so many devices; 1: not shared.
    pub replicas: usize,
    /// Which is taken next.
    pub policy: Policy,
}

impl Offering {
    fn ids(&self) -> Vec<String> {
        if self.replicas == 1 {
            return self.gpus.iter().map(ToString::to_string).collect();
        }
        let replicas = |gpu: &&str| (0..self.replicas).map(|n| format!("{gpu}::{n}")).collect();
        self.gpus.iter().flat_map(|gpu| -> Vec<_> { replicas(gpu) }).collect()
    }
}

/// A running plugin; it ends with the value.
pub struct Plugin {
    offering: Offering,
    folder: PathBuf,
    unhealthy: watch::Sender<Vec<String>>,
    server: Option<JoinHandle<()>>,
}

impl Plugin {
    /// A plugin that will have its socket in that folder, the kubelet's `device-plugins`.
    pub fn new(offering: Offering, folder: &Path) -> Self {
        let unhealthy = watch::Sender::default();
        Self { offering, folder: folder.to_owned(), unhealthy, server: None }
    }

    /// What it offers.
    pub fn offering(&self) -> &Offering {
        &self.offering
    }

    /// Calls these devices unhealthy, and all others healthy.
    pub fn set_unhealthy(&self, ids: &[&str]) {
        self.unhealthy.send_replace(ids.iter().map(ToString::to_string).collect());
    }

    /// Makes itself known to the kubelet, which has forgotten it and removed its socket when it was
    /// restarted.
    pub async fn register(&mut self) -> anyhow::Result<()> {
        self.stop();
        let endpoint = format!("{}.sock", self.offering.resource.replace('/', "-"));
        let path = self.folder.join(&endpoint);
        drop(fs::remove_file(&path));
        let listener = UnixListenerStream::new(UnixListener::bind(path)?);
        let service = Service {
            ids: self.offering.ids(),
            policy: self.offering.policy,
            unhealthy: self.unhealthy.subscribe(),
        };
        let server = Server::builder().add_service(DevicePluginServer::new(service));
        self.server =
            Some(tokio::spawn(async { server.serve_with_incoming(listener).await.unwrap() }));
        let kubelet = format!("unix://{}", self.folder.join("kubelet.sock").display());
        let channel = Endpoint::from_shared(kubelet)?.connect().await?;
        let request = RegisterRequest {
            version: "v1beta1".to_owned(),
            endpoint,
            resource_name: self.offering.resource.to_owned(),
            options: Some(OPTIONS),
        };
        RegistrationClient::new(channel).register(request).await?;
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Service {
    ids: Vec<String>,
    policy: Policy,
    unhealthy: watch::Receiver<Vec<String>>,
}

impl Service {
    fn prefer(
        &self,
        request: &ContainerPreferredAllocationRequest,
    ) -> Result<ContainerPreferredAllocationResponse, Status> {
        let mut device_ids = request.must_include_device_ids.clone();
        let mut available = request.available_device_ids.clone();
        available.retain(|id| !device_ids.contains(id));
        let size = usize::try_from(request.allocation_size).unwrap_or(0);
        let mut picked: HashMap<String, usize> = HashMap::new();
        while device_ids.len() < size {
            let Some(next) = self.next(&available, &picked) else {
                return Err(Status::resource_exhausted("not enough available devices"));
            };
            *picked.entry(gpu(&available[next]).to_owned()).or_default() += 1;
            device_ids.push(available.remove(next));
        }
        Ok(ContainerPreferredAllocationResponse { device_ids })
    }

    /// The position of the next to be taken; among equals, from a GPU that this container has the
    /// fewest of.
    fn next(&self, available: &[String], picked: &HashMap<String, usize>) -> Option<usize> {
        let free = |ids: &[String], one: &str| ids.iter().filter(|id| gpu(id) == one).count();
        let rank = |position: &usize| {
            let one = gpu(&available[*position]);
            let in_use = free(&self.ids, one) - free(available, one);
            let rank = match self.policy {
                Policy::Distributed => in_use,
                Policy::Packed => self.ids.len() - in_use,
            };
            (rank, picked.get(one).copied().unwrap_or(0))
        };
        (0..available.len()).min_by_key(rank)
    }
}

fn gpu(id: &str) -> &str {
    id.split_once("::").map_or(id, |(gpu, _)| gpu)
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream = BoxStream<'static, Result<ListAndWatchResponse, Status>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(OPTIONS))
    }

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let mut unhealthy = self.unhealthy.clone();
        unhealthy.mark_changed();
        let ids = self.ids.clone();
        let lists = unfold((ids, unhealthy), |(ids, mut unhealthy)| async move {
            unhealthy.changed().await.ok()?;
            let held_back = unhealthy.borrow_and_update().clone();
            let devices = ids.iter().map(|id| device(id, &held_back)).collect();
            Some((Ok(ListAndWatchResponse { devices }), (ids, unhealthy)))
        });
        Ok(Response::new(lists.boxed()))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let requests = &request.get_ref().container_requests;
        let container_responses = requests.iter().map(|one| self.prefer(one));
        let container_responses = container_responses.collect::<Result<_, _>>()?;
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let responses = request.get_ref().container_requests.iter().map(|one| {
            let mut gpus: Vec<_> = one.device_ids.iter().map(|id| gpu(id)).collect();
            gpus.sort_unstable();
            gpus.dedup();
            let visible = ("NVIDIA_VISIBLE_DEVICES".to_owned(), gpus.join(","));
            ContainerAllocateResponse { envs: HashMap::from([visible]) }
        });
        Ok(Response::new(AllocateResponse { container_responses: responses.collect() }))
    }
}

fn device(id: &str, unhealthy: &[String]) -> Device {
    let is_unhealthy = unhealthy.iter().any(|one| one == id);
    let health = if is_unhealthy { "Unhealthy" } else { "Healthy" };
    Device { id: id.to_owned(), health: health.to_owned() }
}
