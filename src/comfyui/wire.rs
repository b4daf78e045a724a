//! ComfyUI's JSON, as far as it is read. Keys that a build lacks are borne with; figures that
//! cannot be are not.

use std::io::Read;
use std::sync::Arc;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::AskError;
use crate::engine::Bytes;
use crate::engine::comfyui::{Queue, TorchDevice};

/// How many prompts there are.
pub(super) const PROMPT: &str = "/prompt";
/// All of them, with all that they are made of.
pub(super) const QUEUE: &str = "/queue";
/// The devices.
pub(crate) const SYSTEM_STATS: &str = "/system_stats";

/// No machine has room for more prompts.
const MOST_PROMPTS: u64 = 1_000_000;
/// More devices than any machine has.
const MOST_DEVICES: usize = 16;
/// Longest name of a device that is kept.
const LONGEST_NAME: usize = 80;
/// Longest value that is shown in an error.
const LONGEST_VALUE: usize = 40;

/// A whole answer.
pub(super) struct Body {
    pub(super) path: &'static str,
    pub(super) content_type: String,
    pub(super) bytes: Vec<u8>,
}

impl Body {
    fn json(&self) -> Result<Value, AskError> {
        let not_json = |_| not_json(self.path, &self.content_type);
        serde_json::from_slice(&self.bytes).map_err(not_json)
    }
}

/// What [`PROMPT`] says: `{"exec_info": {"queue_remaining": 3}}`, those that run included.
pub(super) fn depth(body: &Body) -> Result<u64, AskError> {
    const KEY: &str = "exec_info.queue_remaining";
    let json = body.json()?;
    let depth = json.pointer("/exec_info/queue_remaining");
    let depth = depth.ok_or(AskError::Missing { path: body.path, key: KEY })?;
    let field = Field { path: body.path, key: KEY.to_owned(), value: depth };
    let count = field.whole_number()?;
    if count > MOST_PROMPTS {
        Err(field.impossible("is more than any queue has"))
    } else {
        Ok(count)
    }
}

/// Counts what [`QUEUE`] lists, without keeping it.
pub(super) fn counted(
    body: impl Read,
    most: Bytes,
    content_type: String,
) -> Result<Queue, AskError> {
    const LISTS: &str = "the lists queue_running and queue_pending";
    #[derive(Deserialize)]
    struct Lists {
        queue_running: Option<Length>,
        queue_pending: Option<Length>,
    }
    let mut body = std::io::BufReader::new(body.take(most.get()));
    let mut json = serde_json::Deserializer::from_reader(&mut body);
    let lists = Lists::deserialize(&mut json).and_then(|lists| json.end().map(|()| lists));
    match lists {
        Ok(Lists { queue_running: None, queue_pending: None }) => {
            Err(AskError::Missing { path: QUEUE, key: LISTS })
        }
        Ok(Lists { queue_running, queue_pending }) => {
            let length = |list: Option<Length>| list.map_or(0, |length| length.0);
            Ok(Queue { running: length(queue_running), pending: length(queue_pending) })
        }
        Err(_) if body.get_ref().limit() == 0 => Err(AskError::TooLarge { path: QUEUE, most }),
        Err(error) if error.is_io() => Err(AskError::Unreachable(error.to_string())),
        Err(error) if error.is_data() => Err(AskError::Missing { path: QUEUE, key: LISTS }),
        Err(_) => Err(not_json(QUEUE, &content_type)),
    }
}

/// The devices that [`SYSTEM_STATS`] lists and that PyTorch has memory of.
pub(super) fn devices(body: &Body) -> Result<Vec<TorchDevice>, AskError> {
    let json = body.json()?;
    let Some(devices) = json.get("devices") else { return Ok(Vec::new()) };
    let field = Field { path: body.path, key: "devices".to_owned(), value: devices };
    let devices = devices.as_array().ok_or_else(|| field.impossible("is no list"))?;
    let devices = devices.iter().enumerate().take(MOST_DEVICES);
    let devices = devices.map(|(position, value)| Device { body, position, value }.read());
    devices.filter_map(Result::transpose).collect()
}

/// A device's memory as its driver has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vram {
    /// ComfyUI's name of the device.
    pub name: Arc<str>,
    /// All of it.
    pub total_bytes: Bytes,
    /// What nothing has.
    pub free_bytes: Bytes,
}

