//! Memory over time.

use std::time::Duration;

use crate::engine::{Bytes, Time};

/// How a curve runs between its points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Interpolation {
    /// In a straight line.
    #[default]
    Linear,
    /// Each point holds until the next.
    Step,
}

/// Memory as a function of the time since its owner's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    points: Vec<(Duration, Bytes)>,
    interpolation: Interpolation,
}

/// Why points make no curve.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CurveError {
    /// No point.
    #[error("has no point: write at least one [seconds, bytes]")]
    Empty,
    /// Time runs backwards.
    #[error("goes from {before} s back to {after} s: order the points by time")]
    Unordered {
        /// Seconds of the earlier point.
        before: f64,
        /// Seconds of the later one.
        after: f64,
    },
}

impl Curve {
    /// A curve through these points, ordered by time; before the first and after the last it is
    /// level.
    ///
    /// # Errors
    /// When there is no point, or they are not in order.
    pub fn new(
        points: Vec<(Duration, Bytes)>,
        interpolation: Interpolation,
    ) -> Result<Self, CurveError> {
        if points.is_empty() {
            return Err(CurveError::Empty);
        }
        if let Some(pair) = points.windows(2).find(|pair| pair[1].0 < pair[0].0) {
            let (before, after) = (pair[0].0.as_secs_f64(), pair[1].0.as_secs_f64());
            return Err(CurveError::Unordered { before, after });
        }
        Ok(Self { points, interpolation })
    }

    /// The same at all times.
    #[must_use]
    pub fn constant(bytes: Bytes) -> Self {
        Self { points: vec![(Duration::ZERO, bytes)], interpolation: Interpolation::Step }
    }

    /// The amount that long after the start.
    #[must_use]
    pub fn at(&self, elapsed: Duration) -> Bytes {
        let next = self.points.partition_point(|(at, _)| *at <= elapsed);
        let last = next.checked_sub(1).and_then(|last| self.points.get(last));
        match (last, self.points.get(next)) {
            (Some(last), Some(next)) if self.interpolation == Interpolation::Linear => {
                between(*last, *next, elapsed)
            }
            (Some(level), _) | (None, Some(level)) => level.1,
            (None, None) => Bytes::ZERO,
        }
    }
}

fn between(before: (Duration, Bytes), after: (Duration, Bytes), elapsed: Duration) -> Bytes {
    let span = after.0.saturating_sub(before.0).as_secs_f64();
    let part = elapsed.saturating_sub(before.0).as_secs_f64() / span;
    let (from, to) = (before.1.get() as f64, after.1.get() as f64);
    Bytes::new((from + (to - from) * part) as u64)
}

/// What a process holds: an amount, or a curve that runs from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amount {
    /// That much, until told otherwise.
    Fixed(Bytes),
    /// By a curve; nothing before the start nor from the end on.
    Curve {
        /// The curve.
        curve: Curve,
        /// When it starts.
        starts: Time,
        /// When its owner exits.
        ends: Option<Time>,
    },
}

impl Amount {
    /// What is held at that moment.
    #[must_use]
    pub fn at(&self, now: Time) -> Bytes {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Curve { curve, starts, .. } if self.is_running(now) => {
                curve.at(now.since(*starts))
            }
            Self::Curve { .. } => Bytes::ZERO,
        }
    }

    /// Whether the process has started and not exited.
    #[must_use]
    pub fn is_running(&self, now: Time) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Curve { starts, ends, .. } => {
                *starts <= now && ends.is_none_or(|ends| now < ends)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(interpolation: Interpolation) -> Curve {
        let points = [(10, 1), (20, 3), (20, 7), (30, 5)];
        let points = points.map(|(at, gib)| (Duration::from_secs(at), Bytes::gib(gib)));
        Curve::new(points.to_vec(), interpolation).unwrap()
    }

    #[test]
    fn runs_through_its_points() {
        let linear = curve(Interpolation::Linear);
        for (at, gib) in [(0, 1), (10, 1), (15, 2), (20, 7), (25, 6), (30, 5), (99, 5)] {
            assert_eq!(linear.at(Duration::from_secs(at)), Bytes::gib(gib), "at {at} s");
        }
        assert_eq!(curve(Interpolation::Step).at(Duration::from_secs(19)), Bytes::gib(1));
    }

    #[test]
    fn refuses_points_out_of_order() {
        let points =
            vec![(Duration::from_secs(2), Bytes::ZERO), (Duration::from_secs(1), Bytes::ZERO)];
        let error = Curve::new(points, Interpolation::Linear).unwrap_err();
        assert_eq!(error, CurveError::Unordered { before: 2.0, after: 1.0 });
        assert_eq!(Curve::new(Vec::new(), Interpolation::Step), Err(CurveError::Empty));
    }

    #[test]
    fn holds_nothing_before_its_start_and_after_its_end() {
        let curve = Curve::constant(Bytes::gib(4));
        let amount =
            Amount::Curve { curve, starts: Time::from_secs(5), ends: Some(Time::from_secs(9)) };
        let held: Vec<_> =
            (4..10).map(|second| amount.at(Time::from_secs(second)).get() >> 30).collect();
        assert_eq!(held, [0, 4, 4, 4, 4, 0]);
    }
}
