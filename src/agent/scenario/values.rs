//! Values that a scenario writes in more than one way.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::agent::curve::{Curve, CurveError, Interpolation};
use crate::engine::{Bytes, GpuUuid};

/// An amount of memory: `12Gi`, `300Mi`, `0`, or a number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quantity(pub Bytes);

/// Memory over time: one amount, or points `[seconds after its start, amount]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Memory {
    /// Always that much.
    Constant(Bytes),
    /// By a curve through these points.
    Points(Vec<(f64, Bytes)>),
}

/// A GPU of the node: by its index, or by UUID (`filmgate.dev/gpu` as the gate wrote it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuChoice {
    /// NVML's index.
    Index(u32),
    /// NVML's UUID.
    Uuid(GpuUuid),
}

impl Memory {
    /// The curve that it describes.
    ///
    /// # Errors
    /// When the points make none.
    pub fn curve(&self, interpolation: Interpolation) -> Result<Curve, CurveError> {
        match self {
            Self::Constant(bytes) => Ok(Curve::constant(*bytes)),
            Self::Points(points) => {
                let points = points.iter().map(|(at, bytes)| (seconds_or_zero(*at), *bytes));
                Curve::new(points.collect(), interpolation)
            }
        }
    }
}

/// Checked when it was read; a point before the start is none.
fn seconds_or_zero(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn quantity<E: Error>(text: &str) -> Result<Bytes, E> {
    if text == "0" {
        return Ok(Bytes::ZERO);
    }
    Bytes::parse_quantity(text)
        .map_err(|error| E::custom(format!("{text:?} {error}; write for example 12Gi, or 0")))
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(QuantityVisitor)
    }
}

struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an amount of memory such as 12Gi")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<Quantity, E> {
        Ok(Quantity(Bytes::new(bytes)))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Quantity, E> {
        quantity(&bytes.to_string()).map(Quantity)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
        quantity(text).map(Quantity)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(MemoryVisitor)
    }
}

struct MemoryVisitor;

impl<'de> Visitor<'de> for MemoryVisitor {
    type Value = Memory;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .write_str("an amount of memory such as 12Gi, or points such as [[0, 1Gi], [30, 12Gi]]")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<Memory, E> {
        Ok(Memory::Constant(Bytes::new(bytes)))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Memory, E> {
        quantity(&bytes.to_string()).map(Memory::Constant)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Memory, E> {
        quantity(text).map(Memory::Constant)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut points: A) -> Result<Memory, A::Error> {
        let mut curve = Vec::new();
        while let Some((seconds, Quantity(bytes))) = points.next_element::<(f64, Quantity)>()? {
            if Duration::try_from_secs_f64(seconds).is_err() {
                return Err(A::Error::custom(format!(
                    "a point at {seconds} s: seconds count from 0 up"
                )));
            }
            curve.push((seconds, bytes));
        }
        Ok(Memory::Points(curve))
    }
}

impl<'de> Deserialize<'de> for GpuChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(GpuVisitor)
    }
}

struct GpuVisitor;

impl Visitor<'_> for GpuVisitor {
    type Value = GpuChoice;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a GPU's index (0, 1, …) or UUID")
    }

    fn visit_u64<E: Error>(self, index: u64) -> Result<GpuChoice, E> {
        let index =
            u32::try_from(index).map_err(|_| E::custom(format!("no GPU has the index {index}")))?;
        Ok(GpuChoice::Index(index))
    }

    fn visit_i64<E: Error>(self, index: i64) -> Result<GpuChoice, E> {
        let index =
            u64::try_from(index).map_err(|_| E::custom(format!("no GPU has the index {index}")))?;
        self.visit_u64(index)
    }

    fn visit_str<E: Error>(self, uuid: &str) -> Result<GpuChoice, E> {
        Ok(GpuChoice::Uuid(GpuUuid::from(uuid)))
    }
}

impl fmt::Display for GpuChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(formatter, "{index}"),
            Self::Uuid(uuid) => write!(formatter, "{uuid}"),
        }
    }
}
