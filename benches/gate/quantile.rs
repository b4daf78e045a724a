//! What many measurements say.

/// The value below which that part of the values lies.
pub fn quantile<T: PartialOrd + Copy>(values: &[T], part: f64) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|left, right| left.partial_cmp(right).unwrap());
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

pub fn median<T: PartialOrd + Copy>(values: &[T]) -> T {
    quantile(values, 0.5)
}
