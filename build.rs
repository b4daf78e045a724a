//! Generates what `proto/` describes. protox reads it, so that no machine needs protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["podresources.proto", "pods.proto", "deviceplugin.proto", "externalscaler.proto"];
    let described = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(described)?;
    Ok(())
}
