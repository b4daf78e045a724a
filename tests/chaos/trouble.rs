//! Faults as they happen: signals, harm to requests, ill agents; and their end.

use std::collections::BTreeMap;
use std::time::Duration;

use filmgate::agent::simulated::Faults;
use filmgate::demo::random::Random;
use tokio::time::{Instant, sleep_until};

use super::plan::{Fault, Illness, Orphans, Plan, Timed, Which, Who};
use super::support::replicas::{Election, Replicas};

use parts::{Part, Parts, process};

mod harm;
mod parts;

/// How soon a process that ended by itself is started again.
const TEND_INTERVAL: Duration = Duration::from_millis(100);
/// Who is stopped says nothing.
const LOOK_LIMIT: Duration = Duration::from_millis(100);
/// Moments at which one of the Bindings of the dead goes on.
const RELEASES: usize = 16;

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

/// What follows when a fault has begun, up to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Orphan(Part, Orphans),
    LetOneGo(usize),
    LetGo(usize),
    Start(Part),
    Continue(Part),
    StartApiServer,
    ContinueApiServer,
    Watches(usize),
    Agent(usize, Illness),
}

/// Steps, each so long after its fault began.
type Steps = Vec<(Duration, Step)>;

/// The faults of a burst, as they happen to a world.
pub struct Trouble<'a> {
    world: &'a mut Replicas,
    plan: &'a Plan,
    parts: Parts,
    steps: Vec<(Instant, Step)>,
    tally: Tally,
}

impl<'a> Trouble<'a> {
    /// Nothing has happened yet.
    pub fn of(world: &'a mut Replicas, plan: &'a Plan) -> Self {
        let parts = Parts::of(world, plan.election == Election::Sibling);
        Self { world, plan, parts, steps: Vec::new(), tally: Tally::default() }
    }

    /// Has everything happen in its moment; returns when nothing is wrong any more.
    pub async fn run(mut self, start: Instant) -> Tally {
        for (timed, number) in self.plan.faults.iter().zip(0..) {
            self.pass(start + timed.at).await;
            let leads = self.see_who_leads().await;
            let steps = self.begin(timed, number, leads);
            if !steps.is_empty() {
                *self.tally.faults.entry(timed.fault.kind()).or_default() += 1;
            }
            let now = Instant::now();
            self.steps.extend(steps.into_iter().map(|(after, step)| (now + after, step)));
        }
        self.pass(start + self.plan.length).await;
        self.end_all().await;
        self.tally
    }

    /// Time passes until then; steps that are due are made, and who ended by himself is started
    /// again. Moments are planned, so nothing is waited for.
    async fn pass(&mut self, until: Instant) {
        loop {
            self.steps.sort_by_key(|(due, _)| *due);
            let next = self.steps.first().map_or(until, |(due, _)| (*due).min(until));
            sleep_until(next.min(Instant::now() + TEND_INTERVAL)).await;
            self.tend();
            let now = Instant::now();
            while self.steps.first().is_some_and(|(due, _)| *due <= now) {
                let (_, step) = self.steps.remove(0);
                self.make(step);
            }
            if now >= until {
                return;
            }
        }
    }

    /// Which replica says that it leads, if one does.
    async fn see_who_leads(&mut self) -> Option<usize> {
        for replica in 0..self.world.count() {
            let says = self.world.replica(replica).metric("filmgate_leader");
            if tokio::time::timeout(LOOK_LIMIT, says).await == Ok(Some(1.0)) {
                self.parts.note_leader(replica);
                return Some(replica);
            }
        }
        None
    }

    /// What is left to be done about the fault, if it happened at all.
    fn begin(&mut self, timed: &Timed, number: u64, leads: Option<usize>) -> Steps {
        let lasts = timed.lasts;
        match timed.fault {
            Fault::Kill(who) => self.kill(who, leads, lasts),
            Fault::Restart(which) => self.signal(Who::Extender(which), libc::SIGTERM, lasts),
            Fault::Pause(who) => self.signal(who, libc::SIGSTOP, lasts),
            Fault::KillApiServer | Fault::PauseApiServer => self.harm_api_server(timed),
            Fault::Requests(which, harm) => {
                let replica = self.parts.replica(which);
                let random = Random::new(self.plan.seed ^ (number << 32));
                harm::begin(&self.world.replica(replica).proxy, harm, random);
                vec![(lasts, Step::LetGo(replica))]
            }
            Fault::StallWatches(which) => {
                let replica = self.parts.replica(which);
                self.world.replica(replica).proxy.stall_watches(true);
                vec![(lasts, Step::Watches(replica))]
            }
            Fault::Agent(node, illness) => {
                let name = &self.plan.nodes[node].name;
                self.world.fleet.set_faults(name, harm::symptoms(illness)).expect("a node");
                vec![(lasts, Step::Agent(node, illness))]
            }
            Fault::Orphans(orphans) => {
                self.orphan(orphans, lasts, Random::new(self.plan.seed ^ (number << 32)))
            }
        }
    }

