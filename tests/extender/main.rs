//! The extender as kube-scheduler meets it: over its routes, with a cluster that follows a script.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, unreachable_pub)]
#[path = "../support/authority.rs"]
mod authority;
#[allow(dead_code, unreachable_pub)]
#[path = "../support/eventually.rs"]
mod eventually;
#[path = "../support/metrics.rs"]
mod exposition;
#[allow(dead_code, unreachable_pub)]
#[path = "../support/port.rs"]
mod port;
#[path = "../support/engine.rs"]
mod support;

mod bad_input;
mod bind;
mod browser;
mod catalogue;
mod comfyui;
mod explain;
mod external_metrics;
mod filter;
mod fleet;
mod golden;
mod keda;
mod line;
mod ops;
mod others;
mod page;
mod preempt;
mod prioritize;
mod script;
mod seen;
mod service;
mod site;
mod speed;
mod standby;
