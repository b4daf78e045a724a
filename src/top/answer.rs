//! What is shown of an extender's `/fleet`. `docs/fleet.md` describes the whole of it.

use serde::Deserialize;

use crate::engine::Bytes;
use crate::explain::answer::{Ask, Gpu, PodName, Refusal};

/// The fleet as the extender sends it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    /// `enforce` or `observe`.
    pub mode: String,
    /// Whether kube-scheduler is answered at present.
    pub is_answering: bool,
    /// Whether this replica leads.
    pub is_leading: bool,
    /// Sums over the whole fleet.
    pub totals: Totals,
    /// Nodes with a GPU.
    pub nodes: Vec<Node>,
    /// Pods without a place, first in line first.
    pub pending: Vec<Pending>,
}

/// Sums over the whole fleet.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Nodes with a GPU.
    pub nodes: usize,
    /// GPUs and MIG instances.
    pub gpus: usize,
    /// All of their memory.
    pub total_bytes: Bytes,
    /// In use by anyone.
    pub used_bytes: Bytes,
    /// What newcomers may have.
    pub free_bytes: Bytes,
    /// Pods without a place.
    pub pending_pods: usize,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The node.
    pub node: String,
    /// Why its figures may not be used.
    pub trouble: Option<Refusal>,
    /// Age of the last reading.
    pub reading_age_seconds: Option<f64>,
    /// Why its memory cannot be told apart by pod.
    pub unattributed: Option<String>,
    /// Its GPUs.
    pub gpus: Vec<Gpu>,
}

/// A pod without a place.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// The pod.
    pub pod: PodName,
    /// `waiting`, `pending` or `placed`.
    pub state: String,
    /// For how long it waits.
    pub waiting_seconds: Option<f64>,
    /// How many are before it in the line.
    pub before_it: Option<usize>,
    /// The node where what becomes free is kept for it.
    pub reserved_on: Option<String>,
    /// How far its claim has come.
    pub claim: Option<String>,
    /// Where its claim lies.
    pub node: Option<String>,
    /// What its containers ask.
    pub asks: Vec<Ask>,
    /// What is wrong with its annotations.
    pub problem: Option<String>,
    /// How near it came.
    pub nearest_miss: Option<String>,
}

impl Node {
    /// What is wrong with it, in a few words; empty where nothing is.
    #[must_use]
    pub fn trouble(&self) -> String {
        let why = self.unattributed.as_ref().map(|why| format!("no memory per pod: {why}"));
        let trouble = self.trouble.as_ref().map(|one| one.text.clone());
        trouble.into_iter().chain(why).collect::<Vec<_>>().join("; ")
    }
}

impl Pending {
    /// `namespace/name`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.pod.namespace, self.pod.name)
    }

    /// What it asks, in a few words.
    #[must_use]
    pub fn asks(&self) -> String {
        let each = |ask: &Ask| {
            let vram = ask.vram.bytes().map_or("a whole GPU".to_owned(), |bytes| bytes.to_string());
            if ask.gpus == 1 { vram } else { format!("{} × {vram}", ask.gpus) }
        };
        self.asks.iter().map(each).collect::<Vec<_>>().join(" + ")
    }

    /// How far it has come, in a few words.
    #[must_use]
    pub fn state(&self) -> String {
        match (self.state.as_str(), &self.claim, &self.node) {
            ("waiting", ..) => {
                let seconds = self.waiting_seconds.unwrap_or_default();
                let kept = self.reserved_on.as_ref();
                let kept = kept.map(|node| format!(", {node} reserved")).unwrap_or_default();
                format!("{seconds:.0} s, {} before it{kept}", self.before_it.unwrap_or_default())
            }
            ("placed", Some(claim), Some(node)) => format!("{claim} on {node}"),
            (other, ..) => other.to_owned(),
        }
    }

    /// Why it has no place, where that is known.
    #[must_use]
    pub fn why(&self) -> &str {
        self.problem.as_deref().or(self.nearest_miss.as_deref()).unwrap_or_default()
    }
}
