//! External metrics on a real control plane: the shipped extender behind the API server's
//! aggregation layer, and the HorizontalPodAutoscaler's own controller that reads them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod balloon;
mod callers;
mod idle;
mod scaling;
mod world;
