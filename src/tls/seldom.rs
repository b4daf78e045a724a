//! What strangers can bring about at will is not logged each time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Least time between two lines.
const PAUSE: Duration = Duration::from_secs(60);

/// Of events that come in any number, those that are to be told.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// Where this event is to be told: how many were not since the last that was.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock();
        if told.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            told.untold = told.untold.saturating_add(1);
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_minute_is_told_and_how_many_were_not() {
        let (seldom, began) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.due_at(began), Some(0));
        assert_eq!(seldom.due_at(began), None);
        assert_eq!(seldom.due_at(began + PAUSE / 2), None);
        assert_eq!(seldom.due_at(began + PAUSE), Some(2));
        assert_eq!(seldom.due_at(began + PAUSE * 3), Some(0));
    }
}
