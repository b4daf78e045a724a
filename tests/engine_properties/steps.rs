//! What can happen, in any order.

use proptest::prelude::*;

use crate::cluster::Config;

/// One thing that happens. Numbers that pick something are taken modulo what there is.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Pass {
        seconds: u64,
    },
    Tick,
    Create {
        gib: u64,
        gpus: u32,
        is_steered: bool,
        priority: i32,
    },
    /// The watches deliver so many events.
    WatchPods {
        events: usize,
    },
    WatchNodes,
    RelistPods,
    /// kube-scheduler asks; the best node is held, or the pod waits.
    Filter {
        pod: usize,
    },
    Wake,
    /// Devices are short: kube-scheduler would clear each node of so many, and deletes whoever is
    /// answered.
    Preempt {
        pod: usize,
        gib: u64,
        victims: usize,
    },
    Bind {
        pod: usize,
        node: usize,
    },
    /// From the filter to the reply without a hitch.
    Schedule {
        pod: usize,
        node: usize,
    },
    /// The Binding arrives at the API server.
    Commit {
        binding: usize,
    },
    /// Its reply arrives here.
    Reply {
        binding: usize,
    },
    TimeOut {
        binding: usize,
    },
    /// The connection broke before the API server saw it.
    Lose {
        binding: usize,
    },
    Fence,
    Place {
        node: usize,
        pick: usize,
    },
    Grow {
        pod: usize,
        gib: u64,
        is_new: bool,
    },
    End {
        pod: usize,
    },
    Delete {
        pod: usize,
    },
    ForceDelete {
        pod: usize,
    },
    Kill {
        pod: usize,
    },
    /// Ended processes' memory is given back.
    Settle {
        node: usize,
    },
    TakeBack {
        node: usize,
    },
    Sample {
        node: usize,
    },
    SampleNow {
        node: usize,
    },
    Deliver {
        message: usize,
        again: bool,
    },
    LoseMessage {
        message: usize,
    },
    Heartbeat {
        node: usize,
    },
    RestartAgent {
        node: usize,
    },
    RestartExtender,
    Reregister {
        node: usize,
        is_seen: bool,
    },
    // Only where not everybody is honest:
    Foreign {
        node: usize,
        gpu: usize,
        gib: u64,
    },
    OthersBind {
        pod: usize,
        node: usize,
    },
    Edit {
        pod: usize,
        gib: u64,
    },
    ReplaceMachine {
        node: usize,
        is_seen: bool,
    },
    Degrade {
        node: usize,
        is_degraded: bool,
    },
    Impossible {
        node: usize,
    },
}

pub(crate) fn config() -> impl Strategy<Value = Config> {
    let shape = (1..=2_usize, 1..=3_usize, prop_oneof![1 => Just(1_u32), 2 => Just(4)]);
    (shape, any::<[bool; 5]>()).prop_map(|((nodes, gpus, replicas), flags)| {
        let [is_packed, is_honest, book_tells_uid, rejects_stale, holds] = flags;
        Config { nodes, gpus, replicas, is_packed, is_honest, book_tells_uid, rejects_stale, holds }
    })
}

pub(crate) fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..count)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![30 => scheduling(), 24 => running(), 36 => telling(), 6 => upsetting(), 4 => dishonest()]
}

fn gib() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0_u64), 8 => 1..=9_u64, 4 => 10..=24_u64]
}

fn scheduling() -> impl Strategy<Value = Step> {
    let (pod, node, binding) = (0..8_usize, 0..2_usize, 0..4_usize);
    prop_oneof![
        4 => (gib(), 1..=2_u32, prop::bool::weighted(0.5), 0..3)
            .prop_map(|(gib, gpus, is_steered, priority)| Step::Create { gib, gpus, is_steered, priority }),
        5 => pod.clone().prop_map(|pod| Step::Filter { pod }),
        5 => (pod.clone(), node.clone()).prop_map(|(pod, node)| Step::Bind { pod, node }),
        8 => (pod.clone(), node).prop_map(|(pod, node)| Step::Schedule { pod, node }),
        5 => (pod, gib(), 1..=4_usize)
            .prop_map(|(pod, gib, victims)| Step::Preempt { pod, gib, victims }),
        6 => binding.clone().prop_map(|binding| Step::Commit { binding }),
        5 => binding.clone().prop_map(|binding| Step::Reply { binding }),
        1 => binding.clone().prop_map(|binding| Step::TimeOut { binding }),
        1 => binding.prop_map(|binding| Step::Lose { binding }),
        1 => Just(Step::Fence),
        1 => Just(Step::Wake),
    ]
}

fn running() -> impl Strategy<Value = Step> {
    let (pod, node) = (0..8_usize, 0..2_usize);
    prop_oneof![
        6 => (node.clone(), 0..6_usize).prop_map(|(node, pick)| Step::Place { node, pick }),
        8 => (pod.clone(), gib(), any::<bool>())
            .prop_map(|(pod, gib, is_new)| Step::Grow { pod, gib, is_new }),
        3 => pod.clone().prop_map(|pod| Step::End { pod }),
        4 => pod.clone().prop_map(|pod| Step::Delete { pod }),
        1 => pod.clone().prop_map(|pod| Step::ForceDelete { pod }),
        1 => pod.prop_map(|pod| Step::Kill { pod }),
        2 => node.clone().prop_map(|node| Step::Settle { node }),
        2 => node.prop_map(|node| Step::TakeBack { node }),
    ]
}

fn telling() -> impl Strategy<Value = Step> {
    let (node, message) = (0..2_usize, 0..6_usize);
    prop_oneof![
        4 => prop_oneof![1..=3_u64, 8..=40_u64].prop_map(|seconds| Step::Pass { seconds }),
        2 => Just(Step::Tick),
        8 => (1..=4_usize).prop_map(|events| Step::WatchPods { events }),
        2 => Just(Step::WatchNodes),
        4 => node.clone().prop_map(|node| Step::Sample { node }),
        5 => node.clone().prop_map(|node| Step::SampleNow { node }),
        12 => (message.clone(), prop::bool::weighted(0.2))
            .prop_map(|(message, again)| Step::Deliver { message, again }),
        1 => message.prop_map(|message| Step::LoseMessage { message }),
        2 => node.prop_map(|node| Step::Heartbeat { node }),
    ]
}

fn upsetting() -> impl Strategy<Value = Step> {
    let node = 0..2_usize;
    prop_oneof![
        Just(Step::RelistPods),
        Just(Step::RestartExtender),
        node.clone().prop_map(|node| Step::RestartAgent { node }),
        (node.clone(), any::<bool>())
            .prop_map(|(node, is_seen)| Step::Reregister { node, is_seen }),
        node.prop_map(|node| Step::Impossible { node }),
    ]
}

fn dishonest() -> impl Strategy<Value = Step> {
    let (pod, node) = (0..8_usize, 0..2_usize);
    prop_oneof![
        (node.clone(), 0..3_usize, gib()).prop_map(|(node, gpu, gib)| Step::Foreign {
            node,
            gpu,
            gib
        }),
        (pod.clone(), node.clone()).prop_map(|(pod, node)| Step::OthersBind { pod, node }),
        (pod, gib()).prop_map(|(pod, gib)| Step::Edit { pod, gib }),
        (node.clone(), any::<bool>())
            .prop_map(|(node, is_seen)| Step::ReplaceMachine { node, is_seen }),
        (node, any::<bool>()).prop_map(|(node, is_degraded)| Step::Degrade { node, is_degraded }),
    ]
}
