//! A scenario file that is read again whenever it changes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::plan::{self, Starts};
use super::{PlanError, Scenario, SyntaxError};
use crate::agent::simulated::SimulatedFleet;
use crate::clock::Clock;
use crate::engine::{PodUid, Time};

/// Between two looks at a file that has just changed: a writer that is half done shows itself.
const SETTLE: Duration = Duration::from_millis(20);

/// Why a scenario file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("--scenario {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// It is no scenario.
    #[error("--scenario {path}: {source}", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        source: SyntaxError,
    },
    /// It describes what cannot be.
    #[error("--scenario {path}: {source}", path = .path.display())]
    Impossible {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        source: PlanError,
    },
}

/// A scenario file and the fleet that it drives. The fleet's nodes are the file's: others are
/// removed.
#[derive(Debug)]
pub struct ScenarioFile {
    path: PathBuf,
    fleet: SimulatedFleet,
    clock: Clock,
    started: Time,
    first_read: HashMap<PodUid, Time>,
    /// The text last looked at, good or not.
    seen: String,
}

impl ScenarioFile {
    /// Reads the file and sets the fleet up. The scenario's time begins now.
    ///
    /// # Errors
    /// When the file is not to be had or is no good scenario.
    pub async fn open(path: &Path, fleet: SimulatedFleet, clock: Clock) -> Result<Self, FileError> {
        let started = clock.now();
        let first_read = HashMap::new();
        let mut file =
            Self { path: path.into(), fleet, clock, started, first_read, seen: String::new() };
        file.seen = file.read().await?;
        file.take()?;
        Ok(file)
    }

    /// Looks at the file every `period`, without end. What cannot be read is reported once per
    /// text, and the fleet stays as it is.
    pub async fn follow(mut self, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_missing = false;
        loop {
            ticks.tick().await;
            match self.look().await {
                Ok(true) => tracing::info!(path = %self.path.display(), "scenario read again"),
                Ok(false) => {}
                // A file that is being replaced may be missing for a moment: once is enough.
                Err(FileError::Unreadable { .. }) if is_missing => continue,
                Err(error) => {
                    tracing::warn!(%error, "scenario not taken, the last good one stays");
                    is_missing = matches!(error, FileError::Unreadable { .. });
                    continue;
                }
            }
            is_missing = false;
        }
    }

    /// Takes the file if its text is another than at the last look; true if it was.
    ///
    /// # Errors
    /// When the new text is not good; the fleet stays as it is.
    pub async fn look(&mut self) -> Result<bool, FileError> {
        let mut text = self.read().await?;
        if text == self.seen {
            return Ok(false);
        }
        loop {
            sleep(SETTLE).await;
            let again = self.read().await?;
            if again == text {
                break;
            }
            text = again;
        }
        self.seen = text;
        self.take()?;
        Ok(true)
    }

    async fn read(&self) -> Result<String, FileError> {
        let read = tokio::fs::read_to_string(&self.path).await;
        read.map_err(|source| FileError::Unreadable { path: self.path.clone(), source })
    }

    /// Makes the fleet what the text says, or changes nothing.
    fn take(&mut self) -> Result<(), FileError> {
        let path = || self.path.clone();
        let scenario = Scenario::parse(&self.seen);
        let scenario = scenario.map_err(|source| FileError::Syntax { path: path(), source })?;
        let now = self.clock.now();
        let starts = Starts { scenario: self.started, now, first_read: &self.first_read };
        let plans = plan::nodes(&scenario, &starts);
        let plans = plans.map_err(|source| FileError::Impossible { path: path(), source })?;
        let pods =
            scenario.nodes.iter().flat_map(|node| &node.pods).map(|pod| PodUid::from(&pod.uid));
        let first_read =
            pods.map(|uid| (uid.clone(), self.first_read.get(&uid).copied().unwrap_or(now)));
        self.first_read = first_read.collect();
        self.fleet.become_exactly(plans);
        Ok(())
    }
}
