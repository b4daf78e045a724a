//! Many nodes, room on one only.

use super::support::objects::pod;
use super::world::{SimulatedNode, World, WorldOptions};

const NODES: usize = 200;
/// kube-scheduler starts each cycle's walk over the nodes where the last one ended.
const CYCLES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn among_two_hundred_nodes_the_only_one_with_room_is_found_in_one_attempt() {
    let names: Vec<String> = (0..NODES).map(|number| format!("n{number:03}")).collect();
    let nodes = names.iter().map(|name| SimulatedNode::new(name, &[24]).foreign_gib(0, 20));
    let world =
        World::start(WorldOptions { nodes: nodes.collect(), ..WorldOptions::default() }).await;

    for (round, position) in [0, NODES / 2, NODES - 1].into_iter().enumerate() {
        only_node_is_found(&world, &names[position], &format!("p{round}")).await;
    }
    for cycle in 0..CYCLES {
        let name = format!("small{cycle}");
        world.cluster.add_pod(pod(&name).gpus(1).vram("256Mi").steered()).await;
        world.cluster.node_of(&name).await;
    }
    only_node_is_found(&world, &names[NODES / 4], "last").await;
}

/// Room is made on that node, and the pod that fills it is placed by its first filter call.
async fn only_node_is_found(world: &World, node: &str, name: &str) {
    world.fleet_foreign(node, 0, 0);
    world.free_bytes_seen(node, 12).await;
    let before = world.filter_calls().await;
    world.cluster.add_pod(pod(name).gpus(1).vram("12Gi").steered()).await;
    assert_eq!(world.cluster.node_of(name).await, node);
    assert_eq!(world.filter_calls().await - before, 1.0, "found in one attempt");
    // Full again for the next round.
    world.fleet_foreign(node, 0, 11);
}
