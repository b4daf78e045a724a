use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::engine::{Bytes, Vram};

/// Keeps what it is told, in words.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn tell(&self, words: String) {
        self.0.lock().push(words);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

/// `name@version`, and what it needs.
fn in_words(pod: &PodFacts) -> String {
    let needs = match &pod.ask {
        Ok(ask) => match ask.shares[0].vram {
            Vram::Declared(bytes) => format!("declares {bytes}"),
            Vram::Default(bytes) => format!("is taken for {bytes}"),
            Vram::Exclusive => "takes a GPU".to_owned(),
        },
        Err(bad) => bad.to_string(),
    };
    format!("{}@{} {needs}", pod.id.name, pod.resource_version)
}

impl ClusterEvents for Told {
    fn pods_listed(&self, pods: Vec<PodFacts>) {
        let pods: Vec<_> = pods.iter().map(in_words).collect();
        self.tell(format!("pods: {}", pods.join(", ")));
    }
    fn pod(&self, pod: PodFacts) {
        self.tell(in_words(&pod));
    }
    fn pod_deleted(&self, pod: PodUid, last: Option<PodFacts>) {
        let last = last.map_or_else(String::new, |last| in_words(&last));
        self.tell(format!("{pod} deleted: {last}"));
    }
    fn nodes_listed(&self, nodes: Vec<NodeFacts>) {
        let nodes: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        self.tell(format!("nodes: {}", nodes.join(", ")));
    }
    fn node(&self, node: NodeFacts) {
        self.tell(format!("node {} {} mps={}", node.name, node.uid, node.is_mps));
    }
    fn node_deleted(&self, node: NodeName) {
        self.tell(format!("node {node} deleted"));
    }
    fn namespace_default(&self, namespace: &str, default: Option<DefaultVram>) {
        let default = match default {
            Some(Ok(Some(bytes))) => bytes.to_string(),
            Some(Err(_)) => "nonsense".to_owned(),
            Some(Ok(None)) | None => "nothing".to_owned(),
        };
        self.tell(format!("{namespace} says {default}"));
    }
}

fn feed(configured: Option<Bytes>) -> (Feed<Told>, Arc<Told>) {
    let told = Arc::new(Told::default());
    (Feed::new(told.clone(), Arc::new(NamespaceDefaults::new(configured))), told)
}

fn pod_with(
    name: &str,
    version: &str,
    limits: &serde_json::Value,
    annotations: &[(&str, &str)],
) -> Pod {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "art", "uid": format!("uid-{name}"),
            "resourceVersion": version, "annotations": annotations,
        },
        "spec": {"containers": [{"name": "main", "resources": {"limits": limits}}]},
    }))
    .unwrap()
}

fn gpu_pod(name: &str, version: &str) -> Pod {
    pod_with(name, version, &json!({"nvidia.com/gpu": "1"}), &[])
}

fn declaring(name: &str, vram: &str) -> Pod {
    pod_with(name, "1", &json!({"nvidia.com/gpu": "1"}), &[("filmgate.dev/vram", vram)])
}

fn object<K>(
    name: &str,
    labels: &[(&str, &str)],
    annotations: &[(&str, &str)],
) -> PartialObjectMeta<K> {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let metadata = kube::api::ObjectMeta {
        name: Some(name.to_owned()),
        uid: Some(format!("uid-{name}")),
        labels: Some(map(labels)),
        annotations: Some(map(annotations)),
        ..kube::api::ObjectMeta::default()
    };
    PartialObjectMeta { types: None, metadata, _phantom: std::marker::PhantomData }
}

fn namespace(vram: Option<&str>) -> PartialObjectMeta<Namespace> {
    let annotation = vram.map(|vram| (pod::DEFAULT_VRAM_ANNOTATION, vram));
    object("art", &[], annotation.as_slice())
}

fn list<K>(objects: impl IntoIterator<Item = K>, take: impl FnMut(Event<K>)) {
    let objects = objects.into_iter().map(Event::InitApply);
    [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).for_each(take);
}

#[test]
fn a_list_is_told_as_a_whole_and_only_gpu_pods_in_it() {
    let (mut feed, told) = feed(None);
    feed.on_pod(Event::Init);
    feed.on_pod(Event::InitApply(gpu_pod("a", "1")));
    feed.on_pod(Event::InitApply(pod_with("web", "1", &json!({"cpu": "1"}), &[])));
    feed.on_pod(Event::InitApply(declaring("b", "12Gi")));
    assert!(told.take().is_empty());
    feed.on_pod(Event::InitDone);
    assert_eq!(told.take(), ["pods: a@1 takes a GPU, b@1 declares 12.0 GiB"]);
}

#[test]
fn an_interrupted_list_tells_nothing_and_the_next_whole_one_is_told() {
    let (mut feed, told) = feed(None);
    list([gpu_pod("a", "1"), gpu_pod("b", "1"), gpu_pod("c", "1")], |event| feed.on_pod(event));
    assert_eq!(told.take().len(), 1);

    feed.on_pod(Event::Init);
    feed.on_pod(Event::InitApply(gpu_pod("a", "2")));
    feed.on_pod(Event::Init);
    feed.on_pod(Event::Init);
    feed.on_pod(Event::InitApply(gpu_pod("c", "2")));
    assert!(told.take().is_empty());
    feed.on_pod(Event::InitDone);
    assert_eq!(told.take(), ["pods: c@2 takes a GPU"]);
}

