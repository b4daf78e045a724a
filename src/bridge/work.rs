//! What is told, from the first look at it to the last restart.

use std::fmt;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Mutex as Turn;

use super::decision::{Change, Wish};
use super::hysteresis::Tunnel;
use super::probe::{Probe, ProbeError};
use super::seen::Seen;
use super::target::{News, Target, TargetError, Workload};
use super::url::{UrlError, UrlRules};
use super::watch::{Followed, Watch};
use crate::clock::Clock;
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
    pub(super) rules: UrlRules,
    pub(super) probe: Probe,
    pub(super) target: Target,
    pub(super) watch: Watch,
    pub(super) clock: Clock,
    /// Two that are told at once are one change: the second finds it made.
    pub(super) turn: Turn<Option<Followed>>,
    seen: Mutex<Seen>,
    last_look: Mutex<Option<Result<(), String>>>,
}

impl Bridge {
    /// One that takes such URLs.
    #[must_use]
    pub fn new(rules: UrlRules, probe: Probe, target: Target) -> Self {
        Self {
            rules,
            probe,
            target,
            watch: Watch::default(),
            clock: Clock::monotonic(),
            turn: Turn::default(),
            seen: Mutex::default(),
            last_look: Mutex::default(),
        }
    }

    /// The same that watches tunnels so, by that clock.
    #[must_use]
    pub fn watching(self, watch: Watch, clock: Clock) -> Self {
        Self { watch, clock, ..self }
    }

    /// What it knows.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// What the last look at the cluster came to; `None` before the first.
    #[must_use]
    pub fn last_look(&self) -> Option<Result<(), String>> {
        self.last_look.lock().clone()
    }

    pub(super) const fn probe(&self) -> &Probe {
        &self.probe
    }

    pub(super) fn note_look(&self, looked: &Result<(), TargetError>) {
        *self.last_look.lock() = Some(looked.as_ref().copied().map_err(ToString::to_string));
    }

    /// Notes what there is: the tunnel and whether it is up, its answer, and what is asked.
    pub(super) fn note_tunnel(
        &self,
        tunnel: Option<(String, bool)>,
        answer: Option<Result<Vec<Vram>, Refusal>>,
        url: Option<String>,
    ) {
        let mut seen = self.seen.lock();
        seen.url = url;
        (seen.tunnel, seen.is_up) = tunnel.unzip();
        (seen.gpus, seen.trouble) = match answer {
            Some(Ok(gpus)) => (gpus, None),
            Some(Err(why)) => (Vec::new(), Some(why.to_string())),
            None => (Vec::new(), None),
        };
    }

    /// Makes that URL the one that the pipeline asks.
    ///
    /// # Errors
    /// Why it is not taken. Until it has been probed, nothing is written.
    pub async fn offer(&self, text: &str, mode: Mode) -> Result<Done, Refusal> {
        let offered = self.take(text, mode).await;
        if mode == Mode::Do {
            let outcome = match &offered {
                Ok(done) if done.is_changed => "changed",
                Ok(_) => "unchanged",
                Err(refusal) => refusal.reason(),
            };
            *self.seen.lock().told.entry(outcome).or_default() += 1;
        }
        offered
    }

    async fn take(&self, text: &str, mode: Mode) -> Result<Done, Refusal> {
        let url = self.rules.admit(text)?;
        let mut turn = self.turn.lock().await;
        let gpus = self.probe.gpus(&url).await?;
        let url = url.to_string();
        let wish = Wish { tunnel: Some(url.clone()), url: url.clone() };
        let done = self.settle(&wish, mode).await?;
        if mode == Mode::Do {
            self.note_tunnel(Some((url.clone(), true)), Some(Ok(gpus.clone())), Some(url.clone()));
            *turn = Some(Followed { url, tunnel: Tunnel::new(true, self.watch.patience) });
        }
        Ok(Done { gpus, ..done })
    }

    /// Makes the cluster as it is wished.
    pub(super) async fn settle(&self, wish: &Wish, mode: Mode) -> Result<Done, TargetError> {
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
                self.restart(&readers, &wish.url).await?;
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

    async fn restart(&self, readers: &[Workload], url: &str) -> Result<(), TargetError> {
        let now = Timestamp::now();
        for reader in readers {
            self.target.restart(reader, now).await?;
            self.seen.lock().restarts += 1;
        }
        let note = format!("restarted, since ComfyUI is asked at {url} from now on");
        let news = News { type_: "Normal", reason: "ComfyUIChanged", note };
        self.target.tell(readers, &news).await;
        Ok(())
    }
}
