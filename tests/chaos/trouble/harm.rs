//! What befalls requests, and agents.

use std::time::Duration;

use filmgate::agent::simulated::{Delivery, Faults, Loss};
use filmgate::demo::random::Random;

use super::super::plan::{Harm, Illness};
use super::super::support::proxy::{Answer, Commit, Fault, FaultProxy, Verb};

const VERBS: [Verb; 3] = [Verb::Bind, Verb::Fence, Verb::Get];
/// Longer than filmgate waits for an answer.
const MOST_DELAY: Duration = Duration::from_secs(5);

/// From now on requests come to harm.
pub fn begin(proxy: &FaultProxy, harm: Harm, mut random: Random) {
    match harm {
        Harm::Held => proxy.hold_bindings(true),
        Harm::Delayed(most) => {
            proxy.befall_each(Verb::Bind, move |_| Fault::delayed(most.mul_f64(random.unit())))
        }
        Harm::Answers(verb, part) => proxy.befall_each(verb, move |_| {
            let is_harmed = random.unit() < part;
            if is_harmed { harmed(verb, &mut random) } else { Fault::NONE }
        }),
    }
}

/// From now on requests go their way; what is held back stays so.
pub fn end(proxy: &FaultProxy) {
    for verb in VERBS {
        proxy.befall(verb, Fault::NONE);
    }
}

/// What gateways, broken connections and a busy API server do. 409 is the truth, or what a gateway
/// that sent the request twice hears; such a request is never carried out later.
fn harmed(verb: Verb, random: &mut Random) -> Fault {
    let (now, later) = (Duration::ZERO, MOST_DELAY.mul_f64(random.unit()));
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
    Fault { commit, answer }
}

/// What is wrong with an agent that is ill so.
pub fn symptoms(illness: Illness) -> Faults {
    match illness {
        Illness::Refuses | Illness::Restarts => {
            Faults { lost: Some(Loss::Refused), ..Faults::default() }
        }
        Illness::Hangs => Faults { lost: Some(Loss::Hung), ..Faults::default() },
        Illness::Late(late) => Faults { late, ..Faults::default() },
        Illness::Repeats => Faults { delivery: Delivery::Repeated, ..Faults::default() },
        Illness::OutOfOrder => Faults { delivery: Delivery::OutOfOrder, ..Faults::default() },
        Illness::Lies => Faults { has_impossible_numbers: true, ..Faults::default() },
    }
}
