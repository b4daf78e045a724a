//! filmgate.
fn main() {}
