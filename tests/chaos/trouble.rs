//! Faults as they happen: signals, harm to requests, ill agents; and their end.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use filmgate::agent::simulated::{Delivery, Faults, Loss};
use filmgate::demo::random::Random;
use tokio::time::{Instant, sleep_until};

use super::plan::{Fault, Harm, Illness, Plan, Timed, Which, Who};
use super::support::process::Process;
use super::support::proxy::{self, Answer, Commit, FaultProxy, Verb};
use super::support::replicas::{Election, Replicas};

/// How soon a process that ended by itself is started again, as a kubelet would.
const TEND_INTERVAL: Duration = Duration::from_millis(100);
/// Who is stopped says nothing.
const LOOK_LIMIT: Duration = Duration::from_millis(100);
const VERBS: [Verb; 3] = [Verb::Bind, Verb::Fence, Verb::Get];

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// SIGKILLs of a filmgate that ran.
    pub kills: usize,
    /// Of those, kills of the one that led.
    pub leader_kills: usize,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// What must not happen.
    pub findings: Vec<String>,
}

/// One that a signal can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Extender(usize),
    Scheduler(usize),
}

/// How a fault ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Start(Part),
    Continue(Part),
    StartApiServer,
    ContinueApiServer,
    LetGo(usize),
    Watches(usize),
    Agent(usize, Illness),
}

/// The faults of a burst, as they happen to a world.
pub struct Trouble<'a> {
    world: &'a mut Replicas,
    plan: &'a Plan,
    ends: Vec<(Instant, End)>,
    /// Down on purpose.
    down: HashSet<Part>,
    /// Which replica led when that was last seen.
    leader: usize,
    tally: Tally,
}

impl<'a> Trouble<'a> {
    /// Nothing has happened yet.
    pub fn of(world: &'a mut Replicas, plan: &'a Plan) -> Self {
        let (ends, down, tally) = Default::default();
        Self { world, plan, ends, down, leader: 0, tally }
    }

    /// Has everything happen in its moment; returns when nothing is wrong any more.
    pub async fn run(mut self, start: Instant) -> Tally {
        let faults = self.plan.faults.iter().zip(0..);
        for (timed, number) in faults {
            self.pass(start + timed.at).await;
            self.begin(timed, number).await;
        }
        self.pass(start + self.plan.length).await;
        self.end_all().await;
        self.tally
    }

    /// Time passes until then; what is due ends, and who ended by himself is started again.
    /// Moments are planned, so nothing is waited for.
    async fn pass(&mut self, until: Instant) {
        loop {
            self.ends.sort_by_key(|(due, _)| *due);
            let next = self.ends.first().map_or(until, |(due, _)| (*due).min(until));
            let look = Instant::now() + TEND_INTERVAL;
            sleep_until(next.min(look)).await;
            self.tend();
            let now = Instant::now();
            while self.ends.first().is_some_and(|(due, _)| *due <= now) {
                let (_, end) = self.ends.remove(0);
                self.end(end);
            }
            if now >= until {
                return;
            }
        }
    }

    async fn begin(&mut self, timed: &Timed, number: u64) {
        let leads = self.see_who_leads().await;
        let due = Instant::now() + timed.lasts;
        let ends = match timed.fault {
            Fault::Kill(who) => self.kill(who, leads),
            Fault::Restart(which) => self.restart(which),
            Fault::Pause(who) => self.pause(who),
            Fault::KillApiServer | Fault::PauseApiServer => self.harm_api_server(timed.fault),
            Fault::Requests(which, harm) => {
                let replica = self.replica(which);
                let random = Random::new(self.plan.seed ^ (number << 32));
                harm_requests(&self.world.replica(replica).proxy, harm, random);
                vec![End::LetGo(replica)]
            }
            Fault::StallWatches(which) => {
                let replica = self.replica(which);
                self.world.replica(replica).proxy.stall_watches(true);
                vec![End::Watches(replica)]
            }
            Fault::Agent(node, illness) => self.fall_ill(node, illness),
        };
        if !ends.is_empty() {
            *self.tally.faults.entry(timed.fault.kind()).or_default() += 1;
        }
        self.ends.extend(ends.into_iter().map(|end| (due, end)));
    }

