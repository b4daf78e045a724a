//! What the tests share: a real Kubernetes control plane, the processes around
//! it, and builders for what they put into it.
//!
//! Each file under `tests/` is a program of its own and takes these modules by
//! `mod support;`, so none of them uses everything.
#![allow(dead_code, unreachable_pub)]
// A harness that cannot do its work has nothing better to do than to fail the test.
#![allow(clippy::expect_used)]

pub mod agents;
pub mod authority;
pub mod binaries;
pub mod cluster;
pub mod comfyui;
pub mod events;
pub mod eventually;
pub mod figures;
pub mod helm;
pub mod kubeconfig;
pub mod kubelet_sockets;
pub mod kubelets;
pub mod manifests;
pub mod metrics;
pub mod nvml;
pub mod objects;
pub mod port;
pub mod proc;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod replicas;
pub mod rights;
pub mod scheduler;
pub mod scripted;
pub mod service;
pub mod simulated;
pub mod site;
pub mod storm;
pub mod tools;
pub mod verbs;
pub mod volumes;
pub mod watched;

/// Whether the long form of the tests runs (`make e2e`).
pub fn is_long() -> bool {
    std::env::var("FILMGATE_LONG").is_ok_and(|value| value == "1")
}
