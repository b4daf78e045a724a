//! A generator of a diffusion service's day, fitted to published facts; it contains no sample.
//!
//! The facts are those of GenTD26 (memory of production Stable Diffusion pods over a day, the half
//! of 72 pods): median 23.04, p95 31.26, p99 34.69, most 46.57 GiB; 55 to 59 pods alive at any
//! tick; the pods' peaks add up to 2,463.5 GiB while the most that they held at one time was
//! 1,466.3. Most pods idle near 22 GiB and move every third tick, some keep two models (30 GiB) and
//! move rarely, a few never move. Measured on the data set of
//!
//! > Yanying Lin, Shuaipeng Wu, Shutian Luo, Hong Xu, Haiying Shen, Chong Ma, Min Shen, Le Chen,
//! > Chengzhong Xu, Lin Qu, Kejiang Ye. Understanding Diffusion Model Serving in Production: A
//! > Top-Down Analysis of Workload, Scheduling, and Resource Efficiency. ACM Symposium on Cloud
//! > Computing (SoCC '25), 2025.
//!
//! Each kind of pod draws its next level from that kind's quantiles and keeps it for a random
//! while, so that a day's quantiles come out right by construction; a test compares them.

use super::random::Random;
use super::workload::{DAY_PODS, DAY_TICKS, Workload, WorkloadPod};
use crate::engine::Bytes;

/// Points of an inverse distribution function: (probability, GiB), linear in between.
type Quantiles = &'static [(f64, f64)];

/// How a kind of pod moves.
struct Kind {
    /// Where the next level is drawn from.
    levels: Quantiles,
    /// What pods of the kind ever reach.
    ceilings: Quantiles,
    /// How likely the level changes at a tick.
    restlessness: f64,
}

/// One model and its adapters, changed with the requests.
const REGULAR: Kind = Kind {
    levels: &[
        (0.0, 8.0),
        (0.01, 11.7),
        (0.05, 14.7),
        (0.1, 17.0),
        (0.2, 19.9),
        (0.3, 21.3),
        (0.5, 22.3),
        (0.6, 23.7),
        (0.7, 24.2),
        (0.925, 24.5),
        (0.95, 26.7),
        (0.98, 29.7),
        (0.99, 32.4),
        (0.996, 37.2),
        (1.0, 46.6),
    ],
    ceilings: &[(0.0, 30.9), (0.25, 33.9), (0.5, 35.8), (0.75, 40.0), (1.0, 46.6)],
    restlessness: 0.34,
};

/// Two models side by side, rarely changed.
const LARGE: Kind = Kind {
    levels: &[
        (0.0, 8.8),
        (0.05, 14.7),
        (0.1, 22.1),
        (0.2, 24.5),
        (0.3, 27.0),
        (0.5, 29.8),
        (0.7, 30.9),
        (0.95, 31.9),
        (0.97, 33.9),
        (0.99, 38.7),
        (1.0, 43.4),
    ],
    ceilings: &[(0.0, 33.6), (0.1, 38.3), (0.5, 40.8), (1.0, 43.4)],
    restlessness: 0.12,
};

/// One model, loaded once.
const STATIC: Kind = Kind {
    levels: &[(0.0, 17.28), (1.0, 17.35)],
    ceilings: &[(0.0, 18.8), (1.0, 18.8)],
    restlessness: 0.01,
};

/// Pods that live for minutes or hours: the base model, then some requests.
const BRIEF: Kind = Kind {
    levels: &[(0.0, 16.7), (0.45, 16.8), (0.55, 21.6), (0.9, 22.6), (1.0, 24.4)],
    ceilings: &[(0.0, 24.4), (1.0, 24.4)],
    restlessness: 0.06,
};

/// What a pod holds while its base model is loaded.
const LOADED_GIB: f64 = 16.7;
/// Above this a level is a burst: what is in memory is dropped first, so it starts from low.
const BURST_GIB: f64 = 33.0;
/// Ticks for which a pod is at its ceiling at least once in a full day.
const CEILING_TICKS: usize = 2;
/// Pods beside the long-lived ones come and go in this many lanes, one after another in each.
const LANES: usize = 3;

/// Generates a day of `pods` pods from `seed`. The same seed gives the same day, anywhere.
#[must_use]
pub fn generate(seed: u64, pods: usize) -> Workload {
    let mut random = Random::new(seed);
    let long_lived = share_of(pods, 52).min(pods);
    let leavers = share_of(pods, 4).min((pods - long_lived) / 2);
    let mut day = long_lived_pods(long_lived, &mut random);
    day.extend(replaced_pods(leavers, &mut random));
    day.extend(brief_pods(pods - long_lived - 2 * leavers, &mut random));
    day.sort_by_key(|pod| pod.arrives);
    for (number, pod) in day.iter_mut().enumerate() {
        pod.name = format!("diffusion-{number:02}");
    }
    Workload { source: format!("generator, seed {seed}"), ticks: DAY_TICKS, pods: day }
}

