//! A kubelet's sockets, answered by the test's own process.

use std::fs;
use std::path::{Path, PathBuf};

use filmgate::agent::kubelet::wire::pod_resources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use filmgate::agent::kubelet::wire::pod_resources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse,
};
use filmgate::agent::kubelet::wire::pods::pods_server::{Pods, PodsServer};
use filmgate::agent::kubelet::wire::pods::{ListPodsRequest, ListPodsResponse};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// What it answers.
#[derive(Debug, Clone, Default)]
pub struct KubeletSockets {
    /// Which pod has which devices.
    pub listed: ListPodResourcesResponse,
    /// Which devices there are.
    pub offered: AllocatableResourcesResponse,
    /// The pods' objects.
    pub pods: ListPodsResponse,
}

impl KubeletSockets {
    /// Starts to listen, as long as the runtime lives; returns the kubelet's folder.
    pub fn serve(self, folder: &Path) -> PathBuf {
        let folder = folder.join("kubelet");
        let listen = |name: &str| {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            UnixListenerStream::new(UnixListener::bind(path).expect("a socket"))
        };
        let lister = PodResourcesListerServer::new(self.clone());
        let lister = Server::builder().add_service(lister);
        tokio::spawn(lister.serve_with_incoming(listen("pod-resources/kubelet.sock")));
        let pods = Server::builder().add_service(PodsServer::new(self));
        tokio::spawn(pods.serve_with_incoming(listen("pods-api/pods-api.sock")));
        folder
    }
}

#[tonic::async_trait]
impl PodResourcesLister for KubeletSockets {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        Ok(Response::new(self.listed.clone()))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Ok(Response::new(self.offered.clone()))
    }
}

#[tonic::async_trait]
impl Pods for KubeletSockets {
    async fn list_pods(
        &self,
        _: Request<ListPodsRequest>,
    ) -> Result<Response<ListPodsResponse>, Status> {
        Ok(Response::new(self.pods.clone()))
    }
}
