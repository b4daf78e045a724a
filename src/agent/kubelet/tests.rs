use std::fs;
use std::future::pending;
use std::io::Write as _;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;

use prost::Message as _;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tower::util::MapRequestLayer;

use super::wire::pod_resources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use super::wire::pod_resources::{
    ContainerDevices, ContainerResources, ListPodResourcesResponse, PodResources,
};
use super::wire::pods::pods_server::{Pods, PodsServer};
use super::wire::pods::{ListPodsResponse, ObjectMeta, Pod};
use super::*;
use crate::agent::book::Offer;
use crate::engine::GpuUuid;

const GPU: &str = "GPU-fef8089b-4820-abfc-e83e-94318197576e";
const A: &str = "aaaaaaaa-0000-0000-0000-000000000000";
const B: &str = "bbbbbbbb-0000-0000-0000-000000000000";

/// What a kubelet says.
#[derive(Clone, Default)]
struct Words {
    listed: ListPodResourcesResponse,
    offered: AllocatableResourcesResponse,
    /// What PodsAPI says, call by call; the last is said again.
    pods: Vec<ListPodsResponse>,
    is_old: bool,
    hangs: bool,
}

impl Words {
    /// One pod, with one of four replicas; its UIDs, call by call.
    fn of(uids: &[&str]) -> Self {
        let devices = |ids: &[String]| ContainerDevices {
            resource_name: "nvidia.com/gpu".to_owned(),
            device_ids: ids.to_vec(),
        };
        let replicas: Vec<_> = (0..4).map(|n| format!("{GPU}::{n}")).collect();
        let container = ContainerResources {
            name: "main".to_owned(),
            devices: vec![devices(&replicas[2..3])],
            dynamic_resources: Vec::new(),
        };
        let pod = PodResources {
            name: "comfy".to_owned(),
            namespace: "default".to_owned(),
            containers: vec![container],
        };
        Self {
            listed: ListPodResourcesResponse { pod_resources: vec![pod] },
            offered: AllocatableResourcesResponse { devices: vec![devices(&replicas)] },
            pods: uids.iter().map(|uid| pods_api(uid)).collect(),
            ..Self::default()
        }
    }
}

fn pods_api(uid: &str) -> ListPodsResponse {
    let metadata = ObjectMeta {
        name: "comfy".to_owned(),
        namespace: "default".to_owned(),
        uid: uid.to_owned(),
    };
    let pod = Pod { metadata: Some(metadata), status: None };
    ListPodsResponse { pods: vec![pod.encode_to_vec().into()] }
}

#[derive(Clone)]
struct Speaker(Arc<Mutex<Words>>);

impl Speaker {
    async fn words(&self) -> Words {
        let words = self.0.lock().clone();
        if words.hangs {
            pending::<()>().await;
        }
        words
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Speaker {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        Ok(Response::new(self.words().await.listed))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        let words = self.words().await;
        if words.is_old { Err(Status::unimplemented("")) } else { Ok(Response::new(words.offered)) }
    }
}

#[tonic::async_trait]
impl Pods for Speaker {
    async fn list_pods(
        &self,
        _: Request<ListPodsRequest>,
    ) -> Result<Response<ListPodsResponse>, Status> {
        let mut words = self.words().await;
        if words.pods.len() > 1 {
            self.0.lock().pods.remove(0);
        }
        Ok(Response::new(words.pods.swap_remove(0)))
    }
}

/// A kubelet's folder, and whoever listens there.
struct Folder {
    folder: TempDir,
    listeners: Vec<JoinHandle<()>>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pod-resources", "pods-api"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, listeners: Vec::new() }
    }

    /// With a kubelet that says this.
    fn with(words: Words) -> Self {
        let mut folder = Self::new();
        folder.pod_resources(words.clone());
        folder.pods_api(words);
        folder
    }

    fn kubelet(&self) -> Kubelet {
        Kubelet::at(self.folder.path())
    }

