//! What the API server said, for a few seconds.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::Time;

/// Answers kept; a cluster has a few callers.
const MOST: usize = 1024;

/// Answers by question, each with the time until which it counts.
#[derive(Debug)]
pub(super) struct Remembered<K, V>(Mutex<HashMap<K, (Time, V)>>);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Remembered<K, V> {
    pub(super) fn get(&self, question: &K, now: Time) -> Option<V> {
        let known = self.0.lock();
        let (until, answer) = known.get(question)?;
        (now < *until).then(|| answer.clone())
    }

    /// Where too much is known already, the answer is not kept.
    pub(super) fn keep(&self, question: K, answer: V, lasts: Duration, now: Time) {
        let mut known = self.0.lock();
        if known.len() >= MOST {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() < MOST {
            known.insert(question, (now + lasts, answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_time_and_the_number_of_answers_is_bounded() {
        let remembered = Remembered::default();
        let (second, now) = (Duration::from_secs(1), Time::from_secs(100));
        for question in 0..MOST + 1 {
            remembered.keep(question, "yes", second, now);
        }
        assert_eq!(remembered.get(&0, now), Some("yes"));
        assert_eq!(remembered.get(&MOST, now), None, "too many");
        let later = now + second;
        assert_eq!(remembered.get(&0, later), None, "its time is over");
        remembered.keep(MOST, "yes", second, later);
        assert_eq!(remembered.get(&MOST, later), Some("yes"));
    }
}
