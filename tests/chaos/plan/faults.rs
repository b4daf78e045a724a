//! The faults of a burst.

use std::fmt;
use std::time::Duration;

use filmgate::demo::random::Random;

use super::super::support::proxy::Verb;
use super::waves::Wave;
use super::{Draw, seconds};

/// Time between two faults, in milliseconds.
const LEAST_GAP: u64 = 200;
const MOST_GAP: u64 = 1500;
/// Before Bindings gather that are to be of the dead, and after those are back, everyone who is
/// needed for that works.
pub(super) const PEACE_BEFORE: Duration = Duration::from_millis(1500);
pub(super) const PEACE_AFTER: Duration = Duration::from_millis(1500);

/// A fault and its moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// When it begins, from the burst's start.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// What may go wrong. Nodes go by number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// SIGKILL; started again afterwards.
    Kill(Who),
    /// SIGTERM; started again when it has ended.
    Restart(Which),
    /// SIGSTOP; continued afterwards.
    Pause(Who),
    /// SIGKILL of the API server.
    KillApiServer,
    /// SIGSTOP of the API server.
    PauseApiServer,
    /// Requests of that replica come to harm.
    Requests(Which, Harm),
    /// What that replica's watches tell is late.
    StallWatches(Which),
    /// That node's agent is not well.
    Agent(usize, Illness),
    /// The leader and its kube-scheduler come to an end with Bindings on the wire, which commit one
    /// by one until the fault is over, if they can.
    Orphans(Orphans),
}

/// Bindings that outlive who sent them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orphans {
    /// For how long Bindings gather on the wire before.
    pub gather: Duration,
    /// For how long their senders are gone.
    pub gone: Duration,
    /// They are killed, not stopped.
    pub is_killed: bool,
    /// From then on, after the senders' end, the Bindings go on one by one.
    pub late: Duration,
}

/// Whom a signal is sent to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Who {
    /// A filmgate.
    Extender(Which),
    /// The kube-scheduler beside it, or the only one.
    Scheduler(Which),
    /// Both.
    Replica(Which),
}

/// A replica, by what it is in that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Which {
    /// The one that leads, or led last.
    Leader,
    /// The other, where there are two.
    Standby,
}

/// What befalls requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Harm {
    /// Bindings take up to that much longer.
    Delayed(Duration),
    /// Bindings wait until the fault is over, even those of the dead.
    Held,
    /// Answers are dropped, faked or late, in that part of all cases, whatever was carried out.
    Answers(Verb, f64),
}

/// What is wrong with an agent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Illness {
    /// It cannot be reached.
    Refuses,
    /// It says nothing.
    Hangs,
    /// Its samplings arrive so much later.
    Late(Duration),
    /// Samplings arrive twice.
    Repeats,
    /// Samplings arrive in another order.
    OutOfOrder,
    /// Its figures cannot be true.
    Lies,
    /// It cannot be reached, and knows nothing of earlier peaks and samplings when it is back.
    Restarts,
}

impl Fault {
    /// Its kind, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kill(Who::Extender(_)) => "filmgate killed",
            Self::Kill(Who::Scheduler(_)) => "kube-scheduler killed",
            Self::Kill(Who::Replica(_)) => "both killed",
            Self::Restart(_) => "filmgate restarted",
            Self::Pause(Who::Extender(_)) => "filmgate stopped",
            Self::Pause(Who::Scheduler(_)) => "kube-scheduler stopped",
            Self::Pause(Who::Replica(_)) => "both stopped",
            Self::KillApiServer => "API server restarted",
            Self::PauseApiServer => "API server stopped",
            Self::Requests(_, Harm::Delayed(_)) => "Bindings delayed",
            Self::Requests(_, Harm::Held) => "Bindings held back",
            Self::Requests(_, Harm::Answers(..)) => "answers dropped, faked or late",
            Self::StallWatches(_) => "watches late",
            Self::Agent(_, Illness::Refuses | Illness::Hangs) => "readings lost",
            Self::Agent(_, Illness::Late(_)) => "readings late",
            Self::Agent(_, Illness::Repeats) => "readings repeated",
            Self::Agent(_, Illness::OutOfOrder) => "readings out of order",
            Self::Agent(_, Illness::Lies) => "readings impossible",
            Self::Agent(_, Illness::Restarts) => "agent restarted",
            Self::Orphans(_) => "Bindings of the dead",
        }
    }
}

