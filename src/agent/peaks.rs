//! The most that a pod held on a GPU within a window.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{Bytes, Time};

/// Amounts that were in force until some moment, and the one in force now. Only those are kept
/// that can still be the peak: each is larger than all that came after it.
#[derive(Debug, Clone, Default)]
pub struct PeakWindow {
    past: VecDeque<(Time, Bytes)>,
    current: Bytes,
}

impl PeakWindow {
    /// From `now` on the pod holds `bytes`.
    pub fn record(&mut self, now: Time, bytes: Bytes) {
        if bytes == self.current {
            return;
        }
        while self.past.back().is_some_and(|(_, past)| *past <= self.current) {
            self.past.pop_back();
        }
        self.past.push_back((now, self.current));
        self.current = bytes;
    }

    /// The most that was held at any moment of the last `window`.
    pub fn peak(&mut self, now: Time, window: Duration) -> Bytes {
        while self.past.front().is_some_and(|(until, _)| now.since(*until) > window) {
            self.past.pop_front();
        }
        self.past.front().map_or(self.current, |(_, past)| self.current.max(*past))
    }

    /// What is held now.
    #[must_use]
    pub fn current(&self) -> Bytes {
        self.current
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn a_burst_counts_until_the_window_has_passed() {
        let mut peaks = PeakWindow::default();
        peaks.record(Time::from_secs(0), Bytes::gib(22));
        peaks.record(Time::from_secs(1), Bytes::gib(35));
        peaks.record(Time::from_secs(2), Bytes::gib(22));
        assert_eq!(peaks.peak(Time::from_secs(12), WINDOW), Bytes::gib(35));
        assert_eq!(peaks.peak(Time::from_secs(13), WINDOW), Bytes::gib(22));
    }

    proptest! {
        #[test]
        fn equals_the_maximum_over_the_window(steps in prop::collection::vec((0_u64..5, 0_u64..6), 1..40)) {
            let mut peaks = PeakWindow::default();
            let mut held: Vec<(u64, Bytes)> = vec![(0, Bytes::ZERO)];
            let mut now = 0;
            for (wait, amount) in steps {
                now += wait;
                peaks.record(Time::from_secs(now), Bytes::gib(amount));
                held.push((now, Bytes::gib(amount)));
                let ends = held.iter().skip(1).map(|(from, _)| *from).chain([u64::MAX]);
                let in_window = held.iter().zip(ends).filter(|(_, until)| now.saturating_sub(*until) <= 10);
                let expected = in_window.map(|((_, bytes), _)| *bytes).max();
                prop_assert_eq!(Some(peaks.peak(Time::from_secs(now), WINDOW)), expected);
            }
        }
    }
}