/// The GPUs that an answer to [`SYSTEM_STATS`] lists; of a ComfyUI without any an error.
pub(crate) fn vram(bytes: Vec<u8>, content_type: String) -> Result<Vec<Vram>, AskError> {
    let body = Body { path: SYSTEM_STATS, content_type, bytes };
    let json = body.json()?;
    let devices = json.get("devices").and_then(Value::as_array);
    let devices = devices.ok_or(AskError::Missing { path: SYSTEM_STATS, key: "devices" })?;
    let devices = devices.iter().enumerate().take(MOST_DEVICES);
    let devices = devices.map(|(position, value)| Device { body: &body, position, value }.vram());
    let gpus: Vec<_> = devices.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    if gpus.is_empty() {
        return Err(AskError::Missing { path: SYSTEM_STATS, key: "a device with VRAM" });
    }
    Ok(gpus)
}

struct Device<'a> {
    body: &'a Body,
    position: usize,
    value: &'a Value,
}

impl Device<'_> {
    /// `None` where it has no memory of its own, or the build does not tell PyTorch's part.
    fn read(&self) -> Result<Option<TorchDevice>, AskError> {
        self.is_part("vram_free", "vram_total")?;
        self.is_part("torch_vram_free", "torch_vram_total")?;
        self.is_part("torch_vram_total", "vram_total")?;
        let (total, free) = (self.bytes("torch_vram_total")?, self.bytes("torch_vram_free")?);
        let both = total.zip(free).filter(|_| !self.is_host());
        let Some((total, free)) = both else { return Ok(None) };
        let index = self.value.get("index").and_then(Value::as_u64);
        Ok(Some(TorchDevice {
            name: self.name(),
            index: index.and_then(|index| index.try_into().ok()).unwrap_or(self.position as u32),
            torch_total_bytes: total,
            torch_free_bytes: free,
        }))
    }

    /// `None` where it has no memory of its own.
    fn vram(&self) -> Result<Option<Vram>, AskError> {
        self.is_part("vram_free", "vram_total")?;
        let both = self.bytes("vram_total")?.zip(self.bytes("vram_free")?);
        let both = both.filter(|(total, _)| *total > Bytes::ZERO && !self.is_host());
        let vram = |(total_bytes, free_bytes)| Vram { name: self.name(), total_bytes, free_bytes };
        Ok(both.map(vram))
    }

    fn is_host(&self) -> bool {
        matches!(self.text("type"), Some("cpu" | "mps"))
    }

    fn name(&self) -> Arc<str> {
        let name = self.text("name").unwrap_or("").chars();
        name.filter(|one| !one.is_control()).take(LONGEST_NAME).collect::<String>().into()
    }

    fn is_part(&self, part: &str, whole: &str) -> Result<(), AskError> {
        let (Some(part), Some(whole)) = (self.field(part), self.bytes(whole)?) else {
            return Ok(());
        };
        let is_above = Bytes::new(part.whole_number()?) > whole;
        if is_above { Err(part.impossible("is above its total")) } else { Ok(()) }
    }

    fn bytes(&self, key: &str) -> Result<Option<Bytes>, AskError> {
        self.field(key).map(|field| field.whole_number().map(Bytes::new)).transpose()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.value.get(key)?.as_str()
    }

    fn field(&self, key: &str) -> Option<Field<'_>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        let key = format!("devices[{}].{key}", self.position);
        Some(Field { path: self.body.path, key, value })
    }
}

struct Field<'a> {
    path: &'static str,
    key: String,
    value: &'a Value,
}

impl Field<'_> {
    fn whole_number(&self) -> Result<u64, AskError> {
        self.value.as_u64().ok_or_else(|| self.impossible("is no whole number, 0 or above"))
    }

    fn impossible(&self, problem: &'static str) -> AskError {
        let value = self.value.to_string().chars().take(LONGEST_VALUE).collect();
        AskError::Impossible { path: self.path, key: self.key.clone(), value, problem }
    }
}

fn not_json(path: &'static str, content_type: &str) -> AskError {
    AskError::NotJson { path, content_type: content_type.to_owned() }
}

/// How many a list has.
struct Length(u64);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Length;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a list of prompts")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Length, A::Error> {
                let mut length = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    length += 1;
                }
                Ok(Length(length))
            }
        }
        from.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests;