    /// Which replica says that it leads, if one does.
    async fn see_who_leads(&mut self) -> Option<usize> {
        for replica in 0..self.world.count() {
            let says = self.world.replica(replica).metric("filmgate_leader");
            if tokio::time::timeout(LOOK_LIMIT, says).await == Ok(Some(1.0)) {
                self.leader = replica;
                return Some(replica);
            }
        }
        None
    }

    fn replica(&self, which: Which) -> usize {
        match which {
            Which::Leader => self.leader,
            Which::Standby => self.world.count() - 1 - self.leader,
        }
    }

    fn kill(&mut self, who: Who, leads: Option<usize>) -> Vec<End> {
        let parts = self.up(who);
        for part in &parts {
            if let Part::Extender(replica) = part {
                self.tally.kills += 1;
                self.tally.leader_kills += usize::from(leads == Some(*replica));
            }
            self.process(*part).kill();
        }
        self.down.extend(&parts);
        parts.into_iter().map(End::Start).collect()
    }

    fn restart(&mut self, which: Which) -> Vec<End> {
        let parts = self.up(Who::Extender(which));
        for part in &parts {
            self.process(*part).signal(libc::SIGTERM);
        }
        self.down.extend(&parts);
        parts.into_iter().map(End::Start).collect()
    }

    fn pause(&mut self, who: Who) -> Vec<End> {
        let parts = self.up(who);
        parts.iter().for_each(|part| self.process(*part).signal(libc::SIGSTOP));
        parts.into_iter().map(End::Continue).collect()
    }

    fn harm_api_server(&mut self, fault: Fault) -> Vec<End> {
        let is_harmed = |end: &End| matches!(end, End::StartApiServer | End::ContinueApiServer);
        if self.ends.iter().any(|(_, end)| is_harmed(end)) {
            return Vec::new();
        }
        if fault == Fault::KillApiServer {
            self.world.cluster.kill_api_server();
            return vec![End::StartApiServer];
        }
        self.world.cluster.api_server().signal(libc::SIGSTOP);
        vec![End::ContinueApiServer]
    }

    fn fall_ill(&mut self, node: usize, illness: Illness) -> Vec<End> {
        let faults = match illness {
            Illness::Refuses | Illness::Restarts => {
                Faults { lost: Some(Loss::Refused), ..Faults::default() }
            }
            Illness::Hangs => Faults { lost: Some(Loss::Hung), ..Faults::default() },
            Illness::Late(late) => Faults { late, ..Faults::default() },
            Illness::Repeats => Faults { delivery: Delivery::Repeated, ..Faults::default() },
            Illness::OutOfOrder => Faults { delivery: Delivery::OutOfOrder, ..Faults::default() },
            Illness::Lies => Faults { has_impossible_numbers: true, ..Faults::default() },
        };
        self.world.fleet.set_faults(&self.plan.nodes[node].name, faults).expect("a node");
        vec![End::Agent(node, illness)]
    }

    fn end(&mut self, end: End) {
        match end {
            // One that ends politely takes its time.
            End::Start(part) if self.process(part).exit_status().is_none() => {
                self.ends.push((Instant::now() + TEND_INTERVAL, end));
            }
            End::Start(part) => {
                self.down.remove(&part);
                self.start(part);
            }
            End::Continue(part) => self.process(part).signal(libc::SIGCONT),
            End::StartApiServer => self.world.cluster.start_api_server(),
            End::ContinueApiServer => self.world.cluster.api_server().signal(libc::SIGCONT),
            End::LetGo(replica) => {
                let proxy = &self.world.replica(replica).proxy;
                for verb in VERBS {
                    proxy.befall(verb, proxy::Fault::NONE);
                }
                proxy.release_all();
            }
            End::Watches(replica) => self.world.replica(replica).proxy.stall_watches(false),
            End::Agent(node, illness) => self.recover(node, illness),
        }
    }

