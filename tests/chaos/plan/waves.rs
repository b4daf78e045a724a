//! When many pods arrive at once: kube-scheduler has a queue then, and filmgate many Bindings under
//! way. Some of those outlive who sent them, and the next wave is for the places that they are about
//! to take.

use std::time::Duration;

use filmgate::demo::random::Random;

use super::super::support::replicas::Election;
use super::faults::{PEACE_AFTER, PEACE_BEFORE};
use super::{Draw, Fault, Orphans, PRIORITIES, Timed};

/// Of all waves, those whose Bindings outlive their sender.
const ORPHANED: f64 = 0.3;

/// A wave of pods.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wave {
    /// When it comes.
    pub(super) at: Duration,
    /// It comes for places that Bindings of the dead may take: its pods are first in line.
    pub(super) is_urgent: bool,
    /// What befalls its Bindings.
    pub(super) fault: Option<Timed>,
}

impl Wave {
    /// Whether what lasts from then to then would keep Bindings from becoming those of the dead.
    pub(super) fn needs_peace(&self, from: Duration, to: Duration) -> bool {
        let Some(Timed { at, fault: Fault::Orphans(orphans), .. }) = &self.fault else {
            return false;
        };
        from < *at + orphans.gather + orphans.late + PEACE_AFTER && *at < to + PEACE_BEFORE
    }

    /// That of one of its pods.
    pub(super) fn priority(&self, random: &mut Random) -> i32 {
        match (self.is_urgent, &self.fault) {
            (true, _) => PRIORITIES[1],
            (false, Some(_)) => 0,
            (false, None) => random.one_of(&[0, 0, PRIORITIES[0], PRIORITIES[1]]),
        }
    }
}

/// Waves from the first moment to the last.
pub(super) fn draw(random: &mut Random, election: Election, length: Duration) -> Vec<Wave> {
    let mut waves = vec![Wave { at: random.millis(0, 1500), is_urgent: false, fault: None }];
    while let Some(last) = waves.last_mut().filter(|last| last.at < length) {
        if !last.is_urgent && random.chance(ORPHANED) {
            let fault = orphans(random, election, last.at);
            let next = Wave { at: urgent(random, &fault), is_urgent: true, fault: None };
            last.fault = Some(fault);
            waves.push(next);
        } else {
            let at = last.at + random.millis(1500, 4500);
            waves.push(Wave { at, is_urgent: false, fault: None });
        }
    }
    waves.pop();
    waves
}

/// The Bindings go on when somebody binds again: the same as soon as they are back, or who takes
/// over when the Lease is over.
fn orphans(random: &mut Random, election: Election, wave: Duration) -> Timed {
    let (gather, gone) = (random.millis(400, 2200), random.millis(0, 1000));
    let (late, for_long) = match election {
        Election::Off => (gone + random.millis(200, 600), random.millis(1000, 3000)),
        Election::Sibling | Election::Own => (random.millis(5000, 6500), random.millis(2000, 5000)),
    };
    let orphans = Orphans { gather, gone, is_killed: random.chance(0.8), late };
    let lasts = gather + late + for_long;
    Timed { at: wave + random.millis(0, 200), lasts, fault: Fault::Orphans(orphans) }
}

/// Those in a hurry wait already when somebody binds again.
fn urgent(random: &mut Random, fault: &Timed) -> Duration {
    match fault.fault {
        Fault::Orphans(orphans) => {
            fault.at + orphans.gather + orphans.late - random.millis(100, 600)
        }
        _ => fault.at,
    }
}
