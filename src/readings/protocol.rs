//! The agent's protocol: versioned NDJSON over HTTP.
//!
//! `GET /nodes/<node>/readings` answers with lines without end, each one [`Message`]:
//!
//! - `full`: a whole reading, and the protocol's version. The first line always, from a sampling
//!   that began after the request arrived; later whenever a change would not say it all.
//! - `change`: what moved between the sampling `base` and this one: changed GPUs whole, the device
//!   book and the attribution when they moved. It applies to the state that the line before left,
//!   and to nothing else: otherwise the reader has lost the thread and connects again.
//! - `heartbeat`: that sampling was made, and nothing had moved.
//!
//! `POST /nodes/<node>/sample` ("sample now") answers with one `full` message from a sampling that
//! began after the request arrived.
//!
//! Within a version, readers ignore fields that they do not know; a message that older readers
//! would misread needs a new [`VERSION`]. Errors come as `{"error": "…"}` with a status of 4xx or
//! 5xx. A stream that ends was ended on purpose (shutdown, failed sampling): connect again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes as Line;
use serde::{Deserialize, Serialize};

use crate::engine::reading::seconds;
use crate::engine::{
    AgentRun, Attribution, Bytes, DeviceAssignment, GpuReading, GpuUuid, NodeName, Reading,
};

/// The version that this build speaks.
pub const VERSION: u32 = 1;

/// `Content-Type` of a stream.
pub const NDJSON: &str = "application/x-ndjson";

/// One line of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Message {
    /// A whole reading.
    Full {
        /// [`VERSION`] of the agent.
        version: u32,
        /// The reading.
        reading: Arc<Reading>,
    },
    /// What moved since the last line.
    Change(Change),
    /// A sampling without movement.
    Heartbeat(Heartbeat),
}

/// What moved since the sampling `base`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The agent's run; that of the reading it applies to.
    pub agent: AgentRun,
    /// The sampling that the line before showed.
    pub base: u64,
    /// This sampling's number.
    pub sampling: u64,
    /// How far back the peaks reach.
    #[serde(rename = "peaksCoverSeconds", with = "seconds")]
    pub peaks_cover: Duration,
    /// The attribution, if it moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Attribution>,
    /// GPUs that moved, whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuReading>,
    /// The device book, whole, if it moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<DeviceAssignment>>,
    /// The kubelet did not answer: the book is of an earlier sampling.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_book_old: bool,
}

/// A sampling that showed what the line before showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// The agent's run.
    pub agent: AgentRun,
    /// The sampling's number.
    pub sampling: u64,
}

/// Why a line cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Not one of the messages.
    #[error("sent a line that is no message of the protocol: {0}")]
    Malformed(String),
    /// Another version.
    #[error(
        "speaks version {0} of the protocol, this build speaks {VERSION}: bring both to one release"
    )]
    Version(u32),
    /// Another node's reading.
    #[error(
        "serves node {0} under this node's name: the endpoint or the agent's node name is wrong"
    )]
    WrongNode(NodeName),
    /// A change or heartbeat that does not follow from the state here.
    #[error("sent sampling {sampling}, which does not follow from what it sent before")]
    OutOfStep {
        /// That message's sampling.
        sampling: u64,
    },
}

impl Message {
    /// A whole reading, in this build's version.
    #[must_use]
    pub fn full(reading: Arc<Reading>) -> Self {
        Self::Full { version: VERSION, reading }
    }

    /// The message that brings a reader who has `shown` to `reading`.
    #[must_use]
    pub fn after(shown: &Reading, reading: &Arc<Reading>) -> Self {
        if shown == &**reading {
            return Self::heartbeat(reading);
        }
        let follows = shown.agent == reading.agent && shown.sampling < reading.sampling;
        if !follows || shown.node != reading.node || !has_same_gpus(shown, reading) {
            return Self::full(Arc::clone(reading));
        }
        let change = Change::between(shown, reading);
        let is_as_old = shown.is_book_old == reading.is_book_old;
        if change.is_empty() && is_as_old && shown.peaks_cover == reading.peaks_cover {
            return Self::heartbeat(reading);
        }
        Self::Change(change)
    }

    fn heartbeat(reading: &Reading) -> Self {
        Self::Heartbeat(Heartbeat { agent: reading.agent.clone(), sampling: reading.sampling })
    }

    /// The message as a line, its newline included.
    ///
    /// # Errors
    /// Never for messages that this build makes; passed on rather than hidden.
    pub fn encode(&self) -> Result<Line, serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line.into())
    }

    /// Reads a line. The version comes first: a later version's reading need not parse here.
    ///
    /// # Errors
    /// When the line is no message, or one of another version.
    pub fn decode(line: &[u8]) -> Result<Self, ProtocolError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        match serde_json::from_slice(line) {
            Ok(Self::Full { version, .. }) if version != VERSION => {
                Err(ProtocolError::Version(version))
            }
            Ok(message) => Ok(message),
            Err(error) => match serde_json::from_slice::<Head>(line) {
                Ok(head) if head.version != VERSION => Err(ProtocolError::Version(head.version)),
                _ => Err(ProtocolError::Malformed(error.to_string())),
            },
        }
    }
}