    fn recover(&mut self, node: usize, illness: Illness) {
        let name = &self.plan.nodes[node].name;
        if illness == Illness::Restarts {
            self.world.fleet.restart_agent(name).expect("a node");
        }
        self.world.fleet.set_faults(name, Faults::default()).expect("a node");
    }

    /// Whatever lasts ends now.
    async fn end_all(&mut self) {
        while !self.ends.is_empty() {
            for (_, end) in std::mem::take(&mut self.ends) {
                self.end(end);
            }
            self.pass(Instant::now() + TEND_INTERVAL).await;
        }
        self.world.cluster.api_server_ready().await;
        self.tend();
    }

    /// Those meant that are not down on purpose.
    fn up(&self, who: Who) -> Vec<Part> {
        let parts = match who {
            Who::Extender(which) => vec![Part::Extender(self.replica(which))],
            Who::Scheduler(which) => vec![self.scheduler_of(self.replica(which))],
            Who::Replica(which) => self.parts_of(self.replica(which)).to_vec(),
        };
        parts.into_iter().filter(|part| !self.down.contains(part)).collect()
    }

    fn parts_of(&self, replica: usize) -> [Part; 2] {
        [self.scheduler_of(replica), Part::Extender(replica)]
    }

    fn scheduler_of(&self, replica: usize) -> Part {
        let has_its_own = self.plan.election == Election::Sibling;
        Part::Scheduler(if has_its_own { replica } else { 0 })
    }

    fn process(&mut self, part: Part) -> &mut Process {
        match part {
            Part::Extender(replica) => self.world.extender(replica),
            Part::Scheduler(replica) => self.world.scheduler(replica),
        }
    }

    fn start(&mut self, part: Part) {
        match part {
            Part::Extender(replica) => self.world.spawn_extender(replica),
            Part::Scheduler(replica) => self.world.spawn_scheduler(replica),
        }
    }

    /// kube-scheduler ends when it has lost its Lease; filmgate never ends by itself.
    fn tend(&mut self) {
        for replica in 0..self.world.count() {
            for part in self.parts_of(replica) {
                if self.down.contains(&part) {
                    continue;
                }
                let Some(status) = self.process(part).exit_status() else { continue };
                if let Part::Extender(_) = part {
                    let log = self.process(part).log();
                    let end = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
                    self.tally.findings.push(format!("{part:?} ended by itself, {status}: {end}"));
                }
                self.start(part);
            }
        }
    }
}

fn harm_requests(proxy: &FaultProxy, harm: Harm, mut random: Random) {
    match harm {
        Harm::Held => proxy.hold_bindings(true),
        Harm::Delayed(most) => proxy
            .befall_each(Verb::Bind, move |_| proxy::Fault::delayed(most.mul_f64(random.unit()))),
        Harm::Answers(verb, part) => proxy.befall_each(verb, move |_| {
            let is_harmed = random.unit() < part;
            if is_harmed { harmed(verb, &mut random) } else { proxy::Fault::NONE }
        }),
    }
}

/// What gateways, broken connections and a busy API server do. 409 is the truth, or what a gateway
/// that sent the request twice hears; such a request is never carried out later.
fn harmed(verb: Verb, random: &mut Random) -> proxy::Fault {
    let (now, later) = (Duration::ZERO, Duration::from_secs(5).mul_f64(random.unit()));
    let conflict = if verb == Verb::Bind { Answer::Faked(409) } else { Answer::Faked(500) };
    let kinds = [
        (Commit::Before(now), Answer::Reset),
        (Commit::Before(now), Answer::Faked(504)),
        (Commit::Before(now), Answer::Late(later)),
        (Commit::Before(now), conflict),
        (Commit::Before(later), Answer::Own),
        (Commit::After(later), Answer::Reset),
        (Commit::After(later), Answer::Faked(503)),
        (Commit::Never, Answer::Own),
        (Commit::Never, Answer::Reset),
        (Commit::Never, Answer::Faked(500)),
        (Commit::Never, conflict),
    ];
    let (commit, answer) = kinds[random.below(kinds.len())];
    proxy::Fault { commit, answer }
}
