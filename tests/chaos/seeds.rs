//! Seeds that are played each time.

use std::time::Duration;

use super::run::Run;

/// Of a burst in `make test`.
const SHORT: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn one_replica() {
    Run::default().all_good(&[1, 2], SHORT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_beside_schedulers_that_elect() {
    Run::default().all_good(&[8], SHORT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_behind_a_service() {
    Run::default().all_good(&[16], SHORT).await;
}