impl Change {
    fn between(shown: &Reading, reading: &Reading) -> Self {
        let moved = shown.gpus.iter().zip(&reading.gpus).filter(|(before, after)| before != after);
        Self {
            agent: reading.agent.clone(),
            base: shown.sampling,
            sampling: reading.sampling,
            peaks_cover: reading.peaks_cover,
            attribution: (shown.attribution != reading.attribution)
                .then(|| reading.attribution.clone()),
            gpus: moved.map(|(_, after)| after.clone()).collect(),
            devices: (shown.devices != reading.devices).then(|| reading.devices.clone()),
            is_book_old: reading.is_book_old,
        }
    }

    fn is_empty(&self) -> bool {
        self.attribution.is_none() && self.gpus.is_empty() && self.devices.is_none()
    }

    /// The reading that this change makes of `shown`; `None` when it does not follow from it.
    fn apply(self, shown: &Reading, at: u64) -> Option<Reading> {
        if self.agent != shown.agent || self.base != at {
            return None;
        }
        let mut reading = shown.clone();
        for gpu in self.gpus {
            let shown = gpu_mut(&mut reading, &gpu.uuid)?;
            *shown = gpu;
        }
        reading.sampling = self.sampling;
        reading.peaks_cover = self.peaks_cover;
        reading.is_book_old = self.is_book_old;
        if let Some(attribution) = self.attribution {
            reading.attribution = attribution;
        }
        if let Some(devices) = self.devices {
            reading.devices = devices;
        }
        Some(reading)
    }
}

fn gpu_mut<'a>(reading: &'a mut Reading, uuid: &GpuUuid) -> Option<&'a mut GpuReading> {
    reading.gpus.iter_mut().find(|gpu| gpu.uuid == *uuid)
}

fn has_same_gpus(one: &Reading, other: &Reading) -> bool {
    one.gpus.iter().map(|gpu| &gpu.uuid).eq(other.gpus.iter().map(|gpu| &gpu.uuid))
}

/// A reader's copy of a node's reading, kept by the lines of one stream.
#[derive(Debug)]
pub struct Follower {
    node: NodeName,
    reading: Option<Arc<Reading>>,
    /// Number of the newest sampling; a heartbeat moves it alone.
    sampling: u64,
}

/// What a line brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// The reading as it is now.
    Reading(Arc<Reading>),
    /// Nothing moved.
    Heartbeat(Heartbeat),
}

impl Follower {
    /// A reader of that node's stream, before its first line.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self { node, reading: None, sampling: 0 }
    }

    /// Takes the next line's message.
    ///
    /// # Errors
    /// When it is about another node or does not follow from the lines before: the stream is of no
    /// more use.
    pub fn apply(&mut self, message: Message) -> Result<Applied, ProtocolError> {
        match message {
            Message::Full { reading, .. } => self.replace(reading),
            Message::Change(change) => {
                let sampling = change.sampling;
                let shown = self.reading.as_ref();
                let applied = shown.and_then(|shown| change.apply(shown, self.sampling));
                self.replace(Arc::new(applied.ok_or(ProtocolError::OutOfStep { sampling })?))
            }
            Message::Heartbeat(heartbeat) => {
                let shown = self.reading.as_ref();
                if shown.is_none_or(|shown| shown.agent != heartbeat.agent) {
                    return Err(ProtocolError::OutOfStep { sampling: heartbeat.sampling });
                }
                self.sampling = heartbeat.sampling;
                Ok(Applied::Heartbeat(heartbeat))
            }
        }
    }

    fn replace(&mut self, reading: Arc<Reading>) -> Result<Applied, ProtocolError> {
        if reading.node != self.node {
            return Err(ProtocolError::WrongNode(reading.node.clone()));
        }
        self.sampling = reading.sampling;
        self.reading = Some(Arc::clone(&reading));
        Ok(Applied::Reading(reading))
    }
}

/// Whether a reading moved so much since `shown` that readers should not wait for the next
/// interval: a GPU's or a pod's memory by `threshold` or more, or anything that is no amount.
#[must_use]
pub fn has_moved(shown: &Reading, reading: &Reading, threshold: Bytes) -> bool {
    shown.agent != reading.agent
        || shown.attribution != reading.attribution
        || shown.devices != reading.devices
        || !has_same_gpus(shown, reading)
        || shown
            .gpus
            .iter()
            .zip(&reading.gpus)
            .any(|(before, after)| gpu_moved(before, after, threshold))
}

fn gpu_moved(before: &GpuReading, after: &GpuReading, threshold: Bytes) -> bool {
    let far = |one: Bytes, other: Bytes| one.max(other) - one.min(other) >= threshold;
    before.health != after.health
        || far(before.used, after.used)
        || before.pods.len() != after.pods.len()
        || before
            .pods
            .iter()
            .zip(&after.pods)
            .any(|(before, after)| before.uid != after.uid || far(before.used, after.used))
}

#[cfg(test)]
mod tests;
