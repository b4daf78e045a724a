//! What goes over the wire: kube-scheduler's own types (`k8s.io/kube-scheduler/extender/v1`).
//!
//! Go writes them without JSON tags, so the keys are its field names; absent pointers are `null`.
//! Names are borrowed from the body where JSON allows it, and full nodes are passed on as the text
//! they came in: at thousands of nodes a copy of each would cost more than the decision.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// `ExtenderArgs`: the body of filter and prioritize.
#[derive(Debug, Deserialize)]
pub struct ExtenderArgs<'a> {
    /// The pod, unparsed.
    #[serde(rename = "Pod", borrow, default)]
    pub pod: Option<&'a RawValue>,
    /// Full nodes (`nodeCacheCapable: false`).
    #[serde(rename = "Nodes", borrow, default)]
    pub nodes: Option<NodeList<'a>>,
    /// Names only (`nodeCacheCapable: true`).
    #[serde(rename = "NodeNames", borrow, default)]
    pub node_names: Option<Vec<Name<'a>>>,
}

/// `v1.NodeList` as far as it is looked at.
#[derive(Debug, Deserialize)]
pub struct NodeList<'a> {
    /// The nodes, unparsed.
    #[serde(borrow, default)]
    pub items: Option<Vec<&'a RawValue>>,
}

/// A text that is borrowed from the body unless it has escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        from.deserialize_str(Text).map(Self)
    }
}

/// The nodes of one call, in the form in which they came.
#[derive(Debug)]
pub enum Offer<'a> {
    /// Names only.
    Names(Vec<Name<'a>>),
    /// Full nodes with their names.
    Full(Vec<Name<'a>>, Vec<&'a RawValue>),
}

/// Why full nodes cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("Nodes.items[{0}] has no metadata.name")]
pub struct NamelessNode(usize);

impl<'a> ExtenderArgs<'a> {
    /// The nodes that are offered: names where there are some, else full nodes, else none.
    ///
    /// # Errors
    /// When a full node has no name.
    pub fn offer(
        nodes: Option<NodeList<'a>>,
        node_names: Option<Vec<Name<'a>>>,
    ) -> Result<Offer<'a>, NamelessNode> {
        match (node_names, nodes) {
            (Some(names), _) => Ok(Offer::Names(names)),
            (None, None) => Ok(Offer::Names(Vec::new())),
            (None, Some(list)) => {
                let items = list.items.unwrap_or_default();
                let names = items.iter().enumerate();
                let names = names.map(|(at, node)| node_name(node).ok_or(NamelessNode(at)));
                Ok(Offer::Full(names.collect::<Result<_, _>>()?, items))
            }
        }
    }
}

impl Offer<'_> {
    /// The names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let (Self::Names(names) | Self::Full(names, _)) = self;
        names.iter().map(|name| &*name.0).collect()
    }
}

/// `metadata.name` of a node. Go writes `metadata` first and `name` first in it, so that reading
/// stops after a few bytes of many.
fn node_name<'a>(node: &'a RawValue) -> Option<Name<'a>> {
    let mut found = None;
    let mut from = serde_json::Deserializer::from_str(node.get());
    // The text is JSON (it was read as such); an error here is only the early stop.
    let _stopped = from.deserialize_map(Find { path: &["metadata", "name"], found: &mut found });
    found
}

/// Looks for one text in nested maps and stops there, by an error.
struct Find<'p, 'f, 'a> {
    path: &'p [&'static str],
    found: &'f mut Option<Name<'a>>,
}

impl<'de: 'a, 'a> Visitor<'de> for Find<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let [key, rest @ ..] = self.path else { return Ok(()) };
        while let Some(Name(entry)) = map.next_key()? {
            if entry != *key {
                map.next_value::<IgnoredAny>()?;
            } else if rest.is_empty() {
                *self.found = Some(map.next_value()?);
                return Err(de::Error::custom("found"));
            } else {
                return map.next_value_seed(Find { path: rest, found: self.found });
            }
        }
        Ok(())
    }
}

impl<'de: 'a, 'a> de::DeserializeSeed<'de> for Find<'_, '_, 'a> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

/// `ExtenderFilterResult`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FilterResult<'a> {
    /// Full nodes that pass.
    pub nodes: Option<NodeListOut<'a>>,
    /// Names that pass.
    pub node_names: Option<Vec<&'a str>>,
    /// Refused, and preemption might help.
    pub failed_nodes: Refusals<'a>,
    /// Refused, and preemption cannot help.
    pub failed_and_unresolvable_nodes: Refusals<'a>,
    /// Nothing was decided, and why.
    pub error: String,
}

/// `v1.NodeList` on its way back.
#[derive(Debug, Serialize)]
pub struct NodeListOut<'a> {
    metadata: Empty,
    /// The nodes as they came.
    pub items: Vec<&'a RawValue>,
}

impl<'a> NodeListOut<'a> {
    /// A list of these nodes.
    #[must_use]
    pub fn new(items: Vec<&'a RawValue>) -> Self {
        Self { metadata: Empty {}, items }
    }
}

#[derive(Debug, Serialize)]
struct Empty {}

/// `FailedNodesMap`: node name → reason.
#[derive(Debug, Default)]
pub struct Refusals<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Refusals<'a> {
    /// The node is refused for that reason.
    pub fn push(&mut self, node: &'a str, reason: &'a str) {
        self.0.push((node, reason));
    }

    /// Drops what is there twice, since it is a map.
    pub fn name_each_once(&mut self) {
        let mut seen = HashSet::new();
        self.0.retain(|(node, _)| seen.insert(*node));
    }
}

impl Serialize for Refusals<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (node, reason) in &self.0 {
            map.serialize_entry(node, reason)?;
        }
        map.end()
    }
}

/// `HostPriority`: one node's score, 0 to 10.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostPriority<'a> {
    /// The node.
    pub host: &'a str,
    /// Its score.
    pub score: i64,
}

/// `ExtenderBindingArgs`.
#[derive(Debug, Deserialize)]
pub struct BindingArgs {
    /// The pod's name.
    #[serde(rename = "PodName")]
    pub pod_name: String,
    /// Its namespace.
    #[serde(rename = "PodNamespace")]
    pub pod_namespace: String,
    /// Its UID.
    #[serde(rename = "PodUID")]
    pub pod_uid: String,
    /// The node that kube-scheduler chose.
    #[serde(rename = "Node")]
    pub node: String,
}

/// `ExtenderBindingResult`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BindingResult {
    /// Empty where the pod is bound.
    pub error: String,
}
