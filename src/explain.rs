//! `filmgate explain`: asks an extender why a pod goes where it goes, or waits, and shows it.
//!
//! ```text
//! pod name or file ──▶ source (URL, or a port-forward) ──▶ answer ──▶ table
//! ```

pub mod answer;
pub mod source;
pub mod table;
