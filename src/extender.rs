//! The extender: kube-scheduler's calls, answered from the ledger.

pub mod writer;
