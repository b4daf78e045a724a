//! Kubernetes' quantities as far as KEDA hands them on: in thousandths, in 64 bits.

use crate::engine::Bytes;

/// What KEDA can hand on at least and at most: it makes thousandths of a number and counts them in
/// an `int64`.
const LEAST: f64 = 0.001;
const MOST: f64 = 9e15;

/// A target: above zero.
pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    let number = zero_or_above(text)?;
    if number < LEAST { Err("must be above zero, 1m or more".to_owned()) } else { Ok(number) }
}

/// A threshold: zero or above.
pub(super) fn zero_or_above(text: &str) -> Result<f64, String> {
    let number = number(text.trim()).ok_or("is not a quantity")?;
    if number < 0.0 {
        Err("must not be below zero".to_owned())
    } else if number > MOST {
        Err("is more than KEDA can count".to_owned())
    } else {
        Ok(number)
    }
}

/// `2`, `0.5`, `500m`, `12Gi`.
fn number(text: &str) -> Option<f64> {
    if let Some(thousandths) = text.strip_suffix('m') {
        return plain(thousandths).map(|number| number / 1000.0);
    }
    let bytes = || Bytes::parse_quantity(text).ok().map(|bytes| bytes.get() as f64);
    plain(text).or_else(bytes)
}

fn plain(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, number) in [
            ("2", 2.0),
            (" 0.5 ", 0.5),
            ("500m", 0.5),
            ("1m", 0.001),
            ("1e3", 1000.0),
            ("1.5k", 1500.0),
            ("12Gi", 12.0 * 1024.0 * 1024.0 * 1024.0),
        ] {
            assert_eq!(above_zero(text), Ok(number), "{text}");
        }
        assert_eq!(zero_or_above("0"), Ok(0.0));
    }

    #[test]
    fn what_is_none_or_cannot_be_meant_is_refused() {
        for (text, says) in [
            ("", "is not a quantity"),
            ("two", "is not a quantity"),
            ("12GiB", "is not a quantity"),
            ("inf", "is not a quantity"),
            ("NaN", "is not a quantity"),
            ("1e999m", "is not a quantity"),
            ("0", "must be above zero"),
            ("0.0001", "must be above zero"),
            ("-0", "must be above zero"),
            ("-1", "must not be below zero"),
            ("9Ei", "is more than KEDA can count"),
        ] {
            let problem = above_zero(text).unwrap_err();
            assert!(problem.contains(says), "{text}: {problem}");
        }
    }
}
