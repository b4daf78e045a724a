//! filmgate: GPU sharing made safe on Kubernetes.
//!
//! ```text
//! agents ─▶ readings ─┐                     ┌─▶ Bindings, fences, wakes
//!                     ▼                     │
//! API server ─▶ cluster ─▶ extender::gate (engine::Ledger) ◀─▶ kube-scheduler
//! ```
//!
//! The pure core is [`engine`]; everything else is an adapter that feeds it or carries its answers.

pub mod agent;
pub mod autoscaling;
pub mod bridge;
pub mod certificates;
pub mod cli;
pub mod clock;
pub mod cluster;
mod columns;
pub mod comfyui;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod engine;
pub mod explain;
pub mod extender;
pub mod leadership;
pub mod metrics;
pub mod query;
pub mod readings;
pub mod tls;
pub mod top;
