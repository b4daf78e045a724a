//! Whether the kube-scheduler beside the extender fits the API server: Kubernetes supports one of the
//! same minor version, or of the one before
//! (<https://kubernetes.io/releases/version-skew-policy/#kube-scheduler>). It drifts when a cluster is
//! upgraded and filmgate is not.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use kube::Client;

/// Upgrades are rare, and an alert waits ten minutes anyway.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// A version of Kubernetes, as far as its parts must fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

/// The text is no version.
#[derive(Debug, thiserror::Error)]
#[error("is not a version such as v1.34.1")]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    /// Reads `v1.34.1`, and what vendors add to it (`v1.34.1-gke.1829001`, `v1.30.2+k3s1`).
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
        let mut part = || parts.next().and_then(|part| part.parse().ok()).ok_or(NoVersion);
        Ok(Self { major: part()?, minor: part()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "v{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// How many minor versions this is behind `other`; below zero: ahead of it.
    #[must_use]
    pub fn behind(self, other: Self) -> i64 {
        i64::from(other.minor) - i64::from(self.minor)
    }

    /// Whether Kubernetes supports a kube-scheduler of this version under that API server.
    #[must_use]
    pub fn fits(self, api_server: Self) -> bool {
        complaint(self.behind(api_server)).is_none()
    }
}

/// What is to be said of a kube-scheduler so many minor versions behind the API server.
fn complaint(behind: i64) -> Option<&'static str> {
    match behind {
        0 | 1 => None,
        ..0 => Some("is newer than the API server, which may lack what it watches"),
        2.. => Some("is too old for the API server"),
    }
}

/// Compares the kube-scheduler with the API server, now and then, for as long as the process runs: in the log
/// when it does not fit, and by `tell`, which gets how many minor versions it is behind.
pub async fn watch_skew(client: Client, scheduler: Version, tell: impl Fn(i64)) {
    let mut told = None;
    loop {
        if let Some(api_server) = api_server(&client).await {
            let behind = scheduler.behind(api_server);
            tell(behind);
            if told.replace(behind) != Some(behind) {
                say(scheduler, api_server, behind);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn api_server(client: &Client) -> Option<Version> {
    match client.apiserver_version().await {
        Ok(info) => info.git_version.parse().ok(),
        Err(error) => {
            tracing::debug!(%error, "the API server does not say its version");
            None
        }
    }
}

fn say(scheduler: Version, api_server: Version, behind: i64) {
    match complaint(behind) {
        Some(complaint) => tracing::warn!(
            kube_scheduler = %scheduler, %api_server,
            "the kube-scheduler beside filmgate {complaint}: install filmgate's chart again, which takes \
             the API server's version"
        ),
        None => tracing::info!(kube_scheduler = %scheduler, %api_server, "versions fit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_vendors_make_of_a_version() {
        for (text, read) in [
            ("v1.34.1", "v1.34"),
            ("v1.34.1-gke.1829001", "v1.34"),
            ("v1.30.2+k3s1", "v1.30"),
            ("1.37.0-alpha.1", "v1.37"),
        ] {
            assert_eq!(version(text).to_string(), read, "{text}");
        }
        for wrong in ["", "latest", "v1", "v1.x.2", "1.-3"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_same_minor_version_and_the_one_before_fit() {
        let api_server = version("v1.34.4");
        for (scheduler, behind, fits) in [
            ("v1.34.0", 0, true),
            ("v1.33.9", 1, true),
            ("v1.32.0", 2, false),
            ("v1.35.0", -1, false),
        ] {
            assert_eq!(version(scheduler).behind(api_server), behind);
            assert_eq!(version(scheduler).fits(api_server), fits, "{scheduler}");
        }
    }
}
