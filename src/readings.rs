//! Readings on their way from the agents to the ledger.
//!
//! ```text
//!  agent                                                extender
//!  Sampler ──▶ server (a feed per node) ══ NDJSON ══▶ client (a task per node) ──▶ Event ──▶ ledger
//!                                                        ▲
//!                                      discovery: which node is served at which URL
//! ```
//!
//! [`protocol`] says what goes over the wire, and keeps both ends' copies of a reading equal.
//! [`server`] owns the samplings: one task per node samples, so that its numbers rise and no
//! reader, however slow, holds it up. [`client`] owns the connections and decides what is news;
//! it keeps no reading that the ledger would have to ask it for. [`discovery`] lists the agents.
//! Beyond loopback they speak [TLS](crate::tls), and [`readers`] prove themselves by a token.
//!
//! Two machines' clocks are never compared. What matters is order: a reading that answers a
//! question (a stream's first one, or a `sample now`) was sampled after the question, so the asker
//! may date it by its own clock ([`client::Arrival::began_after`]).

pub mod client;
pub mod discovery;
pub mod protocol;
pub mod readers;
pub mod server;
