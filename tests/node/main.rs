//! A node as it really is: kubelet, containerd and runc, a device plugin, pods whose processes are
//! real, bound by a real kube-scheduler. It needs root; where there is none, or the programs cannot
//! be had, these tests say so and do nothing, except in CI.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod book;
mod cgroups;
mod containerd;
mod gated;
mod growth;
mod kubelet;
mod machine;
mod nested;
mod place;
mod plugin;
mod restart;
mod shipped;
mod survivor;
mod world;
