//! `filmgate bridge` on a real API server, with a ComfyUI behind TLS under an allowed name, and those
//! who mean ill.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod deployed;
mod leads;
mod notebook;
mod process;
mod sources;
mod telling;
mod tunnel;
mod watching;
mod world;