    fn kill(&mut self, who: Who, leads: Option<usize>, lasts: Duration) -> Steps {
        let parts = self.parts.up(who);
        for part in &parts {
            let led = leads.is_some_and(|leader| *part == Part::Extender(leader));
            self.tally.leader_kills += usize::from(led);
            self.kill_one(*part);
        }
        parts.into_iter().map(|part| (lasts, Step::Start(part))).collect()
    }

    fn kill_one(&mut self, part: Part) {
        self.tally.kills += usize::from(matches!(part, Part::Extender(_)));
        self.parts.take_down(part);
        process(self.world, part).kill();
    }

    fn signal(&mut self, who: Who, signal: i32, lasts: Duration) -> Steps {
        let parts = self.parts.up(who);
        let follows = |part: Part| match signal {
            libc::SIGSTOP => Step::Continue(part),
            _ => Step::Start(part),
        };
        for part in &parts {
            if signal == libc::SIGTERM {
                self.parts.take_down(*part);
            }
            process(self.world, *part).signal(signal);
        }
        parts.into_iter().map(|part| (lasts, follows(part))).collect()
    }

    fn harm_api_server(&mut self, timed: &Timed) -> Steps {
        let is_harm = |step: &Step| matches!(step, Step::StartApiServer | Step::ContinueApiServer);
        if self.steps.iter().any(|(_, step)| is_harm(step)) {
            return Vec::new();
        }
        if timed.fault == Fault::KillApiServer {
            self.world.cluster.kill_api_server();
            return vec![(timed.lasts, Step::StartApiServer)];
        }
        self.world.cluster.api_server().signal(libc::SIGSTOP);
        vec![(timed.lasts, Step::ContinueApiServer)]
    }

    /// Bindings gather on the wire from now on.
    fn orphan(&mut self, orphans: Orphans, lasts: Duration, mut random: Random) -> Steps {
        let leader = self.parts.replica(Which::Leader);
        self.world.replica(leader).proxy.hold_bindings(true);
        let parts = self.parts.up(Who::Replica(Which::Leader));
        let ends = parts.into_iter().map(|part| (orphans.gather, Step::Orphan(part, orphans)));
        let late = orphans.gather + orphans.late;
        let mut release = || (late + (lasts - late).mul_f64(random.unit()), Step::LetOneGo(leader));
        let releases: Vec<_> = std::iter::repeat_with(&mut release).take(RELEASES).collect();
        ends.chain(releases).chain([(lasts, Step::LetGo(leader))]).collect()
    }

    fn make(&mut self, step: Step) {
        match step {
            Step::Orphan(part, orphans) => self.end_one(part, orphans),
            Step::LetOneGo(replica) => self.world.replica(replica).proxy.release_one(),
            Step::LetGo(replica) => {
                harm::end(&self.world.replica(replica).proxy);
                self.world.replica(replica).proxy.release_all();
            }
            // One that ends politely takes its time.
            Step::Start(part) if process(self.world, part).exit_status().is_none() => {
                self.steps.push((Instant::now() + TEND_INTERVAL, step));
            }
            Step::Start(part) => self.parts.start(self.world, part),
            Step::Continue(part) => process(self.world, part).signal(libc::SIGCONT),
            Step::StartApiServer => self.world.cluster.start_api_server(),
            Step::ContinueApiServer => self.world.cluster.api_server().signal(libc::SIGCONT),
            Step::Watches(replica) => self.world.replica(replica).proxy.stall_watches(false),
            Step::Agent(node, illness) => self.recover(node, illness),
        }
    }

    /// What it has sent stays on the wire; who comes after it sends as ever.
    fn end_one(&mut self, part: Part, orphans: Orphans) {
        if let Part::Extender(replica) = part {
            harm::end(&self.world.replica(replica).proxy);
        }
        let back = Instant::now() + orphans.gone;
        if !orphans.is_killed {
            process(self.world, part).signal(libc::SIGSTOP);
            self.steps.push((back, Step::Continue(part)));
        } else if self.parts.is_up(part) {
            self.kill_one(part);
            self.steps.push((back, Step::Start(part)));
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
        while !self.steps.is_empty() {
            for (_, step) in std::mem::take(&mut self.steps) {
                self.make(step);
            }
            self.pass(Instant::now() + TEND_INTERVAL).await;
        }
        self.world.cluster.api_server_ready().await;
        self.tend();
    }

    fn tend(&mut self) {
        self.tally.findings.extend(self.parts.tend(self.world));
    }
}