#[test]
fn an_interrupted_list_of_nodes_makes_up_no_deletion() {
    let (mut feed, told) = feed(None);
    list([object("n0", &[], &[]), object("n1", &[], &[])], |event| feed.on_node(event));
    feed.on_node(Event::Init);
    feed.on_node(Event::InitApply(object("n1", &[], &[])));
    feed.on_node(Event::Init);
    assert_eq!(told.take(), ["nodes: n0, n1"]);
    list([object("n0", &[], &[])], |event| feed.on_node(event));
    assert_eq!(told.take(), ["nodes: n0"]);
}

#[test]
fn an_interrupted_list_of_namespaces_keeps_their_defaults() {
    let (mut feed, told) = feed(None);
    list([namespace(Some("8Gi"))], |event| feed.on_namespace(event));
    assert_eq!(told.take(), ["art says 8.0 GiB"]);
    feed.on_namespace(Event::Init);
    feed.on_pod(Event::Apply(gpu_pod("a", "1")));
    feed.on_namespace(Event::Init);
    feed.on_namespace(Event::InitDone);
    assert_eq!(told.take(), ["a@1 is taken for 8.0 GiB", "art says nothing", "a@1 takes a GPU"]);
}

#[test]
fn changes_are_told_one_by_one() {
    let (mut feed, told) = feed(None);
    feed.on_pod(Event::Apply(gpu_pod("a", "2")));
    feed.on_pod(Event::Delete(gpu_pod("a", "3")));
    feed.on_pod(Event::Delete(pod_with("web", "1", &json!({}), &[])));
    feed.on_node(Event::Apply(object("n0", &[("nvidia.com/gpu.sharing-strategy", "mps")], &[])));
    feed.on_node(Event::Apply(object("n1", &[("nvidia.com/gpu.sharing-strategy", "none")], &[])));
    feed.on_node(Event::Delete(object("n1", &[], &[])));
    assert_eq!(
        told.take(),
        [
            "a@2 takes a GPU",
            "uid-a deleted: a@3 takes a GPU",
            "node n0 uid-n0 mps=true",
            "node n1 uid-n1 mps=false",
            "node n1 deleted"
        ]
    );
}

#[test]
fn a_changed_default_is_told_for_the_pods_that_rely_on_it() {
    let (mut feed, told) = feed(Some(Bytes::gib(4)));
    list([namespace(None)], |event| feed.on_namespace(event));
    list([gpu_pod("a", "1"), declaring("b", "12Gi")], |event| feed.on_pod(event));
    assert_eq!(told.take(), ["pods: a@1 is taken for 4.0 GiB, b@1 declares 12.0 GiB"]);

    feed.on_namespace(Event::Apply(namespace(Some("8Gi"))));
    feed.on_namespace(Event::Apply(namespace(Some("8Gi"))));
    assert_eq!(told.take(), ["art says 8.0 GiB", "a@1 is taken for 8.0 GiB"]);
    feed.on_namespace(Event::Apply(namespace(Some("8GiB"))));
    let bad = "annotation filmgate.dev/default-vram of namespace art: \"8GiB\" is not a quantity";
    let said = told.take();
    assert!(said.len() == 2 && said[1].starts_with(&format!("a@1 {bad}")), "{said:?}");
    feed.on_namespace(Event::Apply(namespace(None)));
    assert_eq!(told.take(), ["art says nothing", "a@1 is taken for 4.0 GiB"]);
}

#[test]
fn pods_that_are_gone_are_not_told_of_again() {
    let (mut feed, told) = feed(None);
    list([gpu_pod("a", "1"), gpu_pod("b", "1")], |event| feed.on_pod(event));
    feed.on_pod(Event::Delete(gpu_pod("a", "2")));
    list([gpu_pod("c", "3")], |event| feed.on_pod(event));
    told.take();
    feed.on_namespace(Event::Apply(namespace(Some("8Gi"))));
    assert_eq!(told.take(), ["art says 8.0 GiB", "c@3 is taken for 8.0 GiB"]);
    assert_eq!(feed.relying.0.len(), 1);
    feed.on_pod(Event::Delete(gpu_pod("c", "4")));
    assert!(feed.relying.0.is_empty());
}

#[test]
fn is_complete_when_every_list_is() {
    let (mut feed, _told) = feed(None);
    list([], |event| feed.on_namespace(event));
    assert!(feed.has_namespaces());
    list([], |event| feed.on_pod(event));
    feed.on_node(Event::Init);
    assert!(!feed.is_complete());
    feed.on_node(Event::InitDone);
    assert!(feed.is_complete());
    feed.on_pod(Event::Init);
    assert!(feed.is_complete(), "a relist takes nothing away");
}
