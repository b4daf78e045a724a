//! Kubelets that end, and pods that are deleted.

use filmgate::agent::book::{Book, Bookkeeper as _, NoBook};
use filmgate::agent::kubelet::Kubelet;
use filmgate::agent::owner::Owner;
use kube::ResourceExt as _;

use super::book::{devices_of, shared, uid};
use super::plugin::Policy;
use super::support::eventually::eventually;
use super::support::objects::pod;
use super::world::{DEADLINE, World};

/// A look by somebody who has not looked before.
async fn first_look(world: &World) -> Result<Book, NoBook> {
    Kubelet::at(&world.machine.kubelet_folder()).look().await
}

#[tokio::test]
async fn the_book_outlasts_the_kubelets_restart() {
    let Some(mut world) = World::start(&[shared(Policy::Packed)]).await else { return };
    let first = world.run(pod("first").gpus(1)).await;
    let process = world.process("first").await;
    let (before, owner) = (world.look().await, world.owner(process));
    assert_eq!(devices_of(&before, &first).len(), 1);

    world.kill_kubelet();
    eventually(DEADLINE, "the end of the kubelet", async || match world.bookkeeper.look().await {
        Err(NoBook::Unreachable { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(world.owner(process), owner, "the container lives on");

    world.start_kubelet();
    eventually(DEADLINE, "the book as before", async || {
        let now = world.bookkeeper.look().await?;
        anyhow::ensure!(now.assignments == before.assignments, "{now:?}");
        assert_eq!(now.offers, before.offers, "although the plugin has not registered again");
        anyhow::Ok(())
    })
    .await;
    assert_eq!(first_look(&world).await.unwrap().offers.len(), 0);

    world.register_plugins().await;
    assert_eq!(first_look(&world).await.unwrap().offers, before.offers);
    let second = world.run(pod("second").gpus(1)).await;
    let now = world.look().await;
    let gpus = [&first, &second].map(|pod| devices_of(&now, pod)[0].gpu.clone());
    assert_eq!(gpus[0], gpus[1], "packed, by what was given before the restart too");
    assert_eq!(world.process("first").await, process);
}

#[tokio::test]
async fn a_deleted_pods_process_is_its_own_until_it_ends() {
    let Some(world) = World::start(&[shared(Policy::Distributed)]).await else { return };
    let first = world.run(pod("comfy").gpus(1)).await;
    let process = world.process("comfy").await;
    let owner = world.owner(process);
    let Owner::Pod { container: Some(container), .. } = &owner else { panic!("{owner:?}") };

    // As a process that hangs in the driver.
    let hangs = world.machine.cgroups.freeze(container);
    world.delete("comfy", 0).await;
    eventually(DEADLINE, "the pod out of the book", async || {
        let book = world.look().await;
        anyhow::ensure!(book.assignments.is_empty(), "{book:?}");
        anyhow::Ok(())
    })
    .await;
    assert_eq!(world.owner(process), owner);
    drop(hangs);
    let gone = async || (world.owner(process) == Owner::Gone).then_some(());
    eventually(DEADLINE, "the end of the process", gone).await;

    let second = world.run(pod("comfy").gpus(1)).await;
    assert_ne!(uid(&second), uid(&first));
    assert_eq!(devices_of(&world.look().await, &second).len(), 1);
    world.delete("comfy", 5).await;
    eventually(DEADLINE, "the pod gone", async || {
        let pods = world.cluster.pods();
        pods.get_opt("comfy").await?.map_or(Ok(()), |pod| Err(anyhow::anyhow!("{:?}", pod.uid())))
    })
    .await;
    assert_eq!(world.look().await.assignments, []);
}
