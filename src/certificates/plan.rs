//! What is due: pure decisions from what lies in the Secrets, and the time.
//!
//! A new authority does not sign at once what others check: first everyone is told to believe it,
//! beside its predecessor, and what that one signed stays for [`SETTLING`]. As long after the last
//! certificate has moved the predecessor is believed no more. So a certificate in use is believed at
//! every moment, although mounted Secrets and watched files take minutes to be renewed.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::material::{Certificate, Pair, Purpose};

const DAY: i64 = 24;

/// How long an authority is valid.
pub const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(3_650 * DAY);
/// How long what it signs is valid: less than the third of its own life that it then has at least.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * DAY);
/// Certificates are valid from before they are made: clocks of nodes differ.
pub const BACKDATED: SignedDuration = SignedDuration::from_hours(1);
/// What a change of a Secret takes at most to reach everyone: kubelets look every minute or two.
pub const SETTLING: SignedDuration = SignedDuration::from_hours(1);

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A server of these names, the first of which is its common name.
    Server(Vec<String>),
    /// A client of that name.
    Client(String),
}

/// Why a certificate is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// There is none, or what is there cannot be used.
    Missing,
    /// Two thirds of its life are over.
    Ageing,
    /// It is from the future: a clock was wrong.
    NotYetValid,
    /// It is for somebody else, or something else.
    OtherSubject,
    /// No authority that is believed has signed it.
    OtherAuthority,
    /// Its authority has a successor, which everyone believes by now.
    Succeeded,
}

impl Due {
    /// For logs.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Missing => "there was none that can be used",
            Self::Ageing => "two thirds of its life are over",
            Self::NotYetValid => "the one there was begins in the future",
            Self::OtherSubject => "the one there was is for other names",
            Self::OtherAuthority => "another authority signed the one there was",
            Self::Succeeded => "its authority has a successor",
        }
    }
}

/// The authority that signs, and since when everyone has been told to believe it.
#[derive(Debug, Clone, Copy)]
pub struct Authority<'a> {
    /// Its certificate.
    pub certificate: &'a Certificate,
    /// When every Secret had it among those to be believed; `None`: not yet.
    pub published: Option<Timestamp>,
}

impl Authority<'_> {
    fn is_settled(&self, now: Timestamp) -> bool {
        self.published.is_some_and(|since| now.duration_since(since) >= SETTLING)
    }
}

/// Whether there must be a new authority.
#[must_use]
pub fn authority_due(current: Option<&Pair>, now: Timestamp) -> Option<Due> {
    let Some(current) = current.map(|pair| &pair.certificate) else { return Some(Due::Missing) };
    if current.purpose != Some(Purpose::Authority) {
        return Some(Due::Missing);
    }
    out_of_season(current, now)
}

/// Whether there must be a new certificate for that subject. `believed` has every authority that
/// is to be believed.
#[must_use]
pub fn leaf_due(
    current: Option<&Pair>,
    subject: &Subject,
    authority: Authority<'_>,
    believed: &[Certificate],
    now: Timestamp,
) -> Option<Due> {
    let Some(current) = current.map(|pair| &pair.certificate) else { return Some(Due::Missing) };
    if !is_for(current, subject) {
        return Some(Due::OtherSubject);
    }
    let season = out_of_season(current, now);
    if current.is_signed_by(authority.certificate) {
        return season;
    }
    if !believed.iter().any(|one| current.is_signed_by(one)) {
        return Some(Due::OtherAuthority);
    }
    let can_wait = current.begins <= now && current.ends.duration_since(now) > SETTLING;
    if can_wait && !authority.is_settled(now) {
        return None;
    }
    season.or(Some(Due::Succeeded))
}

/// All authorities that are to be believed, the one that signs first. `known` are those that were
/// believed, and `leaves` the certificates in use.
#[must_use]
pub fn believed(
    authority: &Certificate,
    known: &[Certificate],
    leaves: &[&Certificate],
    now: Timestamp,
) -> Vec<Certificate> {
    // Whoever has not been told of a new certificate yet shows the one before.
    let is_moving = leaves.iter().any(|leaf| now.duration_since(made(leaf)) < SETTLING);
    let mut believed = vec![authority.clone()];
    for one in known {
        let is_authority = one.purpose == Some(Purpose::Authority) && one.ends > now;
        let is_needed = is_moving || leaves.iter().any(|leaf| leaf.is_signed_by(one));
        if is_authority && is_needed && !believed.contains(one) {
            believed.push(one.clone());
        }
    }
    believed
}

fn made(certificate: &Certificate) -> Timestamp {
    certificate.begins + BACKDATED
}

fn out_of_season(certificate: &Certificate, now: Timestamp) -> Option<Due> {
    if now < certificate.begins {
        return Some(Due::NotYetValid);
    }
    let renewal = certificate.life() / 3 * 2;
    (now.duration_since(certificate.begins) >= renewal).then_some(Due::Ageing)
}

fn is_for(certificate: &Certificate, subject: &Subject) -> bool {
    match subject {
        Subject::Server(names) => {
            let names: BTreeSet<_> = names.iter().cloned().collect();
            certificate.purpose == Some(Purpose::Server) && certificate.dns_names == names
        }
        Subject::Client(name) => {
            certificate.purpose == Some(Purpose::Client) && certificate.common_name == *name
        }
    }
}

#[cfg(test)]
mod tests;
