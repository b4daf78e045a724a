//! Answers to filter and prioritize.
//!
//! They name thousands of nodes, most of them as they came, so the lists are written here and not
//! by serde: it would look for something to escape in each name, and grow its buffer ten times.

use std::collections::HashSet;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::Name;

/// What surrounds a name in a list, and a name's score.
const AROUND_NAME: usize = 3;
const AROUND_SCORE: usize = r#"{"Host":"","Score":10},"#.len();

/// `ExtenderFilterResult`.
#[derive(Debug, Default)]
pub struct FilterResult<'a> {
    /// Full nodes that pass, as they came.
    pub nodes: Option<Vec<&'a RawValue>>,
    /// Names that pass.
    pub node_names: Option<Vec<&'a Name<'a>>>,
    /// Refused, and preemption might help.
    pub failed_nodes: Refusals<'a>,
    /// Refused, and preemption cannot help.
    pub failed_and_unresolvable_nodes: Refusals<'a>,
    /// Nothing was decided, and why.
    pub error: String,
}

impl FilterResult<'_> {
    /// The answer's body.
    ///
    /// # Errors
    /// None that is known: texts and maps of texts can be written.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.size_hint());
        out.extend_from_slice(br#"{"Nodes":"#);
        match &self.nodes {
            None => out.extend_from_slice(b"null"),
            Some(nodes) => {
                out.extend_from_slice(br#"{"metadata":{},"items":"#);
                write_list(&mut out, nodes, |node, out| {
                    out.extend_from_slice(node.get().as_bytes());
                    Ok(())
                })?;
                out.push(b'}');
            }
        }
        out.extend_from_slice(br#","NodeNames":"#);
        match &self.node_names {
            None => out.extend_from_slice(b"null"),
            Some(names) => write_list(&mut out, names, |name, out| name.write_to(out))?,
        }
        out.extend_from_slice(br#","FailedNodes":"#);
        serde_json::to_writer(&mut out, &self.failed_nodes)?;
        out.extend_from_slice(br#","FailedAndUnresolvableNodes":"#);
        serde_json::to_writer(&mut out, &self.failed_and_unresolvable_nodes)?;
        out.extend_from_slice(br#","Error":"#);
        serde_json::to_writer(&mut out, &self.error)?;
        out.push(b'}');
        Ok(out)
    }

    fn size_hint(&self) -> usize {
        const KEYS: usize = 256;
        let nodes = self.nodes.iter().flatten().map(|node| node.get().len() + 1);
        let names = self.node_names.iter().flatten().map(|name| name.0.len() + AROUND_NAME);
        KEYS + nodes.chain(names).sum::<usize>()
    }
}

/// `HostPriorityList`: each node's score, 0 to 10.
///
/// # Errors
/// None that is known: texts and numbers can be written.
pub fn host_priorities(names: &[Name<'_>], scores: &[i64]) -> serde_json::Result<Vec<u8>> {
    let size = names.iter().map(|name| name.0.len() + AROUND_SCORE).sum();
    let mut out = Vec::with_capacity(size);
    write_list(&mut out, names.iter().zip(scores), |(name, score), out| {
        out.extend_from_slice(br#"{"Host":"#);
        name.write_to(out)?;
        out.extend_from_slice(br#","Score":"#);
        serde_json::to_writer(&mut *out, score)?;
        out.push(b'}');
        Ok(())
    })?;
    Ok(out)
}

fn write_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut Vec<u8>) -> serde_json::Result<()>,
) -> serde_json::Result<()> {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out)?;
    }
    out.push(b']');
    Ok(())
}

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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn names(json: &str) -> Vec<Name<'_>> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_come_back_as_they_came_escapes_and_all() {
        let came = r#"["gpu-1", "ü", "a\"b\\c\n", "\u0001", ""]"#;
        let names = names(came);
        let result =
            FilterResult { node_names: Some(names.iter().collect()), ..FilterResult::default() };
        let written: Value = serde_json::from_slice(&result.to_json().unwrap()).unwrap();
        let came: Value = serde_json::from_str(came).unwrap();
        let expected = json!({
            "Nodes": null, "NodeNames": came, "FailedNodes": {},
            "FailedAndUnresolvableNodes": {}, "Error": "",
        });
        assert_eq!(written, expected);

        let scored = host_priorities(&names, &[0, 10, 3, -1, 9]).unwrap();
        let scored: Vec<Value> = serde_json::from_slice(&scored).unwrap();
        assert_eq!(scored[1], json!({"Host": "ü", "Score": 10}));
        assert_eq!(scored[2], json!({"Host": "a\"b\\c\n", "Score": 3}));
        assert_eq!(scored.len(), 5);
    }

    #[test]
    fn an_empty_answer_is_whole() {
        assert_eq!(host_priorities(&[], &[]).unwrap(), b"[]");
        let nothing = FilterResult { nodes: Some(Vec::new()), ..FilterResult::default() };
        let written: Value = serde_json::from_slice(&nothing.to_json().unwrap()).unwrap();
        assert_eq!(written["Nodes"], json!({"metadata": {}, "items": []}));
        assert_eq!(written["NodeNames"], Value::Null);
    }
}
