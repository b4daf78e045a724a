//! How often something may happen: a bucket of tokens, with the time as an argument.

use std::time::Duration;

use crate::engine::Time;

/// So many at once, and one more after each interval.
#[derive(Debug, Clone)]
pub struct Bucket {
    size: u32,
    interval: Duration,
    left: u32,
    counted_at: Time,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub const fn new(size: u32, interval: Duration) -> Self {
        Self { size, interval, left: size, counted_at: Time::ZERO }
    }

    /// Takes one, where there is one.
    pub fn take(&mut self, now: Time) -> bool {
        self.fill(now);
        let is_there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_there
    }

    fn fill(&mut self, now: Time) {
        let intervals = now.since(self.counted_at).as_nanos() / self.interval.as_nanos().max(1);
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(intervals).min(self.size);
        // Part of an interval counts on; a full bucket has none.
        let is_full = self.left == self.size;
        self.counted_at = if is_full { now } else { self.counted_at + self.interval * intervals };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn some_at_once_and_then_one_an_interval() {
        let mut bucket = Bucket::new(3, SECOND * 2);
        let mut taken = |now: u64| bucket.take(Time::from_secs(now));
        assert_eq!([(); 5].map(|()| taken(0)), [true, true, true, false, false]);
        assert_eq!([(); 2].map(|()| taken(1)), [false, false]);
        assert_eq!([(); 2].map(|()| taken(2)), [true, false]);
        assert_eq!([(); 2].map(|()| taken(5)), [true, false]);
        assert_eq!([(); 2].map(|()| taken(6)), [true, false]);
    }

    #[test]
    fn a_long_pause_fills_it_and_no_more() {
        let mut bucket = Bucket::new(2, SECOND);
        assert!(bucket.take(Time::ZERO));
        let taken = [(); 3].map(|()| bucket.take(Time::from_secs(1_000_000)));
        assert_eq!(taken, [true, true, false]);
    }
}