/// Faults from the first moment to the last; what begins late goes on until the burst is over.
pub(super) fn draw(
    random: &mut Random,
    nodes: usize,
    waves: &[Wave],
    length: Duration,
) -> Vec<Timed> {
    let mut faults: Vec<Timed> = Vec::new();
    let mut at = random.millis(LEAST_GAP, MOST_GAP);
    while at < length {
        let (fault, lasts) = draw_one(random, nodes);
        // It takes seconds each time, and informers all over the cluster become slower with each.
        let is_one_too_many = fault == Fault::KillApiServer
            && faults.iter().any(|earlier| earlier.fault == Fault::KillApiServer);
        let is_in_the_way = !matches!(fault, Fault::Agent(..))
            && waves.iter().any(|wave| wave.needs_peace(at, at + lasts));
        if !is_one_too_many && !is_in_the_way {
            faults.push(Timed { at, lasts, fault });
        }
        at += random.millis(LEAST_GAP, MOST_GAP);
    }
    faults.extend(waves.iter().filter_map(|wave| wave.fault.clone()));
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn draw_one(random: &mut Random, nodes: usize) -> (Fault, Duration) {
    let replica = random.weighted(&[(3, Which::Leader), (1, Which::Standby)]);
    let node = random.below(nodes);
    let who = random.weighted(&[
        (6, Who::Extender(replica)),
        (2, Who::Scheduler(replica)),
        (2, Who::Replica(replica)),
    ]);
    let kind: fn(&mut Random, Which, usize, Who) -> (Fault, Duration) = random.weighted(&[
        (30, kill),
        (5, restart),
        (14, pause),
        (5, api_server),
        (24, requests),
        (5, watches),
        (22, agent),
    ]);
    kind(random, replica, node, who)
}

fn kill(random: &mut Random, replica: Which, _: usize, who: Who) -> (Fault, Duration) {
    let who = if random.chance(0.4) { Who::Extender(replica) } else { who };
    (Fault::Kill(who), random.millis(0, 1500))
}

fn restart(random: &mut Random, replica: Which, _: usize, _: Who) -> (Fault, Duration) {
    (Fault::Restart(replica), random.millis(0, 1000))
}

/// Some last longer than a Lease.
fn pause(random: &mut Random, _: Which, _: usize, who: Who) -> (Fault, Duration) {
    let most = random.weighted(&[(3, 2000), (1, 9000)]);
    (Fault::Pause(who), random.millis(100, most))
}

fn api_server(random: &mut Random, _: Which, _: usize, _: Who) -> (Fault, Duration) {
    if random.chance(0.3) {
        (Fault::KillApiServer, random.millis(0, 1500))
    } else {
        (Fault::PauseApiServer, random.millis(200, 4000))
    }
}

fn requests(random: &mut Random, replica: Which, _: usize, _: Who) -> (Fault, Duration) {
    let (part, delay) = (0.2 + 0.7 * random.unit(), random.millis(100, 4000));
    let harm = random.weighted(&[
        (3, Harm::Delayed(delay)),
        (3, Harm::Held),
        (4, Harm::Answers(Verb::Bind, part)),
        (1, Harm::Answers(Verb::Fence, part)),
        (1, Harm::Answers(Verb::Get, part)),
    ]);
    (Fault::Requests(replica, harm), random.millis(500, 6000))
}

fn watches(random: &mut Random, replica: Which, _: usize, _: Who) -> (Fault, Duration) {
    (Fault::StallWatches(replica), random.millis(200, 5000))
}

fn agent(random: &mut Random, _: Which, node: usize, _: Who) -> (Fault, Duration) {
    let late = random.millis(200, 3000);
    let illness = random.weighted(&[
        (4, Illness::Refuses),
        (3, Illness::Hangs),
        (4, Illness::Late(late)),
        (2, Illness::Repeats),
        (2, Illness::OutOfOrder),
        (1, Illness::Lies),
        (5, Illness::Restarts),
    ]);
    (Fault::Agent(node, illness), random.millis(100, 7000))
}

impl fmt::Display for Timed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "at {} for {}: {:?}", seconds(self.at), seconds(self.lasts), self.fault)
    }
}
