//! Where the adapters get the [`Time`] that they hand to the engine.
//!
//! The service reads the monotonic clock; tests and simulations turn a [`ManualClock`] by hand, so
//! that ten minutes pass in no time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engine::Time;

/// A clock that can be read. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// The machine's monotonic clock, counted from this call. It goes on while the process is
    /// stopped, which is how a pause is noticed.
    #[must_use]
    pub fn monotonic() -> Self {
        let origin = Instant::now();
        Self::from_fn(move || Time::since_origin(origin.elapsed()))
    }

    /// A clock that asks `read` what time it is.
    pub fn from_fn(read: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// A clock that stands still until it is moved. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows [`Time::ZERO`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::since_origin(Duration::from_nanos(self.0.load(Ordering::SeqCst)))
    }

    /// The handle that adapters read.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let shown = self.clone();
        Clock::from_fn(move || shown.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let manual = ManualClock::new();
        let clock = manual.clock();
        assert_eq!(clock.now(), Time::ZERO);
        manual.advance(Duration::from_secs(600));
        assert_eq!(clock.now(), Time::from_secs(600));
    }
}
