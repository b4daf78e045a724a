//! The messages of `proto/externalscaler.proto`.
#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("externalscaler");
