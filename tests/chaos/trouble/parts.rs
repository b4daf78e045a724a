//! The processes of a world, and what has become of them.

use std::collections::HashSet;

use super::super::plan::{Which, Who};
use super::super::support::process::Process;
use super::super::support::replicas::Replicas;

/// Lines of the log of a process that ended by itself.
const LOG_LINES: usize = 5;

/// One that a signal can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A filmgate.
    Extender(usize),
    /// A kube-scheduler.
    Scheduler(usize),
}

/// The processes of a world.
pub struct Parts {
    replicas: usize,
    each_has_a_scheduler: bool,
    /// Down on purpose.
    down: HashSet<Part>,
    /// Which replica led when that was last seen.
    leader: usize,
}

impl Parts {
    /// Of that world, where all of them run.
    pub fn of(world: &Replicas, each_has_a_scheduler: bool) -> Self {
        Self { replicas: world.count(), each_has_a_scheduler, down: HashSet::new(), leader: 0 }
    }

    /// That replica leads.
    pub fn note_leader(&mut self, replica: usize) {
        self.leader = replica;
    }

    /// The replica that is meant.
    pub fn replica(&self, which: Which) -> usize {
        match which {
            Which::Leader => self.leader,
            Which::Standby => self.replicas - 1 - self.leader,
        }
    }

    /// Those meant that are not down on purpose.
    pub fn up(&self, who: Who) -> Vec<Part> {
        let parts = match who {
            Who::Extender(which) => vec![Part::Extender(self.replica(which))],
            Who::Scheduler(which) => vec![self.scheduler_of(self.replica(which))],
            Who::Replica(which) => self.parts_of(self.replica(which)).to_vec(),
        };
        parts.into_iter().filter(|part| self.is_up(*part)).collect()
    }

    fn parts_of(&self, replica: usize) -> [Part; 2] {
        [self.scheduler_of(replica), Part::Extender(replica)]
    }

    fn scheduler_of(&self, replica: usize) -> Part {
        Part::Scheduler(if self.each_has_a_scheduler { replica } else { 0 })
    }

    /// Whether it is not down on purpose.
    pub fn is_up(&self, part: Part) -> bool {
        !self.down.contains(&part)
    }

    /// It is about to be down on purpose.
    pub fn take_down(&mut self, part: Part) {
        self.down.insert(part);
    }

    /// Starts it again.
    pub fn start(&mut self, world: &mut Replicas, part: Part) {
        self.down.remove(&part);
        match part {
            Part::Extender(replica) => world.spawn_extender(replica),
            Part::Scheduler(replica) => world.spawn_scheduler(replica),
        }
    }

    /// Starts those that ended by themselves, as a kubelet would. kube-scheduler does when it has
    /// lost its Lease; of filmgate, which never does, what it said in the end is returned.
    pub fn tend(&mut self, world: &mut Replicas) -> Vec<String> {
        let mut ended = Vec::new();
        let parts: HashSet<_> = (0..self.replicas).flat_map(|one| self.parts_of(one)).collect();
        for part in parts.difference(&self.down.clone()) {
            let process = process(world, *part);
            let Some(status) = process.exit_status() else { continue };
            if let Part::Extender(_) = part {
                let log = process.log();
                let lines: Vec<_> = log.lines().rev().take(LOG_LINES).collect();
                ended.push(format!("{part:?} ended by itself, {status}: {}", lines.join("\n")));
            }
            self.start(world, *part);
        }
        ended
    }
}

/// The process itself.
pub fn process(world: &mut Replicas, part: Part) -> &mut Process {
    match part {
        Part::Extender(replica) => world.extender(replica),
        Part::Scheduler(replica) => world.scheduler(replica),
    }
}
