use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::clock::ManualClock;

/// Knows one token, and counts how often it is asked.
#[derive(Clone, Default)]
struct Script(Arc<AtomicUsize>);

impl Reviewer for Script {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<String>, String>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match token {
                "ours" => Ok(Some("filmgate".to_owned())),
                "another's" => Ok(Some("somebody".to_owned())),
                "unclear" => Err("no answer".to_owned()),
                _ => Ok(None),
            }
        })
    }
}

fn door() -> (Readers, Arc<AtomicUsize>, ManualClock) {
    let script = Script::default();
    let (asked, clock) = (Arc::clone(&script.0), ManualClock::new());
    (Readers::new(script, vec!["filmgate".to_owned()], clock.clock()), asked, clock)
}

#[tokio::test]
async fn only_those_named_may_read() {
    let (readers, ..) = door();
    assert_eq!(readers.check(Some("Bearer ours")).await, Ok(()));
    for token in ["Bearer another's", "Bearer nobody's", "Bearer "] {
        assert_eq!(readers.check(Some(token)).await, Err(TurnedAway::NotAReader), "{token}");
    }
    for none in [None, Some("Basic ours"), Some("ours"), Some("bearer ours")] {
        assert_eq!(readers.check(none).await, Err(TurnedAway::NoToken), "{none:?}");
    }
    let endless = format!("Bearer {}", "x".repeat(LONGEST_TOKEN + 1));
    assert_eq!(readers.check(Some(&endless)).await, Err(TurnedAway::NoToken));
}

#[tokio::test]
async fn the_answer_counts_for_a_minute_and_a_refusal_for_seconds() {
    let (readers, asked, clock) = door();
    let ask = async |token: &str| {
        let _ = readers.check(Some(token)).await;
        asked.load(Ordering::SeqCst)
    };
    assert_eq!([ask("Bearer ours").await, ask("Bearer ours").await], [1, 1]);
    clock.advance(REMEMBERED);
    assert_eq!(ask("Bearer ours").await, 2);
    assert_eq!([ask("Bearer another's").await, ask("Bearer another's").await], [3, 3]);
    clock.advance(REMEMBERED_REFUSAL);
    assert_eq!(ask("Bearer another's").await, 4);
}

#[tokio::test]
async fn what_nobody_can_tell_is_asked_again_and_is_no_leave_to_read() {
    let (readers, asked, _) = door();
    for _ in 0..2 {
        let unknown = readers.check(Some("Bearer unclear")).await;
        assert_eq!(unknown, Err(TurnedAway::Unknown("no answer".to_owned())));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn guesses_do_not_push_a_reader_out() {
    let (readers, asked, _) = door();
    readers.check(Some("Bearer ours")).await.unwrap();
    for guess in 0..2 * MOST_TOKENS {
        let _ = readers.check(Some(&format!("Bearer {guess}"))).await;
    }
    let before = asked.load(Ordering::SeqCst);
    readers.check(Some("Bearer ours")).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), before);
}
