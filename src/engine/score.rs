//! How good a GPU is for a pod: named terms, each 0 to 1, weighted by the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Bytes;

/// Weights of the terms; only their proportions matter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Weights {
    /// Packs: how much of the free memory the pod takes.
    pub tightness: f64,
    /// Spreads: how much of the GPU stays free.
    pub free_after: f64,
    /// Prefers GPUs that compute little.
    pub idleness: f64,
    /// Prefers nodes read a moment ago.
    pub freshness: f64,
}

impl Default for Weights {
    /// Packing first, so that whole GPUs stay free for what needs them; among equals the GPU that
    /// computes less, then the one read later.
    fn default() -> Self {
        Self { tightness: 6.0, free_after: 0.0, idleness: 3.0, freshness: 1.0 }
    }
}

/// The terms of one GPU for one pod, before weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// Bytes asked over bytes free.
    pub tightness: f64,
    /// Bytes left over the GPU's total.
    pub free_after: f64,
    /// One minus utilisation.
    pub idleness: f64,
    /// One for a reading of this moment, falling to zero at `staleAfter`.
    pub freshness: f64,
}

impl Weights {
    /// The largest weighted sum; what scores are divided by.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.tightness + self.free_after + self.idleness + self.freshness
    }

    /// The score of these terms, 0 to 1.
    #[must_use]
    pub fn score(&self, terms: Terms) -> f64 {
        let weighted = self.tightness * terms.tightness
            + self.free_after * terms.free_after
            + self.idleness * terms.idleness
            + self.freshness * terms.freshness;
        let sum = self.sum();
        if sum > 0.0 { weighted / sum } else { 0.0 }
    }
}

/// The terms for a pod that asks `bytes` of a GPU with `free` of `total` bytes for it.
#[must_use]
pub fn terms(
    total: Bytes,
    utilization_ratio: f64,
    free: Bytes,
    bytes: Bytes,
    freshness: f64,
) -> Terms {
    Terms {
        tightness: bytes.ratio_of(free).min(1.0),
        free_after: (free - bytes).ratio_of(total),
        idleness: 1.0 - utilization_ratio.clamp(0.0, 1.0),
        freshness,
    }
}

/// How fresh a reading of that age is: one, falling to zero at `stale_after`.
#[must_use]
pub fn freshness(age: Duration, stale_after: Duration) -> f64 {
    if stale_after.is_zero() {
        return 0.0;
    }
    (1.0 - age.as_secs_f64() / stale_after.as_secs_f64()).max(0.0)
}

/// kube-scheduler's scale: the best node alone gets 10, all others at most 9.
#[must_use]
pub fn to_extender_scale(score: f64, best: f64) -> i64 {
    const MOST_FOR_OTHERS: f64 = 9.0;
    if best <= 0.0 {
        0
    } else {
        (MOST_FOR_OTHERS * score / best).clamp(0.0, MOST_FOR_OTHERS) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_keeps_others_at_nine_and_never_fails() {
        assert_eq!(to_extender_scale(0.5, 0.5), 9);
        assert_eq!(to_extender_scale(0.25, 0.5), 4);
        assert_eq!(to_extender_scale(0.0, 0.0), 0);
        assert_eq!(to_extender_scale(f64::NAN, 0.5), 0);
    }

    #[test]
    fn weights_of_nothing_score_nothing() {
        let none = Weights { tightness: 0.0, free_after: 0.0, idleness: 0.0, freshness: 0.0 };
        assert_eq!(none.score(Terms { tightness: 1.0, ..Terms::default() }), 0.0);
    }

    #[test]
    fn freshness_falls_to_zero_at_the_limit() {
        let limit = Duration::from_secs(10);
        assert_eq!(freshness(Duration::ZERO, limit), 1.0);
        assert_eq!(freshness(Duration::from_secs(5), limit), 0.5);
        assert_eq!(freshness(Duration::from_secs(50), limit), 0.0);
    }
}