    fn socket(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn listen(&self, name: &str) -> UnixListenerStream {
        let path = self.socket(name);
        drop(fs::remove_file(&path));
        UnixListenerStream::new(UnixListener::bind(path).unwrap())
    }

    fn pod_resources(&mut self, words: Words) -> Arc<Mutex<Words>> {
        let words = Arc::new(Mutex::new(words));
        let service = PodResourcesListerServer::new(Speaker(words.clone()))
            .max_encoding_message_size(usize::MAX);
        let listener = self.listen("pod-resources/kubelet.sock");
        let server = Server::builder().add_service(service).serve_with_incoming(listener);
        self.listeners.push(tokio::spawn(async { server.await.unwrap() }));
        words
    }

    fn pods_api(&mut self, words: Words) {
        let service = PodsServer::new(Speaker(Arc::new(Mutex::new(words))));
        let listener = self.listen("pods-api/pods-api.sock");
        let server = Server::builder().add_service(service).serve_with_incoming(listener);
        self.listeners.push(tokio::spawn(async { server.await.unwrap() }));
    }

    /// PodResources whose every message has this for its first field.
    fn answers_with_bytes(&mut self, bytes: &'static [u8]) {
        let words =
            Words { pods: vec![ListPodsResponse { pods: vec![bytes.into()] }], ..Words::default() };
        let service = PodsServer::new(Speaker(Arc::new(Mutex::new(words))));
        let elsewhere = MapRequestLayer::new(|mut request: tonic::codegen::http::Request<_>| {
            *request.uri_mut() = "/v1alpha1.Pods/ListPods".parse().unwrap();
            request
        });
        let listener = self.listen("pod-resources/kubelet.sock");
        let server = Server::builder().layer(elsewhere).add_service(service);
        let server = server.serve_with_incoming(listener);
        self.listeners.push(tokio::spawn(async { server.await.unwrap() }));
    }

    fn stop(&mut self) {
        self.listeners.drain(..).for_each(|listener| listener.abort());
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.stop();
    }
}

fn uid(book: &Book) -> Option<&str> {
    assert_eq!(book.assignments.len(), 1, "{book:?}");
    book.assignments[0].uid.as_ref().map(crate::engine::PodUid::as_str)
}

#[tokio::test]
async fn reads_what_is_given_to_whom_and_what_is_offered() {
    let folder = Folder::with(Words::of(&[A]));
    let book = folder.kubelet().look().await.unwrap();
    let entry = &book.assignments[0];
    let names = [&*entry.namespace, &*entry.pod, &*entry.container, &*entry.resource];
    assert_eq!(names, ["default", "comfy", "main", "nvidia.com/gpu"]);
    assert_eq!((entry.gpu.as_str(), uid(&book)), (GPU, Some(A)));
    let offer = Offer { resource: "nvidia.com/gpu".into(), replicas: 4 };
    assert_eq!(Vec::from_iter(&book.offers), [(&GpuUuid::from(GPU), &offer)]);
    assert_eq!((book.pods.len(), book.pods[0].uid.as_str()), (1, A));
}

#[tokio::test]
async fn a_pod_that_is_made_again_under_its_name_is_not_taken_for_the_one_before() {
    let folder = Folder::with(Words::of(&[A, A, B]));
    let kubelet = folder.kubelet();
    assert_eq!(uid(&kubelet.look().await.unwrap()), Some(A), "told by asking twice");
    // Before, the name meant A, and after it B. Asked again, it means B throughout.
    assert_eq!(uid(&kubelet.look().await.unwrap()), Some(B));

    let folder = Folder::with(Words::of(&[A, B, A]));
    assert_eq!(uid(&folder.kubelet().look().await.unwrap()), None, "it keeps changing");
}

#[tokio::test]
async fn a_kubelet_without_pods_api_tells_names_alone() {
    let mut folder = Folder::new();
    folder.pod_resources(Words::of(&[A]));
    let book = folder.kubelet().look().await.unwrap();
    assert_eq!((uid(&book), book.pods.len(), book.offers.len()), (None, 0, 1));
}

/// Takes as long as is waited for PodsAPI, twice that at most.
#[tokio::test]
async fn a_pods_api_that_hangs_costs_only_the_uids() {
    let mut folder = Folder::new();
    folder.pod_resources(Words::of(&[A]));
    folder.pods_api(Words { hangs: true, ..Words::of(&[A]) });
    let book = folder.kubelet().look().await.unwrap();
    assert_eq!((uid(&book), book.pods.len(), book.offers.len()), (None, 0, 1));
}

#[tokio::test]
async fn a_garbled_pod_costs_only_the_uids() {
    let mut folder = Folder::new();
    folder.pod_resources(Words::of(&[A]));
    let garbled = ListPodsResponse { pods: vec![b"\x0a\xff".as_slice().into()] };
    folder.pods_api(Words { pods: vec![garbled], ..Words::default() });
    assert_eq!(uid(&folder.kubelet().look().await.unwrap()), None);
}

#[tokio::test]
async fn what_was_offered_stays_until_the_plugin_is_back() {
    let mut folder = Folder::new();
    let words = folder.pod_resources(Words::of(&[A]));
    let kubelet = folder.kubelet();
    let offers = kubelet.look().await.unwrap().offers;
    words.lock().offered = AllocatableResourcesResponse::default();
    assert_eq!(kubelet.look().await.unwrap().offers, offers);
}

#[tokio::test]
async fn a_kubelet_that_does_not_tell_what_it_offers_tells_the_rest() {
    let folder = Folder::with(Words { is_old: true, ..Words::of(&[A]) });
    let book = folder.kubelet().look().await.unwrap();
    assert_eq!((uid(&book), book.offers.len()), (Some(A), 0));
}

#[tokio::test]
async fn reads_an_answer_of_many_megabytes() {
    let mut words = Words::of(&[A]);
    let named =
        |n: usize| PodResources { name: format!("{n}").repeat(100_000), ..Default::default() };
    words.listed.pod_resources.extend((0..100).map(named));
    let folder = Folder::with(words);
    assert_eq!(uid(&folder.kubelet().look().await.unwrap()), Some(A));
}

async fn unreachable(folder: &Folder) -> String {
    match folder.kubelet().look().await {
        Err(NoBook::Unreachable { socket, why }) => {
            assert_eq!(*socket, *folder.socket("pod-resources/kubelet.sock").to_string_lossy());
            why
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn says_that_there_is_no_socket_or_nobody_behind_it() {
    let folder = Folder::new();
    assert!(unreachable(&folder).await.contains("No such file"));
    drop(StdListener::bind(folder.socket("pod-resources/kubelet.sock")).unwrap());
    assert!(unreachable(&folder).await.contains("refused"));
}

/// Takes as long as is waited for the kubelet.
#[tokio::test]
async fn says_that_it_does_not_answer_in_time() {
    let folder = Folder::with(Words { hangs: true, ..Words::of(&[A]) });
    assert_eq!(unreachable(&folder).await, "no answer within 2 s");
}

/// Takes as long as is waited for the kubelet.
#[tokio::test]
async fn a_kubelet_that_hangs_is_waited_for_once_and_read_when_it_goes_on() {
    let mut folder = Folder::new();
    let words = folder.pod_resources(Words { hangs: true, ..Words::of(&[A]) });
    folder.pods_api(Words::of(&[A]));
    let kubelet = folder.kubelet();
    assert!(kubelet.look().await.is_err());
    let again = Instant::now();
    assert!(kubelet.look().await.is_err());
    assert!(again.elapsed() < DEADLINE / 2, "{:?}", again.elapsed());

    words.lock().hangs = false;
    let read = async {
        loop {
            if let Ok(book) = kubelet.look().await {
                return book;
            }
        }
    };
    assert_eq!(uid(&timeout(DEADLINE * 5, read).await.unwrap()), Some(A));
}

#[tokio::test]
async fn says_that_an_answer_is_garbled() {
    let mut folder = Folder::new();
    for bytes in [b"\x0a\x7f".as_slice(), b"\x0a\x02\xff\xfe", b"\x08\x01", b"\xff\xff\xff"] {
        folder.answers_with_bytes(bytes);
        match folder.kubelet().look().await {
            Err(NoBook::Garbled { why, .. }) => assert!(!why.is_empty()),
            other => panic!("{bytes:?}: {other:?}"),
        }
        folder.stop();
    }
}

#[tokio::test]
async fn says_that_whoever_listens_is_no_kubelet() {
    let folder = Folder::new();
    let listener = StdListener::bind(folder.socket("pod-resources/kubelet.sock")).unwrap();
    let stranger = std::thread::spawn(move || {
        let (mut caller, _) = listener.accept().unwrap();
        drop(caller.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").and_then(|()| caller.flush()));
    });
    let answer = folder.kubelet().look().await;
    assert!(answer.is_err(), "{answer:?}");
    stranger.join().unwrap();
}

#[tokio::test]
async fn finds_the_kubelet_that_was_restarted() {
    let mut folder = Folder::with(Words::of(&[A]));
    let kubelet = folder.kubelet();
    kubelet.look().await.unwrap();
    folder.stop();
    fs::remove_file(folder.socket("pod-resources/kubelet.sock")).unwrap();
    assert!(kubelet.look().await.is_err());
    folder.pod_resources(Words::of(&[B]));
    folder.pods_api(Words::of(&[B]));
    assert_eq!(uid(&kubelet.look().await.unwrap()), Some(B));
}

#[tokio::test]
async fn a_socket_that_is_replaced_counts_although_the_old_ones_owner_still_lives() {
    let mut folder = Folder::with(Words::of(&[A]));
    let kubelet = folder.kubelet();
    kubelet.look().await.unwrap();
    folder.pod_resources(Words { listed: ListPodResourcesResponse::default(), ..Words::of(&[A]) });
    assert_eq!(kubelet.look().await.unwrap().assignments, []);
}
