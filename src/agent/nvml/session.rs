//! NVML as it was opened last, with a thread for each GPU that it counts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::desk::{Desk, NoAnswer};
use super::fault::{Fault, Reach, overdue};
use crate::agent::hardware::Gpu;
use crate::engine::GpuUuid;

/// What a GPU answered: itself and, after it, its MIG instances.
pub(super) type Answer = Result<Vec<Gpu>, Fault>;

/// Asks one GPU.
pub(super) type GpuDesk = Desk<(), Answer>;

/// Dropped, it lets its threads end.
pub(super) struct Session {
    /// The driver's version.
    pub(super) driver: Arc<str>,
    /// By NVML's index.
    seats: Vec<Seat>,
}

struct Seat {
    desk: GpuDesk,
    /// Who it is, once it has answered.
    uuid: Option<GpuUuid>,
}

impl Session {
    pub(super) fn new(driver: Arc<str>, desks: Vec<GpuDesk>) -> Self {
        let seats = desks.into_iter().map(|desk| Seat { desk, uuid: None });
        Self { driver, seats: seats.collect() }
    }

    /// Whether a call about any GPU is under way.
    pub(super) fn is_busy(&mut self) -> bool {
        self.seats.iter_mut().any(|seat| {
            seat.desk.late();
            seat.desk.busy().is_some()
        })
    }

    /// Who the GPUs are, by index; `None` where one has never answered.
    pub(super) fn seats(&self) -> impl Iterator<Item = Option<&GpuUuid>> {
        self.seats.iter().map(|seat| seat.uuid.as_ref())
    }

    /// The GPUs that have answered.
    pub(super) fn uuids(&self) -> Vec<GpuUuid> {
        self.seats().flatten().cloned().collect()
    }

    /// How many GPUs NVML counts.
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Asks all GPUs at once. One that is stuck is not asked again, and not waited for.
    pub(super) async fn ask(&mut self, deadline: Duration) -> Vec<Answer> {
        let until = Instant::now() + deadline;
        let asked: Vec<_> = self.seats.iter_mut().map(Seat::ask).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (seat, asked) in self.seats.iter_mut().zip(asked) {
            answers.push(match asked {
                Ok(()) => seat.answer(until).await,
                Err(stuck) => Err(stuck),
            });
        }
        answers
    }
}

impl Seat {
    fn ask(&mut self) -> Result<(), Fault> {
        // The answer to an earlier question began too early to be one to this.
        self.desk.late();
        match self.desk.busy() {
            Some(since) => Err(stuck(since)),
            None => {
                self.desk.ask(());
                Ok(())
            }
        }
    }

    async fn answer(&mut self, until: Instant) -> Answer {
        let gpus = match self.desk.answer(until).await {
            Ok(answer) => answer?,
            Err(NoAnswer::Overdue(since)) => return Err(stuck(since)),
            Err(NoAnswer::Ended) => return Err(ended()),
        };
        if let Some(gpu) = gpus.first() {
            self.uuid = Some(gpu.uuid.clone());
        }
        Ok(gpus)
    }
}

fn stuck(since: Duration) -> Fault {
    Fault { reach: Reach::Nothing, why: overdue("an NVML call", since) }
}

fn ended() -> Fault {
    Fault { reach: Reach::Driver, why: "the thread that asks a GPU has ended".into() }
}

/// Why the session is worth nothing any more, where that is so: the driver is gone, or all GPUs fail
/// alike, which is what calls do after it was loaded anew.
pub(super) fn end(answers: &[Answer]) -> Option<Arc<str>> {
    let fault = |answer: &Answer| answer.as_ref().err().cloned();
    let gone = answers.iter().filter_map(fault).find(|fault| fault.reach == Reach::Driver);
    let all_fail = || {
        let faults: Option<Vec<_>> = answers.iter().map(fault).collect();
        let all = faults.filter(|faults| faults.iter().all(|fault| fault.reach == Reach::Call));
        all?.first().cloned()
    };
    Some(gone.or_else(all_fail)?.why)
}
