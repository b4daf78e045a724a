//! When to try again: twice as long each time.

use std::time::Duration;

use tokio::time::Instant;

/// Time between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
}

/// Tries of one thing.
#[derive(Debug)]
pub(super) struct Retry {
    pauses: Pauses,
    /// The next try and the pause after it; `None` while nothing fails.
    next: Option<(Instant, Duration)>,
}

impl Retry {
    pub(super) fn new(pauses: Pauses) -> Self {
        Self { pauses, next: None }
    }

    /// It failed: the next try is after a pause, twice as long as the last.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = self.next.map_or(self.pauses.first, |(_, pause)| pause);
        self.next = Some((now + pause, (pause * 2).min(self.pauses.longest)));
    }

    /// It still fails, which puts off no try that is planned.
    pub(super) fn fails(&mut self, now: Instant) {
        if self.next.is_none() {
            self.failed(now);
        }
    }

    /// It works.
    pub(super) fn worked(&mut self) {
        self.next = None;
    }

    /// Whether a try that was put off is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|(at, _)| at <= now)
    }

    /// Whether the next try has to wait.
    pub(super) fn must_wait(&self, now: Instant) -> bool {
        self.next.is_some_and(|(at, _)| at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over_when_it_works() {
        let second = Duration::from_secs(1);
        let mut now = Instant::now();
        let mut retry = Retry::new(Pauses { first: second, longest: 3 * second });
        assert!(!retry.must_wait(now) && !retry.is_due(now), "nothing has failed");
        for pause in [1, 2, 3, 3] {
            retry.failed(now);
            now += pause * second;
            let before = now - second / 1000;
            retry.fails(before);
            assert!(retry.must_wait(before) && !retry.is_due(before), "{pause}");
            assert!(!retry.must_wait(now) && retry.is_due(now), "{pause}");
        }
        retry.worked();
        retry.fails(now);
        assert!(retry.is_due(now + second));
    }
}
