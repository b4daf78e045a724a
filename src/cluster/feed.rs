//! Watch events become calls about pods and nodes. No IO: the order of events is the input.
//!
//! A list is taken as a whole: its objects are kept from `Init` on and handed over at `InitDone`.
//! A list that breaks off begins again with another `Init`, and until one is complete what was
//! known stays known: so no deletion is lost, and none is made up.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;

use super::defaults::{self, Annotation, NamespaceDefaults};
use super::idle::IDLE_SINCE_ANNOTATION;
use super::pod::{self, DefaultVram};
use crate::engine::{NodeFacts, NodeName, NodeUid, PodFacts, PodUid};

/// How NVIDIA's GPU feature discovery says that the MPS daemon shares the node's GPUs.
const SHARING_LABEL: (&str, &str) = ("nvidia.com/gpu.sharing-strategy", "mps");

/// Who is told of pods that ask for GPUs, and of nodes. Each call is short and never waits.
pub trait ClusterEvents: Send + Sync + 'static {
    /// Every pod there is: those that the list lacks are gone.
    fn pods_listed(&self, pods: Vec<PodFacts>);
    /// A pod was added or changed, or its namespace's default did.
    fn pod(&self, pod: PodFacts);
    /// A pod was deleted; `last` is its last state.
    fn pod_deleted(&self, pod: PodUid, last: Option<PodFacts>);
    /// Every node there is: those that the list lacks are gone.
    fn nodes_listed(&self, nodes: Vec<NodeFacts>);
    /// A node was added or changed.
    fn node(&self, node: NodeFacts);
    /// A node was deleted.
    fn node_deleted(&self, node: NodeName);
    /// A namespace's own default changed; `None` where it says nothing (any more). Pods that it
    /// changes are told of right after.
    fn namespace_default(&self, namespace: &str, default: Option<DefaultVram>);
}

/// Objects of a list that is not complete yet.
#[derive(Debug)]
struct Relist<T> {
    buffer: Vec<T>,
    /// A list was complete at least once.
    has_listed: bool,
}

impl<T> Default for Relist<T> {
    fn default() -> Self {
        Self { buffer: Vec::new(), has_listed: false }
    }
}

impl<T> Relist<T> {
    fn begin(&mut self) {
        self.buffer.clear();
    }

    fn finish(&mut self) -> Vec<T> {
        self.has_listed = true;
        std::mem::take(&mut self.buffer)
    }
}

/// The three watches' common end.
#[derive(Debug)]
pub(super) struct Feed<E> {
    sink: Arc<E>,
    defaults: Arc<NamespaceDefaults>,
    pods: Relist<PodFacts>,
    nodes: Relist<NodeFacts>,
    namespaces: Relist<(Arc<str>, Annotation)>,
    relying: Relying,
}

/// Pods whose ask depends on their namespace's default, as they tell it themselves.
#[derive(Debug, Default)]
struct Relying(HashMap<Arc<str>, HashMap<PodUid, PodFacts>>);

impl Relying {
    fn note(&mut self, facts: &PodFacts) {
        if pod::relies_on_default(facts) {
            let pods = self.0.entry(facts.id.namespace.clone()).or_default();
            pods.insert(facts.id.uid.clone(), facts.clone());
        } else {
            self.forget(facts);
        }
    }

    fn forget(&mut self, facts: &PodFacts) {
        if let Some(pods) = self.0.get_mut(&facts.id.namespace) {
            pods.remove(&facts.id.uid);
            if pods.is_empty() {
                self.0.remove(&facts.id.namespace);
            }
        }
    }
}

impl<E: ClusterEvents> Feed<E> {
    pub(super) fn new(sink: Arc<E>, defaults: Arc<NamespaceDefaults>) -> Self {
        Self {
            sink,
            defaults,
            pods: Relist::default(),
            nodes: Relist::default(),
            namespaces: Relist::default(),
            relying: Relying::default(),
        }
    }

    /// The defaults are known, so pods can be read.
    pub(super) fn has_namespaces(&self) -> bool {
        self.namespaces.has_listed
    }

