//! What goes over the wire: kube-scheduler's own types (`k8s.io/kube-scheduler/extender/v1`).
//!
//! Go writes them without JSON tags, so the keys are its field names; absent pointers are `null`.
//! Names are borrowed from the body where JSON allows it, and full nodes are passed on as the text
//! they came in: at thousands of nodes a copy of each would cost more than the decision.

mod answers;
mod preemption;

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

pub use answers::{FilterResult, Refusals, host_priorities};
pub use preemption::{MetaPod, NoCandidates, PreemptionArgs, PreemptionResult, VictimPod, Victims};

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

/// A text that is borrowed from the body unless it has escapes: what is borrowed is JSON as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a>(Cow<'a, str>);

impl Name<'_> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Writes it as JSON.
    fn write_to(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        match &self.0 {
            Cow::Borrowed(text) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
                Ok(())
            }
            Cow::Owned(text) => serde_json::to_writer(out, text),
        }
    }
}

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
    /// The nodes' names, in order.
    #[must_use]
    pub fn names(&self) -> &[Name<'_>] {
        let (Self::Names(names) | Self::Full(names, _)) = self;
        names
    }

    /// The same as plain texts.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        self.names().iter().map(Name::as_str).collect()
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
