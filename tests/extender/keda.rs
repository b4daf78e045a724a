//! KEDA's external scaler as KEDA meets it: a generated client, TLS with certificates on both sides,
//! and a real ledger.

mod bad;
mod calls;
mod door;
mod streams;
mod world;
