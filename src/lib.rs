//! filmgate.
