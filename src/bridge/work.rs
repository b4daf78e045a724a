//! What is told, from the first look at it to the last restart.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Mutex;

use super::decision::{Change, Wish};
use super::probe::{Probe, ProbeError};
use super::target::{Target, TargetError};
use super::url::{UrlError, UrlRules};
use crate::comfyui::Vram;

/// Rounds that are begun anew since somebody else wrote at the same time.
const TRIES: usize = 5;

/// Why a URL is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be meant.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It leads to no ComfyUI, or where nobody may go.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// It cannot be written.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl Refusal {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Url(error) => error.reason(),
            Self::Probe(error) => error.reason(),
            Self::Target(_) => "not_written",
        }
    }
}

/// What came of a URL that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// The URL.
    pub url: String,
    /// What was there before.
    pub before: Option<String>,
    /// It is another than before, or a restart was still due.
    pub is_changed: bool,
    /// The workloads that were restarted: `deployment/director`.
    pub restarted: Vec<String>,
    /// The GPUs there.
    pub gpus: Vec<Vram>,
    /// Nothing of that was done, only found out.
    pub is_dry_run: bool,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, before, is_changed, restarted, gpus, is_dry_run } = self;
        let would = |would, did| if *is_dry_run { would } else { did };
        for Vram { name, total_bytes, free_bytes } in gpus {
            writeln!(formatter, "{url}: {name}, {free_bytes} free of {total_bytes}")?;
        }
        if !is_changed {
            return write!(formatter, "unchanged: nothing {}", would("to do", "done"));
        }
        let before = before.as_deref().unwrap_or("nothing");
        write!(formatter, "{} {before} by {url}", would("would replace", "replaced"))?;
        for workload in restarted {
            write!(formatter, "\n{} {workload}", would("would restart", "restarted"))?;
        }
        Ok(())
    }
}

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is done.
    Do,
    /// It is only found out what would be.
    DryRun,
}

/// Takes URLs, one at a time.
pub struct Bridge {
    rules: UrlRules,
    probe: Probe,
    target: Target,
    /// Two that are told at once are one change: the second finds it made.
    turn: Mutex<()>,
}

impl Bridge {
    /// One that takes such URLs.
    #[must_use]
    pub fn new(rules: UrlRules, probe: Probe, target: Target) -> Self {
        Self { rules, probe, target, turn: Mutex::new(()) }
    }

    /// Makes that URL the one that the pipeline asks.
    ///
    /// # Errors
    /// Why it is not taken. Until it has been probed, nothing is written.
    pub async fn offer(&self, text: &str, mode: Mode) -> Result<Done, Refusal> {
        let url = self.rules.admit(text)?;
        let _turn = self.turn.lock().await;
        let gpus = self.probe.gpus(&url).await?;
        let url = url.to_string();
        let wish = Wish { tunnel: Some(url.clone()), url };
        let done = self.settle(&wish, mode).await?;
        Ok(Done { gpus, ..done })
    }

    /// Makes the cluster as it is wished.
    async fn settle(&self, wish: &Wish, mode: Mode) -> Result<Done, TargetError> {
        let mut tries = 1;
        loop {
            match self.settle_once(wish, mode).await {
                Err(TargetError::Conflict(_)) if tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    async fn settle_once(&self, wish: &Wish, mode: Mode) -> Result<Done, TargetError> {
        let held = self.target.read().await?;
        let change = held.written.change_to(wish);
        let is_changed = change == Change::Replace;
        let readers = if is_changed { self.target.readers().await? } else { Vec::new() };
        if mode == Mode::Do && change != Change::Nothing {
            let written = self.target.write(&held, wish, is_changed).await?;
            if is_changed {
                let now = Timestamp::now();
                for reader in &readers {
                    self.target.restart(reader, now).await?;
                }
                self.target.write(&written, wish, false).await?;
            }
        }
        Ok(Done {
            url: wish.url.clone(),
            before: held.written.config,
            is_changed,
            restarted: readers.iter().map(ToString::to_string).collect(),
            gpus: Vec::new(),
            is_dry_run: mode == Mode::DryRun,
        })
    }
}
