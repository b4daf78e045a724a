//! A cluster that is not there.

use std::time::Duration;

use filmgate::engine::{Admission, NodeName, PodFacts, PodRef};
use filmgate::extender::writer::{BindOutcome, ClusterWriter, FenceOutcome};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

/// Binds everything at once and knows no pod.
pub struct NoCluster;

impl ClusterWriter for NoCluster {
    fn bind<'a>(
        &'a self,
        _: &'a Admission,
        _: &'a NodeName,
        _: Duration,
    ) -> BoxFuture<'a, BindOutcome> {
        ready(BindOutcome::Bound).boxed()
    }

    fn fence<'a>(&'a self, _: &'a PodRef) -> BoxFuture<'a, FenceOutcome> {
        ready(FenceOutcome::Gone).boxed()
    }

    fn get<'a>(&'a self, _: &'a PodRef) -> BoxFuture<'a, Result<Option<PodFacts>, String>> {
        ready(Ok(None)).boxed()
    }

    fn wake(&self, _: &PodRef) {}

    fn report_refusal(&self, _: &PodRef, _: String) {}
}
