//! The cluster itself: whether it answers, which one it is, and whether clocks agree.

use kube::config::Kubeconfig;

use crate::cluster::version::Version;
use crate::doctor::finding::{Outcome, Verdict};
use crate::doctor::ground::{Ground, Place, unmade};

/// What filmgate is tested with, from its oldest.
const OLDEST: (u32, u32) = (1, 30);

/// HTTP's dates have whole seconds, and an answer takes a while.
const SKEW_OF_NOTE_SECONDS: i64 = 5;
/// Tokens and certificates are refused.
const SKEW_THAT_BREAKS_SECONDS: i64 = 60;

/// Whether the API server answers, its version, and by which context it was reached.
pub(super) async fn api_server(ground: &Ground) -> Outcome {
    let context = context(&ground.place);
    match ground.client.apiserver_version().await {
        Ok(info) => Ok(vec![judge_version(&info.git_version, &context)]),
        Err(error) => Ok(vec![Verdict::fail(
            format!("Kubernetes does not answer ({context}): {}", unmade(error)),
            "kubectl config current-context && kubectl cluster-info",
        )]),
    }
}

fn judge_version(git_version: &str, context: &str) -> Verdict {
    let oldest = format!("v{}.{}", OLDEST.0, OLDEST.1);
    let is_old = |version: Version| oldest.parse::<Version>().is_ok_and(|old| version < old);
    match git_version.parse::<Version>() {
        Ok(version) if is_old(version) => Verdict::warn(
            format!(
                "Kubernetes {git_version}, {context}: filmgate is tested with {oldest} and later"
            ),
            "kubectl version",
        ),
        _ => Verdict::ok(format!("Kubernetes {git_version}, {context}")),
    }
}

/// In words: which entry of the kubeconfig is used, as kubectl would.
fn context(place: &Place) -> String {
    let read = match &place.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    match read.ok().and_then(|config| config.current_context) {
        Some(context) => format!("context {context}"),
        None => "no context of kubectl's".to_owned(),
    }
}

/// Whether this machine's clock agrees with the API server's.
pub(super) async fn clocks(ground: &Ground) -> Outcome {
    let theirs = ground.server_time().await?;
    let ours = jiff::Timestamp::now();
    Ok(vec![judge_clock(ours.as_second() - theirs.as_second())])
}

fn judge_clock(ahead_seconds: i64) -> Verdict {
    let words = match ahead_seconds {
        0.. => format!("this machine's clock is {ahead_seconds} s ahead of the API server's"),
        _ => format!("this machine's clock is {} s behind the API server's", -ahead_seconds),
    };
    match ahead_seconds.abs() {
        SKEW_THAT_BREAKS_SECONDS.. => {
            Verdict::fail(format!("{words}: certificates and tokens may be refused"), "timedatectl")
        }
        SKEW_OF_NOTE_SECONDS.. => Verdict::warn(words, "timedatectl"),
        _ => Verdict::ok("this machine's clock and the API server's agree"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_clock_may_be_off_by_what_an_answer_takes() {
        for (ahead, level) in [
            (0, Level::Ok),
            (4, Level::Ok),
            (-4, Level::Ok),
            (5, Level::Warn),
            (-59, Level::Warn),
            (60, Level::Fail),
            (-3600, Level::Fail),
        ] {
            assert_eq!(judge_clock(ahead).level, level, "{ahead}");
        }
        assert!(judge_clock(-7).found.contains("7 s behind"));
    }

    #[test]
    fn old_versions_are_told() {
        assert_eq!(judge_version("v1.29.4", "context a").level, Level::Warn);
        for fine in ["v1.30.0", "v1.37.2-gke.1", "something"] {
            assert_eq!(judge_version(fine, "context a").level, Level::Ok, "{fine}");
        }
    }
}
