//! The messages of `proto/`.
#![allow(missing_docs, unreachable_pub, clippy::all)]

/// `proto/podresources.proto`
pub mod pod_resources {
    tonic::include_proto!("v1");
}

/// `proto/pods.proto`
pub mod pods {
    tonic::include_proto!("v1alpha1");
}
