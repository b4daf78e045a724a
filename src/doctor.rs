//! `filmgate doctor`: what is wrong with a cluster, and the command that mends it.
//!
//! ```text
//! API server, extender ─▶ ground ─▶ checks (a gatherer and a pure judgement each) ─▶ report
//! ```
//!
//! A check that cannot be made says so, and is never taken for one that passed.

pub mod checks;
pub mod finding;
pub mod ground;
pub mod report;

use std::time::Duration;

use futures::future::join_all;

use checks::{CHECKS, Check, Group};
use finding::{Finding, Level, Verdict};
use ground::Ground;
use report::Report;

/// One check, with all that it asks.
const PATIENCE: Duration = Duration::from_secs(15);

/// Makes the checks of these groups; of all where none is named. Whether the API server answers is
/// always looked at first: where it does not, nothing else can be known.
pub async fn examine(ground: &Ground, only: &[Group]) -> Report {
    let (first, others): (Vec<_>, Vec<_>) =
        CHECKS.iter().partition(|check| check.group == Group::Cluster);
    let mut findings = join_all(first.into_iter().map(|check| make(check, ground))).await.concat();
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        return Report { findings };
    }
    let is_wanted = |group| only.is_empty() || only.contains(&group);
    for group in [Group::Filmgate, Group::Pipeline, Group::Trouble] {
        if !is_wanted(group) {
            continue;
        }
        let checks = others.iter().filter(|check| check.group == group);
        findings.extend(join_all(checks.map(|check| make(check, ground))).await.concat());
    }
    Report { findings }
}

async fn make(check: &Check, ground: &Ground) -> Vec<Finding> {
    let made = tokio::time::timeout(PATIENCE, (check.look)(ground)).await;
    let verdicts = match made {
        Ok(Ok(verdicts)) => verdicts,
        Ok(Err(unmade)) => vec![Verdict::skipped(unmade.to_string())],
        Err(_) => vec![Verdict::skipped(format!("no answer within {} s", PATIENCE.as_secs()))],
    };
    verdicts.into_iter().map(|verdict| Finding::of(check, verdict)).collect()
}
