//! The engine's rules, one sentence each.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/engine.rs"]
mod support;

mod accounting;
mod admission;
mod attribution;
mod balloons;
mod books;
mod comfyui;
mod exclusive;
mod idle;
mod multi;
mod nodes;
mod nominations;
mod others;
mod outlook;
mod outlook_cost;
mod outlook_properties;
mod picked;
mod preemption;
mod readings;
mod release;
mod relists;
mod starvation;
mod unsteered;
mod usual;
mod victims;
mod waiting;
