//! The one way in which a test waits: by asking again until a deadline.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Short against anything that Kubernetes does, long against one request.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What one look may find: the awaited value, or what there was instead.
pub trait Sighting {
    /// The awaited value.
    type Value;

    /// The value, or a text about the state that was seen instead.
    fn settle(self) -> Result<Self::Value, String>;
}

impl<T> Sighting for Option<T> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Display> Sighting for Result<T, E> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Looks until `look` finds what is awaited, and fails the test with the last
/// sighting when that takes longer than `deadline`.
pub async fn eventually<S: Sighting>(
    deadline: Duration,
    what: &str,
    look: impl AsyncFnMut() -> S,
) -> S::Value {
    let found = within(deadline, look).await;
    found.unwrap_or_else(|seen| panic!("waited {deadline:?} for: {what}; last seen: {seen}"))
}

/// Looks until `look` finds what is awaited; the last sighting when that takes longer than
/// `deadline`. A look that hangs (a stopped API server) counts as time, not as forever.
pub async fn within<S: Sighting>(
    deadline: Duration,
    mut look: impl AsyncFnMut() -> S,
) -> Result<S::Value, String> {
    let end = Instant::now() + deadline;
    let mut last_seen = "no answer at all".to_owned();
    while let Ok(sighting) = timeout_at(end, look()).await {
        match sighting.settle() {
            Ok(value) => return Ok(value),
            Err(seen) => last_seen = seen,
        }
        if Instant::now() >= end {
            break;
        }
        sleep(POLL_INTERVAL).await;
    }
    Err(last_seen)
}

/// Looks again and again for that long, for what must not happen: `check` fails the test when it
/// does.
pub async fn throughout(duration: Duration, mut check: impl AsyncFnMut()) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        check().await;
        sleep(POLL_INTERVAL * 10).await;
    }
    check().await;
}
