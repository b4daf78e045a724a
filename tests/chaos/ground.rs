//! The nodes of a burst in the world: another machine under each name than in the burst before.

use std::time::Duration;

use filmgate::engine::Bytes;

use super::account::{Gpu, Ground};
use super::plan::{NodePlan, Plan};
use super::support::eventually::eventually;
use super::support::objects::{PodBuilder, pod};
use super::support::replicas::Replicas;
use super::support::simulated::SimulatedNode;

/// On nodes: how many GPUs they have.
pub const GPUS_LABEL: &str = "test.filmgate.dev/gpus";
const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
const DEADLINE: Duration = Duration::from_secs(60);

/// Puts the plan's nodes in the place of those that are there.
pub async fn furnish(world: &Replicas, plan: &Plan) {
    let nodes = world.cluster.nodes();
    for node in &plan.nodes {
        eventually(DEADLINE, "a node deleted", async || {
            match nodes.delete(&node.name, &Default::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error.to_string()),
                Ok(_) => Err("still there".to_owned()),
            }
        })
        .await;
        world.fleet.remove_node(&node.name);
        simulated(node).add_to(&world.fleet);
    }
    let builder =
        |node: &NodePlan| simulated(node).builder().label(GPUS_LABEL, &node.gpus.len().to_string());
    world.cluster.add_nodes(plan.nodes.iter().map(builder)).await;
}

/// A node as it is simulated.
pub fn simulated(node: &NodePlan) -> SimulatedNode {
    let sizes: Vec<_> = node.gpus.iter().map(|gpu| gpu.gib).collect();
    let reserved = node.gpus[0].reserved;
    let one = SimulatedNode::new(&node.name, &sizes).replicas(node.replicas).reserved(reserved);
    let foreign = node.gpus.iter().zip(0..);
    foreign.fold(one, |one, (gpu, at)| one.foreign(at, gpu.foreign))
}

/// What the account knows of the nodes.
pub fn of(world: &Replicas, plan: &Plan) -> Ground {
    let mut ground = Ground::default();
    for node in &plan.nodes {
        let uuids = world.fleet.gpus(&node.name).expect("a node of the fleet");
        ground.gpus.extend(node.gpus.iter().zip(uuids).map(|(gpu, uuid)| Gpu {
            node: node.name.clone(),
            uuid,
            room: gpu.room(),
            is_clean: gpu.is_clean(),
        }));
        let devices = node.replicas * u32::try_from(node.gpus.len()).expect("few GPUs");
        ground.devices.insert(node.name.clone(), devices);
    }
    ground
}

/// A pod for each GPU of the node that needs all the room there is, the largest first: when those
/// before it are bound, no other GPU has room for it.
pub fn probes(node: &NodePlan) -> Vec<PodBuilder> {
    let rooms = node.rooms().into_iter().zip(0..);
    let probe = |(room, at): (Bytes, usize)| {
        let (name, room) = (format!("probe-{}-{at}", node.name), room.get().to_string());
        let probe = pod(&name).gpus(1).vram(&room).uses(&room).steered();
        probe.only_on(HOSTNAME_LABEL, &node.name)
    };
    rooms.map(probe).collect()
}