/// The same day with [`cache_pod`] in it.
#[must_use]
pub fn generate_with_cache(seed: u64, pods: usize) -> Workload {
    let mut day = generate(seed, pods);
    day.pods.push(cache_pod());
    day.pods.sort_by_key(|pod| pod.arrives);
    day
}

/// A pod that keeps each model it was ever asked for, as ComfyUI does for as long as the device
/// has room. On a device of its own it ends up filling it; `Truth` computes what it holds.
#[must_use]
pub fn cache_pod() -> WorkloadPod {
    WorkloadPod {
        name: "comfyui-cache".to_owned(),
        arrives: 2,
        memory: vec![Bytes::gib(12); DAY_TICKS - 2],
        not_reported: Vec::new(),
        fills_device: true,
    }
}

/// So many of `pods` as `of_day` are of the published 72, at least one.
fn share_of(pods: usize, of_day: usize) -> usize {
    ((pods * of_day + DAY_PODS / 2) / DAY_PODS).max(1)
}

/// Pods that are there all day: three in fifteen large, one static, the others regular. Some have
/// one tick without a report.
fn long_lived_pods(count: usize, random: &mut Random) -> Vec<WorkloadPod> {
    let large = (count * 12 + 26) / 52;
    let fixed = count * 3 / 52;
    let regular = count - large - fixed;
    let gaps = count * 8 / 52;
    let kinds = [(&LARGE, large), (&STATIC, fixed), (&REGULAR, regular)];
    let mut pods = Vec::new();
    for (kind, size) in kinds {
        for number in 0..size {
            let ceiling = at(kind.ceilings, (number as f64 + 0.5) / size as f64);
            pods.push(pod(0, curve(kind, ceiling, DAY_TICKS, random)));
        }
    }
    // Shuffled, so that a shorter day has pods of each kind.
    random.shuffle(&mut pods);
    for pod in pods.iter_mut().take(gaps) {
        pod.not_reported = vec![1 + random.below(DAY_TICKS - 2)];
        let gap = pod.not_reported[0];
        pod.memory[gap] = pod.memory[gap - 1];
    }
    pods
}

/// Pods that stop after about seven hours, each followed a little later by one that starts.
fn replaced_pods(pairs: usize, random: &mut Random) -> Vec<WorkloadPod> {
    let mut pods = Vec::new();
    for number in 0..pairs {
        let ceiling = at(REGULAR.ceilings, (number as f64 + 0.5) / pairs as f64);
        let leaves = 392 + 14 * number;
        pods.push(pod(0, curve(&REGULAR, ceiling, leaves, random)));
        let arrives = leaves + 5 + random.below(8);
        let life = DAY_TICKS - arrives;
        pods.push(pod(arrives, loading(curve(&REGULAR, ceiling, life, random))));
    }
    pods
}

/// Pods of minutes to hours, in lanes, so that few of them are there at the same time.
fn brief_pods(count: usize, random: &mut Random) -> Vec<WorkloadPod> {
    let brief = |number: usize, random: &mut Random| {
        let in_lane = count.div_ceil(LANES);
        let slot = DAY_TICKS / in_lane.max(1);
        let start = (number / LANES) * slot + random.below(slot / 3);
        let longest = (slot * 2 / 3).min(DAY_TICKS - start).max(3);
        let life = 2 + random.below(longest - 2);
        pod(start, loading(curve(&BRIEF, at(BRIEF.ceilings, 0.5), life, random)))
    };
    (0..count).map(|number| brief(number, random)).collect()
}

fn pod(arrives: usize, memory: Vec<Bytes>) -> WorkloadPod {
    WorkloadPod {
        name: String::new(),
        arrives,
        memory,
        not_reported: Vec::new(),
        fills_device: false,
    }
}

/// A started pod has nothing, then its base model, then follows its requests.
fn loading(mut memory: Vec<Bytes>) -> Vec<Bytes> {
    for (tick, gib) in [0.1, LOADED_GIB / 2.0, LOADED_GIB].into_iter().enumerate() {
        if let Some(value) = memory.get_mut(tick) {
            *value = bytes(gib);
        }
    }
    memory
}

