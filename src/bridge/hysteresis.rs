//! Whether a tunnel counts as up: one answer that is missing takes nothing down, and one that comes
//! puts nothing up.

use std::time::Duration;

use crate::engine::Time;

/// How long something has to be so before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Without an answer, before it is down.
    pub down_after: Duration,
    /// With answers alone, before it is up again.
    pub up_after: Duration,
}

/// Looks that agree before anything changes, however far apart they are.
const LEAST_LOOKS: u32 = 2;

/// A tunnel, as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    patience: Patience,
    is_up: bool,
    /// Since when the looks say otherwise, and how many have.
    otherwise: Option<(Time, u32)>,
}

impl Tunnel {
    /// One that counts as up, or as down.
    #[must_use]
    pub const fn new(is_up: bool, patience: Patience) -> Self {
        Self { patience, is_up, otherwise: None }
    }

    /// Whether it counts as up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.is_up
    }

    /// Notes a look at it; says whether it counts otherwise from now on.
    pub fn note(&mut self, is_answering: bool, now: Time) -> bool {
        if is_answering == self.is_up {
            self.otherwise = None;
            return false;
        }
        let (since, looks) = self.otherwise.map_or((now, 1), |(since, looks)| (since, looks + 1));
        self.otherwise = Some((since, looks));
        let patience = if self.is_up { self.patience.down_after } else { self.patience.up_after };
        let is_over = looks >= LEAST_LOOKS && now.since(since) >= patience;
        if is_over {
            *self = Self::new(is_answering, self.patience);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { down_after: Duration::from_secs(60), up_after: Duration::from_secs(20) };

    /// When it counts otherwise, of looks every ten seconds.
    fn changes(is_up: bool, looks: &str) -> Vec<u64> {
        let mut tunnel = Tunnel::new(is_up, PATIENCE);
        let looks = looks.chars().zip((0..).step_by(10));
        let changes = looks.filter(|(look, at)| tunnel.note(*look == '+', Time::from_secs(*at)));
        changes.map(|(_, at)| at).collect()
    }

    #[test]
    fn it_is_down_after_a_minute_and_up_after_less() {
        assert_eq!(changes(true, "+-------"), [70]);
        assert_eq!(changes(false, "-+++"), [30]);
        assert_eq!(changes(true, "-------++-++"), [60]);
        assert_eq!(changes(true, "-------+++"), [60, 90]);
    }

    #[test]
    fn what_comes_and_goes_stays_as_it_is() {
        assert_eq!(changes(true, "-----+-----+-----+"), [0_u64; 0]);
        assert_eq!(changes(false, "+-++-++-+"), [0_u64; 0]);
    }

    #[test]
    fn a_single_look_after_a_long_pause_changes_nothing() {
        let mut tunnel = Tunnel::new(true, PATIENCE);
        assert!(!tunnel.note(true, Time::ZERO));
        assert!(!tunnel.note(false, Time::from_secs(10_000)));
        assert!(tunnel.is_up());
    }
}
