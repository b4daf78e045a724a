//! Values of settings: kept as text until their key is known, so that an error can name it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::ConfigError;
use crate::engine::Bytes;
use crate::engine::bytes::QuantityError;

/// A setting's value as it was written: YAML's numbers and booleans are texts, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl FromStr for Text {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Text;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a single value")
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Text, E> {
                Ok(Text(value.to_owned()))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
        }
        from.deserialize_any(Scalar)
    }
}

/// A setting: its key, a right example, its value where there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) key: &'static str,
    pub(super) example: &'static str,
    pub(super) value: Option<&'a Text>,
}

impl Setting<'_> {
    fn read<T>(
        self,
        default: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let Some(Text(value)) = self.value else { return Ok(default) };
        read(value.trim()).map_err(|problem| ConfigError::Value {
            key: self.key,
            value: value.clone(),
            problem,
            example: self.example,
        })
    }

    /// A duration above zero.
    pub(super) fn duration(self, default: Duration) -> Result<Duration, ConfigError> {
        self.read(default, |text| {
            let span: SignedDuration = text.parse().map_err(|_| "is not a duration".to_owned())?;
            let span = Duration::try_from(span).ok().filter(|span| !span.is_zero());
            span.ok_or_else(|| "is not above zero".to_owned())
        })
    }

    /// A Kubernetes quantity of memory, or 0.
    pub(super) fn bytes(self, default: Bytes) -> Result<Bytes, ConfigError> {
        self.read(default, |text| match Bytes::parse_quantity(text) {
            Err(QuantityError::NotPositive) if !text.starts_with('-') => Ok(Bytes::ZERO),
            parsed => parsed.map_err(|error| error.to_string()),
        })
    }

    /// A Kubernetes quantity of memory above zero, where one is given.
    pub(super) fn some_bytes(self) -> Result<Option<Bytes>, ConfigError> {
        self.read(None, |text| {
            Bytes::parse_quantity(text).map(Some).map_err(|error| error.to_string())
        })
    }

    /// Anything with a textual form of its own (`what`: "an address").
    pub(super) fn parsed<T: FromStr>(self, default: T, what: &str) -> Result<T, ConfigError> {
        self.read(default, |text| text.parse().map_err(|_| format!("is not {what}")))
    }

    /// A word of a fixed list.
    pub(super) fn word<T: Copy>(self, words: &[(&str, T)], default: T) -> Result<T, ConfigError> {
        self.read(default, |text| {
            let known = words.iter().find(|(word, _)| *word == text);
            known.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                format!("is not one of {}", words.join(", "))
            })
        })
    }

    /// A weight: a finite number, 0 or above.
    pub(super) fn weight(self, default: f64) -> Result<f64, ConfigError> {
        self.read(default, |text| {
            let number = text.parse::<f64>().ok();
            let number = number.filter(|number| number.is_finite() && *number >= 0.0);
            number.ok_or_else(|| "is not a number, 0 or above".to_owned())
        })
    }

    /// A text that is not empty.
    pub(super) fn text(self, default: &str) -> Result<String, ConfigError> {
        self.read(default.to_owned(), |text| {
            if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
        })
    }

    /// What is wrong with the value that was read.
    pub(super) fn wrong(self, problem: impl Into<String>) -> ConfigError {
        let value = self.value.map(|text| text.0.clone()).unwrap_or_default();
        ConfigError::Value { key: self.key, value, problem: problem.into(), example: self.example }
    }
}
