//! Waiting between tries: twice as long each time, and never two callers in step.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
/// An API server that comes back must not be waited for: pods are.
const LONGEST: Duration = Duration::from_secs(2);

/// A watch that did not fail for this long works again.
const QUIET: Duration = Duration::from_secs(10);

/// Delays from [`FIRST`] to [`LONGEST`], each at random between half and all of it.
#[derive(Debug)]
pub(super) struct Jittered {
    next: Duration,
}

impl Jittered {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The time to wait now.
    pub(super) fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(LONGEST);
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// The same for a watch, which says `Init` before each list that may fail: no such word means that
/// it works, only time without a failure does.
#[derive(Debug)]
pub(super) struct WatchRetries {
    delays: Jittered,
    last: Option<Instant>,
}

impl WatchRetries {
    pub(super) fn new() -> Self {
        Self { delays: Jittered::new(), last: None }
    }

    fn delay_at(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now - last > QUIET) {
            self.delays = Jittered::new();
        }
        self.last = Some(now);
        self.delays.delay()
    }
}

impl Iterator for WatchRetries {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.delay_at(Instant::now()))
    }
}

impl Backoff for WatchRetries {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_longest() {
        let mut backoff = Jittered::new();
        assert!(backoff.delay() <= FIRST);
        let late = std::iter::repeat_with(|| backoff.delay()).nth(20).unwrap();
        assert!((LONGEST / 2..=LONGEST).contains(&late), "{late:?}");
    }

    #[test]
    fn a_watch_starts_over_after_a_quiet_time_only() {
        let (mut backoff, start) = (WatchRetries::new(), Instant::now());
        assert!(backoff.nth(20).unwrap() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.delay_at(start + QUIET / 2) >= LONGEST / 2);
        assert!(backoff.delay_at(start + QUIET * 2) <= FIRST);
    }
}
