//! A process that outlives its pod.

use std::time::Duration;

use filmgate::agent::owner::Owner;

use super::book::uid;
use super::gated::{Gated, Options};
use super::support::eventually::{eventually, throughout};
use super::support::objects::pod;
use super::world::DEADLINE;

/// Some samplings.
const A_WHILE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_force_deleted_pods_process_keeps_its_room_until_the_driver_shows_it_gone() {
    let options = Options { gpus: 1, ..Options::default() };
    let Some(mut node) = Gated::start(options).await else { return };
    let old = node.world.run(pod("old").gpus(1).vram("12Gi").steered()).await;
    let process = node.world.process("old").await;
    node.holds("old", 0, 12).await;
    node.account_is("old", &[(0, (12, 12))]).await;

    // Nobody ends its container.
    node.world.hang_kubelet(true);
    node.world.delete("old", 0).await;
    assert!(node.world.cluster.pods().get_opt("old").await.unwrap().is_none());
    node.world.create(pod("new").gpus(1).vram("12Gi").steered()).await;
    let condition = node.refused("new").await;
    assert!(condition.contains("1 not enough free VRAM"), "{condition}");
    // Its charge has ended; what it holds has not.
    node.account_is(uid(&old).as_str(), &[(0, (0, 12))]).await;
    stays_unbound(&node, "new").await;
    assert!(matches!(node.world.owner(process), Owner::Pod { .. }));

    node.world.hang_kubelet(false);
    let gone = async || (node.world.owner(process) == Owner::Gone).then_some(());
    eventually(DEADLINE, "the end of the process", gone).await;
    // Its memory may outlast it.
    stays_unbound(&node, "new").await;

    node.is_left_by_all();
    node.world.running("new").await;
}

async fn stays_unbound(node: &Gated, name: &str) {
    throughout(A_WHILE, async || {
        let pod = node.world.cluster.pods().get(name).await.unwrap();
        assert_eq!(pod.spec.unwrap().node_name, None);
    })
    .await;
}
