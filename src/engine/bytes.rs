//! Amounts of memory.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// An amount of memory in bytes. Sums and differences saturate: an accounting error must close a
/// GPU, never wrap around and open it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(u64);

/// Why a text is not an amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not `<number><suffix>` with a suffix of Kubernetes' quantities.
    #[error("is not a quantity of memory")]
    Syntax,
    /// Zero or below.
    #[error("must be above zero")]
    NotPositive,
    /// Above what 64 bits hold.
    #[error("is larger than any GPU")]
    TooLarge,
}

const BINARY_SUFFIXES: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL_SUFFIXES: [(&str, u32); 6] =
    [("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl Bytes {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// That many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many MiB (2^20 bytes), saturating.
    #[must_use]
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// That many GiB (2^30 bytes), saturating.
    #[must_use]
    pub const fn gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The amount in GiB, for people and for scores.
    #[must_use]
    pub fn as_gib(self) -> f64 {
        self.0 as f64 / (1_u64 << 30) as f64
    }

    /// This amount as a part of `whole`, 0 where `whole` is nothing.
    #[must_use]
    pub fn ratio_of(self, whole: Self) -> f64 {
        if whole.0 == 0 { 0.0 } else { self.0 as f64 / whole.0 as f64 }
    }

    /// Reads one of Kubernetes' quantities (`12Gi`, `1.5G`, `8589934592`) that is above zero.
    ///
    /// # Errors
    /// When the text is no such quantity, not above zero, or does not fit 64 bits.
    pub fn parse_quantity(text: &str) -> Result<Self, QuantityError> {
        let (number, multiplier) = split_suffix(text);
        if number.starts_with('-') && number[1..].parse::<f64>().is_ok() {
            return Err(QuantityError::NotPositive);
        }
        let bytes = scale(number, multiplier)?;
        if bytes == 0 { Err(QuantityError::NotPositive) } else { Ok(Self(bytes)) }
    }
}

fn split_suffix(text: &str) -> (&str, u128) {
    let binary = BINARY_SUFFIXES.iter().map(|(suffix, bits)| (*suffix, 1_u128 << bits));
    let decimal = DECIMAL_SUFFIXES.iter().map(|(suffix, zeros)| (*suffix, 10_u128.pow(*zeros)));
    binary
        .chain(decimal)
        .find_map(|(suffix, multiplier)| Some((text.strip_suffix(suffix)?, multiplier)))
        .unwrap_or((text, 1))
}

/// `number` (digits, at most one point) times `multiplier`, rounded up as Kubernetes does.
fn scale(number: &str, multiplier: u128) -> Result<u64, QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0
        || !digits(whole)
        || !digits(fraction)
        || fraction.len() > 9
    {
        return Err(QuantityError::Syntax);
    }
    let significant = format!("{whole}{fraction}");
    let value: u128 = significant.parse().map_err(|_| QuantityError::TooLarge)?;
    let denominator = 10_u128.pow(fraction.len() as u32);
    let scaled = value.checked_mul(multiplier).ok_or(QuantityError::TooLarge)?;
    u64::try_from(scaled.div_ceil(denominator)).map_err(|_| QuantityError::TooLarge)
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Bytes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// `12.0 GiB`, or `300 MiB` below one GiB.
impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 && self.0 < 1 << 30 {
            write!(formatter, "{} MiB", self.0 >> 20)
        } else {
            write!(formatter, "{:.1} GiB", self.as_gib())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kubernetes_quantities() {
        for (text, bytes) in [
            ("12Gi", 12 << 30),
            ("1.5Gi", 3 << 29),
            ("100M", 100_000_000),
            ("8589934592", 8 << 30),
            ("0.0000001k", 1),
        ] {
            assert_eq!(Bytes::parse_quantity(text), Ok(Bytes::new(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_amount_of_memory() {
        for (text, error) in [
            ("12GiB", QuantityError::Syntax),
            ("", QuantityError::Syntax),
            ("Gi", QuantityError::Syntax),
            (".", QuantityError::Syntax),
            ("1.2.3Gi", QuantityError::Syntax),
            ("１２Gi", QuantityError::Syntax),
            (" 12Gi", QuantityError::Syntax),
            ("-", QuantityError::Syntax),
            ("-1", QuantityError::NotPositive),
            ("-1Gi", QuantityError::NotPositive),
            ("0", QuantityError::NotPositive),
            ("99999999999999999999", QuantityError::TooLarge),
            ("99999999999999999999999999999999999999999999Ei", QuantityError::TooLarge),
        ] {
            assert_eq!(Bytes::parse_quantity(text), Err(error), "{text}");
        }
    }

    #[test]
    fn saturates() {
        assert_eq!(Bytes::new(u64::MAX) + Bytes::gib(1), Bytes::new(u64::MAX));
        assert_eq!(Bytes::gib(1) - Bytes::gib(2), Bytes::ZERO);
    }

    #[test]
    fn reads_well() {
        assert_eq!(Bytes::gib(12).to_string(), "12.0 GiB");
        assert_eq!(Bytes::mib(300).to_string(), "300 MiB");
        assert_eq!(Bytes::ZERO.to_string(), "0.0 GiB");
    }
}