fn curve(kind: &Kind, ceiling: f64, ticks: usize, random: &mut Random) -> Vec<Bytes> {
    let draw = |random: &mut Random| at(kind.levels, random.unit()).min(ceiling);
    let ceiling_at = random.below(ticks);
    let is_full_day = ticks > DAY_TICKS / 4;
    let mut level = draw(random).min(BURST_GIB);
    let mut curve = Vec::with_capacity(ticks);
    for tick in 0..ticks {
        let before = level;
        let at_ceiling = is_full_day && (ceiling_at..ceiling_at + CEILING_TICKS).contains(&tick);
        if at_ceiling {
            level = ceiling;
        } else if random.unit() < kind.restlessness {
            level = draw(random);
        }
        let starts_burst = level >= BURST_GIB && before < BURST_GIB;
        curve.push(bytes(if starts_burst { at(kind.levels, 0.3 * random.unit()) } else { level }));
    }
    curve
}

/// The value of that probability.
fn at(quantiles: Quantiles, probability: f64) -> f64 {
    let next = quantiles.iter().position(|(point, _)| *point >= probability);
    match next {
        Some(0) | None => quantiles.first().map_or(0.0, |(_, value)| *value),
        Some(next) => {
            let ((from, low), (to, high)) = (quantiles[next - 1], quantiles[next]);
            low + (high - low) * (probability - from) / (to - from)
        }
    }
}

fn bytes(gib: f64) -> Bytes {
    Bytes::new((gib * f64::from(1 << 30)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds that every statement is checked for.
    const SEEDS: [u64; 4] = [1, 7, 42, 2026];

    fn values(day: &Workload) -> Vec<f64> {
        let mut values: Vec<f64> =
            day.pods.iter().flat_map(|pod| pod.memory.iter().map(|value| value.as_gib())).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn quantile(sorted: &[f64], probability: f64) -> f64 {
        sorted[((sorted.len() - 1) as f64 * probability) as usize]
    }

    fn assert_near(name: &str, seed: u64, got: f64, published: f64, tolerance: f64) {
        let off = (got - published).abs();
        assert!(off <= tolerance, "seed {seed}: {name} is {got:.2}, published {published}");
    }

    #[test]
    fn a_generated_day_has_the_published_quantiles() {
        for seed in SEEDS {
            let day = values(&generate(seed, DAY_PODS));
            assert_near("median", seed, quantile(&day, 0.5), 23.04, 0.7);
            assert_near("p95", seed, quantile(&day, 0.95), 31.26, 0.5);
            assert_near("p99", seed, quantile(&day, 0.99), 34.69, 1.2);
            assert_near("max", seed, quantile(&day, 1.0), 46.57, 1.5);
        }
    }

    #[test]
    fn a_generated_day_has_the_published_number_of_pods_and_sums() {
        for seed in SEEDS {
            let day = generate(seed, DAY_PODS);
            assert_eq!(day.pods.len(), DAY_PODS);
            let alive = |tick| day.pods.iter().filter(|pod| pod.is_alive(tick)).count();
            let (least, most) = (0..DAY_TICKS)
                .map(alive)
                .fold((usize::MAX, 0), |(least, most), now| (least.min(now), most.max(now)));
            assert!(least >= 55 && most <= 59, "seed {seed}: {least} to {most} pods");
            let held = |tick: usize| -> f64 {
                let alive = day.pods.iter().filter(|pod| pod.is_alive(tick));
                alive.map(|pod| pod.memory[tick - pod.arrives].as_gib()).sum()
            };
            let largest = (0..DAY_TICKS).map(held).fold(0.0, f64::max);
            assert_near("largest sum", seed, largest, 1466.3, 60.0);
            let peaks: f64 = day.pods.iter().map(|pod| pod.peak().as_gib()).sum();
            assert_near("sum of peaks", seed, peaks, 2463.5, 150.0);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_day_and_another_another() {
        assert_eq!(generate(3, 20), generate(3, 20));
        assert_ne!(generate(3, 20).pods, generate(4, 20).pods);
    }

    #[test]
    fn a_burst_starts_lower() {
        let day = generate(1, DAY_PODS);
        let burst = bytes(BURST_GIB);
        for pod in &day.pods {
            let starts = pod.memory.windows(2).filter(|pair| pair[0] < burst && pair[1] >= burst);
            for pair in starts {
                assert!(pair[0] < bytes(28.0), "{}: {} then {}", pod.name, pair[0], pair[1]);
            }
        }
    }

    #[test]
    fn a_small_day_has_as_many_pods_as_asked() {
        for pods in 1..40 {
            let day = generate(1, pods);
            assert_eq!(day.pods.len(), pods);
            assert!(day.pods.iter().all(|pod| !pod.memory.is_empty()));
        }
    }
}