    /// The sink has been told of everything there is.
    pub(super) fn is_complete(&self) -> bool {
        self.pods.has_listed && self.nodes.has_listed && self.namespaces.has_listed
    }

    pub(super) fn on_pod(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.pods.begin(),
            Event::InitApply(pod) => self.pods.buffer.extend(pod::facts_by_itself(&pod)),
            Event::InitDone => {
                let listed = self.pods.finish();
                self.relying = Relying::default();
                let listed = listed.into_iter().map(|facts| self.complete(facts)).collect();
                self.sink.pods_listed(listed);
            }
            Event::Apply(pod) => {
                if let Some(facts) = pod::facts_by_itself(&pod) {
                    let facts = self.complete(facts);
                    self.sink.pod(facts);
                }
            }
            Event::Delete(pod) => {
                if let Some(facts) = pod::facts_by_itself(&pod) {
                    self.relying.forget(&facts);
                    let uid = facts.id.uid.clone();
                    self.sink.pod_deleted(uid, Some(self.under_default(facts)));
                }
            }
        }
    }

    pub(super) fn on_node(&mut self, event: Event<PartialObjectMeta<Node>>) {
        match event {
            Event::Init => self.nodes.begin(),
            Event::InitApply(node) => self.nodes.buffer.extend(node_facts(node)),
            Event::InitDone => self.sink.nodes_listed(self.nodes.finish()),
            Event::Apply(node) => {
                if let Some(facts) = node_facts(node) {
                    self.sink.node(facts);
                }
            }
            Event::Delete(node) => {
                if let Some(facts) = node_facts(node) {
                    self.sink.node_deleted(facts.name);
                }
            }
        }
    }

    pub(super) fn on_namespace(&mut self, event: Event<PartialObjectMeta<Namespace>>) {
        match event {
            Event::Init => self.namespaces.begin(),
            Event::InitApply(namespace) => {
                self.namespaces.buffer.extend(namespace_default(namespace));
            }
            Event::InitDone => {
                for name in self.defaults.replace(self.namespaces.finish()) {
                    self.tell_default(&name);
                }
            }
            Event::Apply(namespace) => {
                if let Some((name, annotation)) = namespace_default(namespace)
                    && self.defaults.set(&name, annotation)
                {
                    self.tell_default(&name);
                }
            }
            // Its pods are gone before it is.
            Event::Delete(namespace) => {
                if let Some((name, _)) = namespace_default(namespace)
                    && self.defaults.set(&name, None)
                {
                    self.tell_default(&name);
                }
            }
        }
    }

    fn complete(&mut self, facts: PodFacts) -> PodFacts {
        self.relying.note(&facts);
        self.under_default(facts)
    }

    fn under_default(&self, facts: PodFacts) -> PodFacts {
        let default = self.defaults.of(&facts.id.namespace);
        pod::with_default(facts, &default)
    }

    fn tell_default(&self, namespace: &str) {
        self.sink.namespace_default(namespace, self.defaults.annotated(namespace));
        for facts in self.relying.0.get(namespace).into_iter().flat_map(HashMap::values) {
            self.sink.pod(self.under_default(facts.clone()));
        }
    }
}

fn node_facts(node: PartialObjectMeta<Node>) -> Option<NodeFacts> {
    let metadata = node.metadata;
    let sharing = metadata.labels.as_ref().and_then(|labels| labels.get(SHARING_LABEL.0));
    let marks = metadata.annotations.as_ref();
    Some(NodeFacts {
        name: NodeName::from(metadata.name?),
        uid: NodeUid::from(metadata.uid?),
        is_marked_idle: marks.is_some_and(|marks| marks.contains_key(IDLE_SINCE_ANNOTATION)),
        is_mps: sharing.is_some_and(|strategy| strategy == SHARING_LABEL.1),
    })
}

fn namespace_default(namespace: PartialObjectMeta<Namespace>) -> Option<(Arc<str>, Annotation)> {
    let metadata = namespace.metadata;
    let name = metadata.name?;
    let annotation = defaults::read(&name, metadata.annotations.as_ref());
    Some((Arc::from(name), annotation))
}

#[cfg(test)]
mod tests;
