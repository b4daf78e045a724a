//! Where pods really come to be: where filmgate sent them, where the kubelet lists them, and where
//! their processes are.

use k8s_openapi::api::core::v1::Pod;

use super::book::{GPUS, devices_of};
use super::gated::{Gated, Options, charged, chosen};
use super::plugin::Policy;
use super::support::objects::pod;

/// The index of the GPU that the kubelet lists for the pod.
async fn listed(node: &Gated, pod: &Pod) -> usize {
    let book = node.world.look().await;
    let devices = devices_of(&book, pod);
    assert_eq!(devices.len(), 1, "{book:?}");
    position(devices[0].gpu.as_str())
}

fn position(uuid: &str) -> usize {
    GPUS.iter().position(|gpu| *gpu == uuid).unwrap()
}

fn index(gpu: usize) -> u32 {
    u32::try_from(gpu).unwrap()
}

#[tokio::test]
async fn a_steered_pod_is_charged_where_its_processes_are_whether_its_runtime_obeys_or_not() {
    let Some(mut node) = Gated::start(Options::default()).await else { return };
    let first = node.world.run(pod("first").gpus(1).vram("4Gi")).await;
    let taken = listed(&node, &first).await;
    let other = 1 - taken;
    // By the score the tighter GPU, and not the one that the plugin packs.
    node.is_held_by_others(other, 8);
    node.holds("first", taken, 4).await;
    node.account_is("first", &[(index(taken), (4, 4))]).await;
    node.predictions_are(1.0, 0.0).await;
    obeys(&mut node, taken, other).await;
    does_not_obey(&mut node, taken, other).await;
}

async fn obeys(node: &mut Gated, taken: usize, other: usize) {
    let steered = node.world.run(pod("steered").gpus(1).vram("10Gi").steered()).await;
    assert_eq!(chosen(&steered), GPUS[other]);
    let process = node.world.process("steered").await;
    assert_eq!(node.world.visible_devices(process), GPUS[other], "what the process sees");
    assert_eq!(listed(node, &steered).await, taken, "the kubelet's book");
    let in_doubt = [taken, other].map(|gpu| (index(gpu), (10, 0)));
    node.account_is("steered", &in_doubt).await;

    node.holds("steered", other, 10).await;
    node.account_is("steered", &[(index(other), (10, 10))]).await;
    let told = node.told_to_prometheus("steered").await;
    assert_eq!(told, [(index(other), 10.0)].into(), "by the agent");
    node.predictions_are(2.0, 0.0).await;
}

/// What the process sees here is what filmgate chose; the driver shows it on the GPU that the
/// device plugin gave, as one that was given the device by other means.
async fn does_not_obey(node: &mut Gated, taken: usize, other: usize) {
    let stray = node.world.run(pod("stray").gpus(1).vram("2Gi").steered()).await;
    assert_eq!((chosen(&stray), listed(node, &stray).await), (GPUS[other], taken));
    let in_doubt = [taken, other].map(|gpu| (index(gpu), (2, 0)));
    node.account_is("stray", &in_doubt).await;

    node.holds("stray", taken, 2).await;
    node.account_is("stray", &[(index(taken), (2, 2))]).await;
    let event = node.event("stray", "OnAnotherGPU").await;
    let told = format!("was sent to GPU {other} of gpu-node and is on GPU {taken}: ");
    assert!(event.starts_with(&told) && event.contains("cdi"), "{event}");
    node.predictions_are(2.0, 1.0).await;
}

/// Nobody samples here but who is asked to.
#[tokio::test]
async fn an_unsteered_pod_is_charged_where_the_kubelet_lists_it_and_the_next_follows_that_book() {
    let options = Options { policy: Policy::Distributed, interval: "1h", ..Options::default() };
    let Some(mut node) = Gated::start(options).await else { return };
    let first = node.world.run(pod("first").gpus(1).vram("4Gi")).await;
    assert_eq!(charged(&first).len(), 2, "a tie");
    let taken = listed(&node, &first).await;
    node.account_is("first", &[(index(taken), (4, 0))]).await;
    node.predictions_are(1.0, 0.0).await;

    // It is where the first one is, and the plugin believes that it is not.
    let steered = node.world.run(pod("steered").gpus(1).vram("4Gi").steered()).await;
    assert_eq!(chosen(&steered), GPUS[taken]);
    assert_eq!(listed(&node, &steered).await, 1 - taken);
    node.holds("steered", taken, 4).await;
    node.sample().await;
    node.account_is("steered", &[(index(taken), (4, 4))]).await;

    let third = node.world.run(pod("third").gpus(1).vram("4Gi")).await;
    assert_eq!(charged(&third).len(), 2, "a tie, by the plugin's book");
    let more_taken = listed(&node, &third).await;
    node.account_is("third", &[(index(more_taken), (4, 0))]).await;
    let fourth = node.world.run(pod("fourth").gpus(1).vram("4Gi")).await;
    assert_eq!(charged(&fourth), [GPUS[1 - more_taken]]);
    node.account_is("fourth", &[(index(1 - more_taken), (4, 0))]).await;
    node.predictions_are(4.0, 0.0).await;

    // Of three pods on one GPU and one on the other there is room for this one beside the one
    // alone, and the plugin might take either.
    let large = || pod("large").gpus(1).vram("12Gi");
    assert_eq!(node.refusal(large()).await.as_deref(), Some("not enough free VRAM"));
    assert_eq!(node.verdict(large().steered()).await.chosen, [GPUS[1 - taken]]);
}
