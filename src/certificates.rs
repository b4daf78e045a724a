//! Certificates of the listeners within the cluster: fills Secrets that are shipped empty, and
//! renews what is in them.
//!
//! ```text
//! Secrets ─▶ store ─▶ material (what is in them) ─▶ plan (what is due) ─▶ issue ─▶ store ─▶ Secrets
//!                                                                        keeper ─▶ APIService
//! ```
//!
//! An authority of filmgate's own signs everything else. [`plan`] decides and [`issue`] makes
//! certificates; neither asks a clock or the cluster. [`keeper`] carries it out, again and again.

pub mod health;
pub mod issue;
pub mod keeper;
pub mod material;
pub mod plan;
mod store;

pub use keeper::{Keeper, Settings};
pub use store::StoreError;
