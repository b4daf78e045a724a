//! `leaderElection`: which of several replicas answers.

use std::time::Duration;

use super::ConfigError;
use super::check::setting;
use super::settings::LeaderElectionFile;
use super::text::Text;

/// Which of several replicas answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderElection {
    /// Whose Lease it goes by.
    pub mode: ElectionMode,
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// This replica's name; `None`: the hostname.
    pub identity: Option<String>,
    /// How long an own Lease lasts for others.
    pub lease_duration: Duration,
    /// How long it lasts for its holder.
    pub renew_deadline: Duration,
    /// Time between two reads of the Lease, or renewals.
    pub retry_period: Duration,
}

/// Whose Lease says which replica answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionMode {
    /// The Lease of kube-scheduler: the replica answers whose pod's kube-scheduler holds it.
    Sibling,
    /// A Lease of filmgate's own.
    Own,
    /// There is no other replica.
    Off,
}

impl ElectionMode {
    /// Sibling: as `config/kube-scheduler.yaml` names it.
    const fn usual_lease(self) -> &'static str {
        match self {
            Self::Sibling | Self::Off => "filmgate-kube-scheduler",
            Self::Own => "filmgate-extender",
        }
    }
}

/// In YAML, off without quotes is false.
const MODES: [(&str, ElectionMode); 4] = [
    ("sibling", ElectionMode::Sibling),
    ("own", ElectionMode::Own),
    ("off", ElectionMode::Off),
    ("false", ElectionMode::Off),
];

pub(super) fn leader_election(
    file: Option<&LeaderElectionFile>,
) -> Result<LeaderElection, ConfigError> {
    let none = LeaderElectionFile::default();
    let file = file.unwrap_or(&none);
    let mode = setting("leaderElection.mode", "sibling", file.mode.as_ref())
        .word(&MODES, ElectionMode::Sibling)?;
    let identity = setting("leaderElection.identity", "filmgate-0", file.identity.as_ref());
    let election = LeaderElection {
        mode,
        namespace: setting("leaderElection.namespace", "filmgate", file.namespace.as_ref())
            .text("filmgate")?,
        name: setting("leaderElection.name", mode.usual_lease(), file.name.as_ref())
            .text(mode.usual_lease())?,
        identity: file.identity.as_ref().map(|_| identity.text("")).transpose()?,
        lease_duration: duration("leaderElection.leaseDuration", "15s", &file.lease_duration, 15)?,
        renew_deadline: duration("leaderElection.renewDeadline", "10s", &file.renew_deadline, 10)?,
        retry_period: duration("leaderElection.retryPeriod", "2s", &file.retry_period, 2)?,
    };
    check_durations(&election, file)?;
    Ok(election)
}

fn duration(
    key: &'static str,
    example: &'static str,
    value: &Option<Text>,
    seconds: u64,
) -> Result<Duration, ConfigError> {
    setting(key, example, value.as_ref()).duration(Duration::from_secs(seconds))
}

/// As client-go has it, and a Lease lasts whole seconds.
fn check_durations(
    election: &LeaderElection,
    file: &LeaderElectionFile,
) -> Result<(), ConfigError> {
    if election.mode != ElectionMode::Own {
        return Ok(());
    }
    let lease = setting("leaderElection.leaseDuration", "15s", file.lease_duration.as_ref());
    let renew = setting("leaderElection.renewDeadline", "10s", file.renew_deadline.as_ref());
    if election.lease_duration.subsec_nanos() > 0 {
        return Err(lease.wrong("is not in whole seconds"));
    }
    if election.renew_deadline >= election.lease_duration {
        return Err(renew.wrong("is not below leaderElection.leaseDuration"));
    }
    if election.retry_period * 2 > election.renew_deadline {
        let retry = setting("leaderElection.retryPeriod", "2s", file.retry_period.as_ref());
        return Err(retry.wrong("is more than half of leaderElection.renewDeadline"));
    }
    Ok(())
}
