//! The chart: what it renders, what it refuses, and what a real API server makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod applied;
mod policies;
mod release;
mod shipped;
mod specs;
mod values;
