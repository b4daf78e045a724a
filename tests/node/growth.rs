//! Pods that take more, and give it back.

use std::time::Duration;

use tokio::time::Instant;

use super::gated::{Gated, Options, PEAK_WINDOW};
use super::support::eventually::eventually;
use super::support::objects::pod;

/// For growth to be seen by the extender.
const NOTICE: Duration = Duration::from_secs(2);
/// The last sampling that shows the growth may have begun so long before its end.
const INTERVAL: Duration = Duration::from_secs(1);

#[tokio::test]
async fn growth_keeps_a_pod_away_within_two_seconds_and_until_its_peak_is_past() {
    let options = Options { gpus: 1, ..Options::default() };
    let Some(mut node) = Gated::start(options).await else { return };
    let newcomer = || pod("newcomer").gpus(1).vram("12Gi").steered();
    node.world.run(pod("grower").gpus(1).vram("4Gi").steered()).await;
    node.holds("grower", 0, 4).await;
    node.account_is("grower", &[(0, (4, 4))]).await;
    assert_eq!(node.refusal(newcomer()).await, None);

    node.holds("grower", 0, 14).await;
    let grown = Instant::now();
    let refusal = async || node.refusal(newcomer()).await;
    let refusal = eventually(NOTICE, "a refusal", refusal).await;
    println!("refused {:?} after the growth", grown.elapsed());
    assert_eq!(refusal, "not enough free VRAM");
    node.world.create(newcomer()).await;
    let condition = node.refused("newcomer").await;
    assert!(condition.contains("1 not enough free VRAM"), "{condition}");

    node.holds("grower", 0, 4).await;
    let shrunk = Instant::now();
    node.account_is("grower", &[(0, (14, 4))]).await;
    node.world.cluster.node_of("newcomer").await;
    let waited = shrunk.elapsed();
    println!("bound {waited:?} after the end of the growth");
    assert!(waited > PEAK_WINDOW - INTERVAL, "{waited:?}");
    node.world.running("newcomer").await;
    node.account_is("grower", &[(0, (4, 4))]).await;
}
