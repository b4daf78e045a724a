//! `filmgate explain`: asks an extender why a pod goes where it goes, or waits, and shows it.
//!
//! ```text
//! pod name or file ──▶ question ──▶ extender ──▶ answer ──▶ table
//! ```

pub mod answer;
pub mod question;
pub mod table;
