//! A thread for calls that may never come back: one at a time, and whoever waits can leave.

use std::io;
use std::sync::mpsc as blocking;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Asks one thread. It ends when the desk is dropped and its last call has come back.
pub(super) struct Desk<Q, A> {
    questions: blocking::Sender<Q>,
    answers: mpsc::UnboundedReceiver<A>,
    /// Disconnected when the thread has ended.
    ended: blocking::Receiver<()>,
    asked: Option<Instant>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The call has not come back for this long.
    Overdue(Duration),
    /// The thread has ended, which a panic alone can do.
    Ended,
}

impl<Q: Send + 'static, A: Send + 'static> Desk<Q, A> {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn open(
        name: String,
        mut answer: impl FnMut(Q) -> A + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (questions, asked) = blocking::channel();
        let (answered, answers) = mpsc::unbounded_channel();
        let (alive, ended) = blocking::channel::<()>();
        let thread = Builder::new().name(name).spawn(move || {
            for question in asked {
                // Whoever asked may be gone.
                let _ = answered.send(answer(question));
            }
            drop(answer);
            drop(alive);
        })?;
        Ok((Self { questions, answers, ended, asked: None }, thread))
    }

    /// The answer to a question whose asker did not wait for it.
    pub(super) fn late(&mut self) -> Option<A> {
        let answer = self.answers.try_recv().ok()?;
        self.asked = None;
        Some(answer)
    }

    /// How long the call that is under way has been.
    pub(super) fn busy(&self) -> Option<Duration> {
        self.asked.map(|asked| asked.elapsed())
    }

    /// Asks, unless a call is under way: a thread that is stuck gets no second one.
    pub(super) fn ask(&mut self, question: Q) {
        if self.asked.is_none() {
            self.asked = Some(Instant::now());
            // A thread that has ended is noticed by who waits for its answer.
            let _ = self.questions.send(question);
        }
    }

    /// Waits for the answer to the question that was asked last.
    pub(super) async fn answer(&mut self, until: Instant) -> Result<A, NoAnswer> {
        match timeout_at(until, self.answers.recv()).await {
            Ok(Some(answer)) => {
                self.asked = None;
                Ok(answer)
            }
            Ok(None) => Err(NoAnswer::Ended),
            Err(_) => Err(NoAnswer::Overdue(self.busy().unwrap_or_default())),
        }
    }

    /// Lets the thread end and waits for that, blocking, at most so long.
    pub(super) fn close(self, patience: Duration) {
        drop(self.questions);
        let _ = self.ended.recv_timeout(patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn a_thread_that_is_stuck_gets_no_second_question_and_its_answer_is_late() {
        let (release, held) = blocking::channel::<()>();
        let (heard, questions) = blocking::channel();
        let (mut desk, thread) = Desk::open("test".into(), move |question: u32| {
            heard.send(question).unwrap();
            let _ = held.recv();
            question
        })
        .unwrap();
        desk.ask(1);
        let answer = desk.answer(Instant::now()).await;
        assert!(matches!(answer, Err(NoAnswer::Overdue(_))), "{answer:?}");
        desk.ask(2);
        drop(release);
        assert_eq!(desk.answer(soon()).await, Ok(1));
        assert_eq!((desk.busy(), desk.late()), (None, None));
        drop(desk);
        thread.join().unwrap();
        assert_eq!(questions.iter().collect::<Vec<_>>(), [1]);
    }

    #[tokio::test]
    async fn a_thread_that_has_ended_is_noticed() {
        let (mut desk, thread) =
            Desk::open("test".into(), |()| -> u32 { panic!("on purpose") }).unwrap();
        desk.ask(());
        assert_eq!(desk.answer(soon()).await, Err(NoAnswer::Ended));
        assert!(thread.join().is_err());
    }
}
