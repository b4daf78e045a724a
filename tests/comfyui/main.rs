//! Pods' ComfyUIs are asked what they do: by themselves, and by a gate that knows the pods.

#![allow(clippy::unwrap_used, clippy::expect_used)]
// Each test uses some of what they share.
#![allow(dead_code, unreachable_pub)]

#[path = "../support/comfyui.rs"]
mod comfyui;
#[path = "../support/engine.rs"]
mod engine;
#[path = "../support/eventually.rs"]
mod eventually;
#[path = "../support/scripted.rs"]
mod scripted;

mod client;
mod poller;
