//! The pods of a burst.

use std::fmt;
use std::time::Duration;

use filmgate::demo::random::Random;
use filmgate::engine::Bytes;

use super::waves::Wave;
use super::{Draw, NodePlan, seconds};

/// A context, and what every process that runs holds at least.
const LEAST: Bytes = Bytes::mib(64);
pub(super) const MOST_PODS: usize = 70;
/// Priorities; 0 is that of a pod without a class.
pub const PRIORITIES: [i32; 2] = [10, 1000];
/// Of all pods, those that arrive in waves.
const IN_WAVES: f64 = 0.75;
/// Of those, the part that comes in the first, so that later ones find little room.
const IN_THE_FIRST: f64 = 0.3;
const WAVE_MILLIS: u64 = 300;

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodPlan {
    /// Its name.
    pub name: String,
    /// When it is created, from the burst's start.
    pub at: Duration,
    /// How many GPUs it asks for.
    pub gpus: u32,
    /// What it declares for each; `None`: it wants one alone.
    pub vram: Option<Bytes>,
    /// What its processes hold, never more than it declares.
    pub uses: Bytes,
    /// It takes the GPU that filmgate chose. One that does not is for nodes with one GPU: on
    /// others a deletion in the wrong moment changes the device plugin's mind.
    pub is_steered: bool,
    /// Its priority.
    pub priority: i32,
    /// Its processes outlive it by so much.
    pub lingers: Duration,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a pod during the burst, so long after it was created.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// It is there until the burst is over.
    Stays,
    /// Its work is done as soon as it has run for that long.
    Completes(Duration),
    /// It is deleted, wherever it is by then.
    Deleted(Duration),
    /// It is deleted without a grace.
    Forced(Duration),
    /// It is deleted, and created again under the same name.
    Reborn(Duration),
}

/// Pods for more than the nodes have.
pub(super) fn draw(
    random: &mut Random,
    nodes: &[NodePlan],
    waves: &[Wave],
    length: Duration,
) -> Vec<PodPlan> {
    let room: Bytes = nodes.iter().flat_map(NodePlan::rooms).sum();
    let wanted = room.as_gib() * (1.5 + 1.5 * random.unit());
    let mut pods: Vec<PodPlan> = Vec::new();
    let mut asked = 0.0;
    while asked < wanted && pods.len() < MOST_PODS {
        let number = if random.chance(IN_THE_FIRST) { 0 } else { random.below(waves.len()) };
        let wave = random.chance(IN_WAVES).then(|| &waves[number]);
        let at = length.mul_f64(random.unit());
        let mut pod = draw_one(random, nodes, at);
        if let Some(wave) = wave {
            pod.at = wave.at + random.millis(0, WAVE_MILLIS);
            pod.priority = wave.priority(random);
        }
        asked += pod.vram.unwrap_or(LEAST).as_gib() * f64::from(pod.gpus);
        pods.push(pod);
    }
    pods.sort_by_key(|pod| pod.at);
    for (pod, number) in pods.iter_mut().zip(0..) {
        pod.name = format!("p{number}");
    }
    pods
}

fn draw_one(random: &mut Random, nodes: &[NodePlan], at: Duration) -> PodPlan {
    let is_steered = random.chance(0.75);
    let gpus = if is_steered && random.chance(0.1) { 2 } else { 1 };
    let most = most_for(nodes, is_steered, gpus);
    // No node may have two GPUs.
    let (gpus, most) =
        if most == Bytes::ZERO { (1, most_for(nodes, is_steered, 1)) } else { (gpus, most) };
    let vram = (gpus > 1 || random.chance(0.93)).then(|| ask(random, most));
    let least_room = nodes.iter().flat_map(NodePlan::rooms).min().unwrap_or(LEAST);
    // One that wants a GPU alone may get any.
    let most_used = vram.unwrap_or(least_room);
    let uses = if random.chance(0.5) { most_used } else { random.mib(LEAST, most_used) };
    let lingers = if random.chance(0.6) { Duration::ZERO } else { random.millis(100, 7000) };
    PodPlan {
        name: String::new(),
        at,
        gpus,
        vram,
        uses,
        is_steered,
        priority: random.one_of(&[0, 0, PRIORITIES[0], PRIORITIES[1]]),
        lingers,
        fate: fate(random),
    }
}

/// The most that a pod of that kind can ask for and be sure of a place in an empty cluster.
fn most_for(nodes: &[NodePlan], is_steered: bool, gpus: u32) -> Bytes {
    let suitable = nodes.iter().filter(|node| is_steered || node.has_one_gpu());
    let of_node = |node: &NodePlan| node.rooms().get(gpus as usize - 1).copied();
    suitable.filter_map(of_node).max().unwrap_or(Bytes::ZERO)
}

/// Small ones, middling ones, and some that need nearly all.
fn ask(random: &mut Random, most: Bytes) -> Bytes {
    let part = random.weighted(&[(4, 10), (4, 35), (2, 70), (1, 100)]);
    random.mib(LEAST, Bytes::new(most.get() / 100 * part)).max(LEAST)
}

fn fate(random: &mut Random) -> Fate {
    let soon = random.millis(0, 1500);
    let later = random.millis(1000, 9000);
    let when = if random.chance(0.4) { soon } else { later };
    random.weighted(&[
        (9, Fate::Stays),
        (3, Fate::Completes(when)),
        (4, Fate::Deleted(when)),
        (2, Fate::Forced(when)),
        (2, Fate::Reborn(when)),
    ])
}

impl fmt::Display for PodPlan {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "at {} {}: {} GPU", seconds(self.at), self.name, self.gpus)?;
        match self.vram {
            Some(vram) => write!(to, ", {vram}")?,
            None => write!(to, ", alone")?,
        }
        write!(to, ", uses {}, ", self.uses)?;
        write!(to, "{}", if self.is_steered { "steered" } else { "not steered" })?;
        if self.priority != 0 {
            write!(to, ", priority {}", self.priority)?;
        }
        if !self.lingers.is_zero() {
            write!(to, ", lingers {}", seconds(self.lingers))?;
        }
        write!(to, ", {:?}", self.fate)
    }
}
