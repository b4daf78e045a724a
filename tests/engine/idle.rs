//! Marks on nodes that nobody uses: when they are due, and when they must go.

use std::time::Duration;

use filmgate::engine::IdleMark;

use crate::support::{Gate, Node, node, pod};

const AFTER: Duration = Duration::from_secs(600);

fn due(gate: &Gate) -> Vec<IdleMark> {
    gate.ledger.idle_marks_due(AFTER, gate.now)
}

/// Idle for so long, and read all the time.
fn idle_for(node: &Node, seconds: u64) -> Gate {
    let mut gate = Gate::with(std::slice::from_ref(node));
    pass(&mut gate, node, seconds);
    gate
}

fn pass(gate: &mut Gate, node: &Node, seconds: u64) {
    gate.wait(seconds);
    gate.read(node);
}

/// As the API server has it afterwards.
fn marked(mut node: Node) -> Node {
    node.facts.is_marked_idle = true;
    node
}

fn mark(seconds: Option<u64>) -> IdleMark {
    let idle_for = seconds.map(Duration::from_secs);
    IdleMark { node: "n0".into(), uid: "n0-uid".into(), idle_for }
}

#[test]
fn a_node_is_marked_once_it_has_been_idle_for_long_enough() {
    let n0 = node("n0").gpus(1).replicas(4);
    let mut gate = idle_for(&n0, 599);
    assert_eq!(due(&gate), []);
    pass(&mut gate, &n0, 1);
    assert_eq!(due(&gate), [mark(Some(600))]);
    assert!(gate.ledger.note_idle_mark(&mark(Some(600)), gate.now));
    assert_eq!(due(&gate), [], "it is on its way");
}

#[test]
fn a_node_without_gpus_is_not() {
    assert_eq!(due(&idle_for(&node("n0"), 3600)), []);
}

#[test]
fn the_mark_goes_with_the_first_promise() {
    let n0 = marked(node("n0").gpus(1).replicas(4));
    let mut gate = idle_for(&n0, 3600);
    assert_eq!(due(&gate), []);
    let coming = pod("coming").vram(8);
    gate.add(&coming);
    assert!(gate.hold(&coming, "n0"));
    assert_eq!(due(&gate), [mark(None)]);
    assert_eq!(gate.ledger.idle_mark_on("n0"), Some(mark(None)));
    assert!(gate.ledger.note_idle_mark(&mark(None), gate.now));
    assert_eq!((due(&gate), gate.ledger.idle_mark_on("n0")), (Vec::new(), None));
}

#[test]
fn it_goes_for_processes_of_no_pod_too() {
    let n0 = marked(node("n0").gpus(1));
    let mut gate = idle_for(&n0, 3600);
    gate.read(&n0.foreign(0, 4));
    assert_eq!(due(&gate), [mark(None)]);
}

#[test]
fn it_stays_while_nobody_knows() {
    let n0 = marked(node("n0").gpus(1));
    let mut gate = idle_for(&n0, 3600);
    gate.wait(60);
    assert_eq!(due(&gate), [], "not read for a minute");
    gate.admit(&pod("blind").vram(8), "n0").expect("by the declared policy");
    assert_eq!(due(&gate), [mark(None)], "and yet a pod is on its way");
}

#[test]
fn a_pod_that_came_meanwhile_keeps_the_mark_away() {
    let n0 = node("n0").gpus(1);
    let mut gate = idle_for(&n0, 600);
    let decided = due(&gate);
    gate.admit(&pod("coming").vram(8), "n0").expect("it fits");
    assert!(!gate.ledger.note_idle_mark(&decided[0], gate.now));
    assert_eq!(gate.ledger.idle_mark_on("n0"), None);
}

#[test]
fn another_node_of_the_name_is_not_marked() {
    let n0 = node("n0").gpus(1);
    let mut gate = idle_for(&n0, 600);
    let decided = due(&gate);
    gate.ledger.apply_node(n0.uid("another").facts, gate.now);
    assert!(!gate.ledger.note_idle_mark(&decided[0], gate.now));
}

#[test]
fn marks_to_be_taken_off_come_first() {
    let (n0, n1) = (node("n0").gpus(1), marked(node("n1").gpus(1)));
    let mut gate = Gate::with(&[n0.clone(), n1.clone()]);
    gate.wait(600);
    gate.read(&n0);
    gate.read(&n1.foreign(0, 4));
    let due = due(&gate);
    let nodes: Vec<_> = due.iter().map(|mark| mark.node.as_str()).collect();
    assert_eq!(nodes, ["n1", "n0"]);
}
