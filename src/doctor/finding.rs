//! What a check comes to.

use serde::Serialize;

use super::checks::{Check, Group};

/// How bad it is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Looked at, and as it should be.
    Ok,
    /// Could not be looked at.
    Skipped,
    /// It works, and not as it could.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What one check says of one thing that it looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// The command that mends it, or that shows more.
    pub mend: Option<String>,
}

impl Verdict {
    /// As it should be.
    pub fn ok(found: impl Into<String>) -> Self {
        Self { level: Level::Ok, found: found.into(), mend: None }
    }

    /// Could not be looked at.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self { level: Level::Skipped, found: why.into(), mend: None }
    }

    /// It works, and not as it could.
    pub fn warn(found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, found: found.into(), mend: Some(mend.into()) }
    }

    /// It does not work.
    pub fn fail(found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, found: found.into(), mend: Some(mend.into()) }
    }
}

/// Why a check could not be made: no right, no such API, nobody there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unmade(pub String);

/// What a check returns.
pub type Outcome = Result<Vec<Verdict>, Unmade>;

/// A line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What the check belongs to.
    pub group: Group,
    /// The check.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, without anything that a terminal would obey.
    pub found: String,
    /// The command that mends it, or that shows more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// What that check said.
    #[must_use]
    pub fn of(check: &Check, verdict: Verdict) -> Self {
        Self {
            group: check.group,
            check: check.name,
            level: verdict.level,
            found: plain(&verdict.found),
            mend: verdict.mend.as_deref().map(plain),
        }
    }
}

/// Logs and events are written by anyone: what steers a terminal is not passed on.
fn plain(text: &str) -> String {
    let keeps = |character: &char| *character == '\n' || !character.is_control();
    text.trim_end().chars().filter(keeps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_left_out() {
        assert_eq!(plain("a\u{1b}[2Jb\u{9b}31m\nc\r\n"), "a[2Jb31m\nc");
    }

    #[test]
    fn a_check_that_was_not_made_is_not_one_that_passed() {
        assert!(Level::Ok < Level::Skipped && Level::Skipped < Level::Warn);
        assert!(Level::Warn < Level::Fail);
    }
}
