//! Burst after burst, in one world after the other, and the figures of them all.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::json;

use super::burst::{self, Outcome};
use super::ground;
use super::outside::Outside;
use super::plan::{PRIORITIES, Plan};
use super::support::figures::Figures;
use super::support::replicas::{Election, Replicas, Terms};

/// A force-deleted pod stays charged for so long: shorter than by default, or a burst would take a
/// minute.
const SETTINGS: &str = "forceDeleteGrace: 6s\n";
/// Of a burst in the long form.
const LONG: Duration = Duration::from_secs(24);
const USUAL_SECONDS: u64 = 3600;

/// Bursts so far.
#[derive(Default)]
pub struct Run {
    world: Option<(Election, Replicas, Outside)>,
    outcomes: Vec<(u64, Outcome)>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "for an hour, or as long as FILMGATE_CHAOS_SECONDS says: make chaos"]
async fn as_long_as_asked() {
    let seconds = number("FILMGATE_CHAOS_SECONDS").unwrap_or(USUAL_SECONDS);
    let first = number("FILMGATE_CHAOS_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("chaos for {seconds} s from seed {first}");
    let (began, length) = (Instant::now(), Duration::from_secs(seconds));
    let mut run = Run::default();
    for seed in first.. {
        run.burst(seed, LONG).await;
        run.write_figures(began.elapsed());
        if began.elapsed() >= length {
            break;
        }
    }
    run.assert_good();
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}: not a number")))
}

impl Run {
    /// Plays these seeds, and fails if anything is wrong with one.
    pub async fn all_good(mut self, seeds: &[u64], length: Duration) {
        for seed in seeds {
            self.burst(*seed, length).await;
        }
        self.assert_good();
    }

    async fn burst(&mut self, seed: u64, length: Duration) {
        let plan = Plan::draw(seed, length);
        println!("{plan}");
        let (world, outside) = self.world_of(&plan).await;
        let outcome = burst::play(world, outside, &plan).await;
        println!("seed {seed}, {:?}: {outcome}", plan.election);
        if !outcome.is_good() {
            tell(seed, &outcome, world.cluster.folder());
        }
        self.outcomes.push((seed, outcome));
    }

    /// The world that is there, if it is of that kind.
    async fn world_of(&mut self, plan: &Plan) -> (&mut Replicas, &Outside) {
        let is_fit = self.world.as_ref().is_some_and(|(kind, ..)| *kind == plan.election);
        if !is_fit {
            // One at a time.
            self.world = None;
            let nodes = plan.nodes.iter().map(ground::simulated).collect();
            let world = Replicas::start_with(nodes, plan.election, Terms::SHORT, SETTINGS).await;
            for priority in PRIORITIES {
                world.cluster.add_priority(priority).await;
            }
            let outside = Outside::watch(world.cluster.admin(), world.fleet.clone());
            self.world = Some((plan.election, world, outside));
        }
        let (_, world, outside) = self.world.as_mut().expect("a world");
        (world, outside)
    }

    fn assert_good(&self) {
        let bad: Vec<_> = self.outcomes.iter().filter(|(_, outcome)| !outcome.is_good()).collect();
        let seeds: Vec<_> = bad.iter().map(|(seed, _)| seed).collect();
        assert!(bad.is_empty(), "something is wrong with these seeds: {seeds:?}");
    }

    fn write_figures(&self, took: Duration) {
        let outcomes = || self.outcomes.iter().map(|(_, outcome)| outcome);
        let mut faults = std::collections::BTreeMap::<_, usize>::new();
        for (kind, count) in outcomes().flat_map(|one| &one.tally.faults) {
            *faults.entry(*kind).or_default() += count;
        }
        let kills: usize = outcomes().map(|one| one.tally.kills).sum();
        let hours = took.as_secs_f64() / 3600.0;
        let over = outcomes().map(Outcome::overcommitted).max().unwrap_or_default();
        let unbound: usize = outcomes().map(|one| one.unbound.len()).sum();
        let leaked: usize = outcomes().map(|one| one.leaked.len()).sum();
        let run = json!({
            "seconds": took.as_secs(),
            "kills_an_hour": kills as f64 / hours,
            "leader_kills": outcomes().map(|one| one.tally.leader_kills).sum::<usize>(),
            "bursts": self.outcomes.len(),
            "first_seed": self.outcomes.first().map(|(seed, _)| seed),
            "pods": outcomes().map(|one| one.pods).sum::<usize>(),
            "faults": faults,
        });
        let bytes = json!({
            "used_beyond": outcomes().map(|one| one.used_beyond.get()).max(),
            "promised_beyond": outcomes().map(|one| one.promised.overdrawn.get()).max(),
            "looks": outcomes().map(|one| one.promised.looks).sum::<u64>(),
        });
        let slowest = outcomes().map(|one| one.settled_after).max().unwrap_or_default();
        let bound = json!({"slowest_to_settle_seconds": slowest.as_secs_f64()});
        let mut figures = Figures::default();
        figures.add("kills", kills as f64, "kills", ">= 200 an hour", run);
        figures.add("overcommitted_bytes", over.get() as f64, "bytes", "0", bytes);
        figures.add("unbound_pods", unbound as f64, "pods", "0", bound);
        figures.add("leaked_charges", leaked as f64, "GPUs", "0", json!({}));
        figures.write("chaos");
    }
}

/// Prints what is wrong, and keeps the logs.
fn tell(seed: u64, outcome: &Outcome, folder: &Path) {
    println!("==== wrong with seed {seed}");
    println!("unbound: {:?}; leaked: {:?}", outcome.unbound, outcome.leaked);
    println!(
        "used beyond: {}; promised beyond: {}",
        outcome.used_beyond, outcome.promised.overdrawn
    );
    let told = outcome.promised.texts.iter().chain(&outcome.tally.findings);
    told.for_each(|text| println!("{text}"));
    println!("{}", outcome.scene.as_deref().unwrap_or_default());
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
    fs::create_dir_all(&kept).expect("a folder for logs");
    for entry in fs::read_dir(folder).expect("the cluster's folder") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let _ = fs::copy(&path, kept.join(path.file_name().expect("a name")));
        }
    }
    println!("logs are kept in {}", kept.display());
}
