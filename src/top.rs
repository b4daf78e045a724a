//! `filmgate top`: the fleet in a terminal, live.
//!
//! ```text
//! extender ──/fleet, once a second──▶ live ──▶ view (what is shown of it) ──▶ screen
//!                             keys ──▶
//! ```

pub mod answer;
pub mod live;
mod screen;
pub mod table;
mod view;
