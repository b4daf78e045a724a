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
    let mut findings = Vec::new();
    for group in [Group::Cluster, Group::Filmgate, Group::Pipeline, Group::Trouble] {
        let is_wanted = only.is_empty() || only.contains(&group) || group == Group::Cluster;
        if is_wanted {
            findings.extend(examine_group(ground, group).await);
        }
        if group == Group::Cluster && findings.iter().any(is_failure) {
            break;
        }
    }
    Report { findings }
}

/// Without a namespace for the pipeline, nothing else of it is looked at.
async fn examine_group(ground: &Ground, group: Group) -> Vec<Finding> {
    let mut checks = CHECKS.iter().filter(|check| check.group == group);
    let mut findings = Vec::new();
    if group == Group::Pipeline
        && let Some(namespace) = checks.next()
    {
        findings = make(namespace, ground).await;
        if findings.iter().any(|finding| finding.level == Level::Skipped) {
            return findings;
        }
    }
    findings.extend(join_all(checks.map(|check| make(check, ground))).await.concat());
    findings
}

fn is_failure(finding: &Finding) -> bool {
    finding.level == Level::Fail
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
