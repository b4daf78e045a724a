//! The order in which filmgate gets to know a cluster.

use std::sync::Arc;

use kube::Client;

use super::defaults::NamespaceDefaults;
use super::watch::{self, ClusterEvents, WatchesEnded, Watching};
use super::write::KubeWriter;

/// Fences what an earlier process may have left under way, then lists, then watches. When this
/// returns, `sink` was told of every pod, node and namespace, and no Binding but our own can
/// commit: from now on readings mean something, and calls can be answered.
///
/// Readings must not be taken before: a sampling that ends a claim has to be younger than the
/// pods' list.
///
/// # Errors
/// When the watches ended before their first lists.
pub async fn start<E: ClusterEvents>(
    client: &Client,
    writer: &KubeWriter,
    sink: Arc<E>,
    defaults: Arc<NamespaceDefaults>,
) -> Result<Watching, WatchesEnded> {
    let fenced = writer.fence_unbound().await;
    tracing::info!(fenced, "no Binding of an earlier process can commit any more");
    stand_by(client, sink, defaults).await
}

/// Lists, then watches, and writes nothing: another replica may lead, and a fence would cost its
/// Bindings in flight a retry. Who takes over fences first, and has the pods listed again.
///
/// # Errors
/// When the watches ended before their first lists.
pub async fn stand_by<E: ClusterEvents>(
    client: &Client,
    sink: Arc<E>,
    defaults: Arc<NamespaceDefaults>,
) -> Result<Watching, WatchesEnded> {
    let mut watching = watch::begin(client, sink, defaults);
    watching.listed().await?;
    tracing::info!("pods, nodes and namespaces are listed");
    Ok(watching)
}
