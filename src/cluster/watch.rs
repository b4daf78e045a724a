//! Watches of pods, nodes and namespaces, kept alive for as long as the process runs.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::backoff::WatchRetries;
use super::defaults::NamespaceDefaults;
pub use super::feed::ClusterEvents;
use super::feed::Feed;

/// The API server ends each watch after this long, and one that is silent for a little longer is
/// dead: the cost of a smaller value is a request, of a larger one deaf minutes when a connection
/// vanishes without a word.
const WATCH_SECONDS: u32 = 60;

type Events<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// Watches that go on until this is dropped.
#[derive(Debug)]
pub struct Watching {
    is_complete: watch::Receiver<bool>,
    relists: mpsc::Sender<Listed>,
    task: AbortOnDropHandle<()>,
}

/// Told when the sink has a list of pods that was asked for.
type Listed = oneshot::Sender<()>;

/// Asks the watches for a list of pods. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Relists(mpsc::Sender<Listed>);

impl Relists {
    /// Lists pods again, from the store and not from a cache, and watches on from there. When this
    /// returns the sink was told of every pod as it was after the call: a watch may be any time
    /// behind, and tells nobody.
    ///
    /// # Errors
    /// When the watches ended before.
    pub async fn pods(&self) -> Result<(), WatchesEnded> {
        let (tell, listed) = oneshot::channel();
        self.0.send(tell).await.map_err(|_| WatchesEnded)?;
        listed.await.map_err(|_| WatchesEnded)
    }
}

/// The watches ended, which only a defect can bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the watches of the cluster ended")]
pub struct WatchesEnded;

/// Begins to watch pods, nodes and namespaces, and tells `sink` of them.
pub fn begin<E: ClusterEvents>(
    client: &Client,
    sink: Arc<E>,
    defaults: Arc<NamespaceDefaults>,
) -> Watching {
    let (complete, is_complete) = watch::channel(false);
    let (relists, asked) = mpsc::channel(1);
    let task = tokio::spawn(run(client.clone(), sink, defaults, complete, asked));
    Watching { is_complete, relists, task: AbortOnDropHandle::new(task) }
}

impl Watching {
    /// Returns when the sink was told of everything there is.
    ///
    /// # Errors
    /// When the watches ended before.
    pub async fn listed(&mut self) -> Result<(), WatchesEnded> {
        self.is_complete.wait_for(|complete| *complete).await.map_err(|_| WatchesEnded)?;
        Ok(())
    }

    /// For those who need a list of pods that is younger than now.
    #[must_use]
    pub fn relists(&self) -> Relists {
        Relists(self.relists.clone())
    }

    /// Returns when the watches end by themselves: the process has then lost its eyes and must end.
    pub async fn ended(&mut self) -> WatchesEnded {
        let _ = (&mut self.task).await;
        WatchesEnded
    }
}

/// The streams that a [`Feed`] is fed from.
struct Streams {
    pods: Events<Pod>,
    nodes: Events<PartialObjectMeta<Node>>,
    namespaces: Events<PartialObjectMeta<Namespace>>,
}

impl Streams {
    /// Watches of a whole cluster. Of nodes and namespaces the metadata is enough.
    fn of_cluster(client: &Client) -> Self {
        Self { pods: events(client), nodes: events(client), namespaces: events(client) }
    }
}

fn events<K>(client: &Client) -> Events<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    watcher(Api::all(client.clone()), config).backoff(WatchRetries::new()).boxed()
}

/// Feeds the sink until the task is dropped. `is_ready` becomes true when the sink has everything.
async fn run<E: ClusterEvents>(
    client: Client,
    sink: Arc<E>,
    defaults: Arc<NamespaceDefaults>,
    is_ready: watch::Sender<bool>,
    mut relists: mpsc::Receiver<Listed>,
) {
    let mut streams = Streams::of_cluster(&client);
    let mut wanted: Vec<Listed> = Vec::new();
    let mut feed = Feed::new(sink, defaults);
    // Before a pod can be read, its namespace's default must be known.
    while !feed.has_namespaces() {
        let Some(event) = streams.namespaces.next().await else { return };
        take("namespaces", event, |event| feed.on_namespace(event));
    }
    loop {
        tokio::select! {
            Some(listed) = relists.recv() => {
                wanted.push(listed);
                // What is on its way to the old one may be older than the list.
                streams.pods = events(&client);
            }
            Some(event) = streams.pods.next() => {
                let is_listed = matches!(event, Ok(Event::InitDone));
                take("pods", event, |event| feed.on_pod(event));
                if is_listed {
                    for listed in wanted.drain(..) {
                        // Whoever does not wait any more leads no more.
                        let _ = listed.send(());
                    }
                }
            }
            Some(event) = streams.nodes.next() => take("nodes", event, |event| feed.on_node(event)),
            Some(event) = streams.namespaces.next() => {
                take("namespaces", event, |event| feed.on_namespace(event));
            }
            else => return,
        }
        is_ready.send_if_modified(|ready| {
            let was_ready = std::mem::replace(ready, feed.is_complete());
            was_ready != *ready
        });
    }
}

/// A failed watch tries again by itself, later and later.
fn take<K>(
    what: &'static str,
    event: Result<Event<K>, watcher::Error>,
    mut feed: impl FnMut(Event<K>),
) {
    match event {
        Ok(event) => feed(event),
        Err(error) => tracing::warn!(what, %error, "watch failed; trying again"),
    }
}
