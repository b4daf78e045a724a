//! Who has which device, and whose a process is.

use std::collections::HashMap;

use filmgate::agent::book::{Book, Offer};
use filmgate::agent::owner::Owner;
use filmgate::engine::{DeviceAssignment, PodUid};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::plugin::{Offering, Policy};
use super::support::eventually::eventually;
use super::support::objects::pod;
use super::world::{DEADLINE, World};

/// The GPUs of the node.
pub const GPUS: [&str; 2] =
    ["GPU-11111111-1111-1111-1111-111111111111", "GPU-22222222-2222-2222-2222-222222222222"];
const MIG: &str = "MIG-33333333-3333-3333-3333-333333333333";
const MIG_RESOURCE: &str = "nvidia.com/mig-1g.10gb";

/// Two GPUs, each as four replicas.
pub fn shared(policy: Policy) -> Offering {
    Offering { resource: "nvidia.com/gpu", gpus: GPUS.to_vec(), replicas: 4, policy }
}

fn mig() -> Offering {
    let policy = Policy::Distributed;
    Offering { resource: MIG_RESOURCE, gpus: vec![MIG], replicas: 1, policy }
}

/// The devices that the book gives to the pod.
pub fn devices_of<'a>(book: &'a Book, pod: &Pod) -> Vec<&'a DeviceAssignment> {
    let name = pod.name_any();
    let entries: Vec<_> = book.assignments.iter().filter(|one| *one.pod == *name).collect();
    for entry in &entries {
        assert_eq!(entry.uid, Some(uid(pod)), "{book:?}");
        assert_eq!((&*entry.namespace, &*entry.container), ("default", "main"));
    }
    entries
}

fn gpu_of<'a>(book: &'a Book, pod: &Pod) -> &'a str {
    let devices = devices_of(book, pod);
    assert_eq!(devices.len(), 1, "{book:?}");
    devices[0].gpu.as_str()
}

/// `metadata.uid`
pub fn uid(pod: &Pod) -> PodUid {
    PodUid::from(pod.uid().unwrap())
}

/// The pod that owns the process, which is the main container's.
fn assert_owner(world: &World, book: &Book, pod: &Pod, process: u32) {
    let Owner::Pod { uid: owner, container } = world.owner(process) else {
        panic!("{process} is nobody's");
    };
    assert_eq!(owner, uid(pod));
    let known = book.pods.iter().find(|known| known.uid == owner).unwrap();
    assert_eq!((&*known.namespace, &*known.name), ("default", &*pod.name_any()));
    let name = known.containers.iter().find(|(id, _)| Some(id) == container.as_ref());
    assert_eq!(name.map(|(_, name)| &**name), Some("main"), "{known:?}");
}

#[tokio::test]
async fn the_book_tells_who_has_which_device_and_proc_whose_a_process_is() {
    let Some(world) = World::start(&[shared(Policy::Distributed), mig()]).await else { return };
    let names = ["a", "b", "c", "d"];
    let pods = join_all(names.map(|name| world.run(pod(name).gpus(1)))).await;
    let on_mig = world.run(pod("mig").devices(MIG_RESOURCE, 1)).await;
    let none = world.run(pod("none")).await;
    let book = world.look().await;

    let mut given: HashMap<&str, u32> = HashMap::new();
    for pod in &pods {
        let gpu = gpu_of(&book, pod);
        *given.entry(gpu).or_default() += 1;
        let process = world.process(&pod.name_any()).await;
        assert_owner(&world, &book, pod, process);
        assert_eq!(world.visible_devices(process), gpu);
    }
    assert_eq!(given, HashMap::from(GPUS.map(|gpu| (gpu, 2))), "distributed");
    assert_eq!(gpu_of(&book, &on_mig), MIG);
    assert_eq!(devices_of(&book, &none).len(), 0);
    assert_owner(&world, &book, &none, world.process("none").await);

    let offer = |resource: &str, replicas| Offer { resource: resource.into(), replicas };
    let offers = [
        (GPUS[0], offer("nvidia.com/gpu", 4)),
        (GPUS[1], offer("nvidia.com/gpu", 4)),
        (MIG, offer(MIG_RESOURCE, 1)),
    ];
    assert_eq!(book.offers, HashMap::from(offers.map(|(gpu, offer)| (gpu.into(), offer))));
}

#[tokio::test]
async fn a_static_pod_is_known_by_the_hash_of_its_manifest() {
    let Some(world) = World::start(&[shared(Policy::Distributed)]).await else { return };
    let mirror = world.run_static(pod("fixed").gpus(1)).await;
    let hash = &mirror.annotations()["kubernetes.io/config.hash"];
    let Owner::Pod { uid: owner, .. } = world.owner(world.process("fixed").await) else {
        panic!("nobody's")
    };
    assert_eq!(owner.as_str(), hash);
    assert_ne!(owner, uid(&mirror));
    let book = world.look().await;
    let known = book.pods.iter().find(|known| known.uid == owner);
    assert_eq!(known.map(|known| known.name.to_string()), Some(mirror.name_any()));
    let entries: Vec<_> = book.assignments.iter().map(|one| (&*one.pod, &one.uid)).collect();
    assert_eq!(entries, [(&*mirror.name_any(), &None)], "the kubelet's UID is nobody else's");
}

#[tokio::test]
async fn a_steered_pod_sees_another_gpu_than_the_book_says() {
    let Some(world) = World::start(&[shared(Policy::Packed)]).await else { return };
    let first = world.run(pod("first").gpus(1)).await;
    let book = world.look().await;
    let taken = gpu_of(&book, &first);
    let chosen = GPUS.into_iter().find(|gpu| *gpu != taken).unwrap();
    let steered = pod("steered").gpus(1).steered().annotation("filmgate.dev/gpu", chosen);
    let steered = world.run(steered).await;
    let book = world.look().await;
    assert_eq!(gpu_of(&book, &steered), taken, "packed");
    let process = world.process("steered").await;
    assert_eq!(world.visible_devices(process), chosen);
    assert_owner(&world, &book, &steered, process);

    let two = world.run(pod("two").gpus(2)).await;
    let book = world.look().await;
    let gpus: Vec<_> = devices_of(&book, &two).iter().map(|one| one.gpu.as_str()).collect();
    assert_eq!(gpus, [taken, taken], "two replicas of one GPU");

    // One replica that is unhealthy is one that is not offered.
    world.plugins[0].set_unhealthy(&[&format!("{taken}::0")]);
    eventually(DEADLINE, "a replica held back", async || {
        let book = world.look().await;
        let replicas = GPUS.map(|gpu| book.offers.get(gpu).map(|offer| offer.replicas));
        let held_back = GPUS.map(|gpu| Some(if gpu == taken { 3 } else { 4 }));
        anyhow::ensure!(replicas == held_back, "{replicas:?}");
        anyhow::Ok(())
    })
    .await;
}
