use super::super::support::objects::pod;
use super::*;

/// A node with one GPU that has room for 20 GiB, and one with two for 10 GiB each.
fn ground() -> Ground {
    let gpu = |node: &str, uuid: &str, gib| Gpu {
        node: node.to_owned(),
        uuid: GpuUuid::from(uuid),
        room: Bytes::gib(gib),
        is_clean: true,
    };
    Ground {
        gpus: vec![gpu("n0", "a", 20), gpu("n1", "b", 10), gpu("n1", "c", 10)],
        devices: [("n0".to_owned(), 4), ("n1".to_owned(), 8)].into(),
    }
}

fn waiting(name: &str, gib: u64) -> Seen {
    let mut built = pod(name).gpus(1).vram(&format!("{gib}Gi")).steered().build();
    built.metadata.uid = Some(format!("uid-{name}"));
    Seen::of(&built).unwrap()
}

fn bound(name: &str, gib: u64, node: &str, gpu: &str) -> Seen {
    let sent_to = vec![GpuUuid::from(gpu)];
    Seen { node: Some(node.to_owned()), sent_to, ..waiting(name, gib) }
}

fn alone(seen: Seen) -> Seen {
    Seen { vram: None, ..seen }
}

fn remains(gpu: &str, gib: u64) -> Remains {
    Remains { gpu: GpuUuid::from(gpu), bytes: Bytes::gib(gib) }
}

fn by(pods: &[Seen], remains: &[Remains]) -> Bytes {
    let overdrawn = ground().overdrawn(pods.iter(), remains);
    overdrawn.into_iter().map(|one| one.by).max().unwrap_or_default()
}

fn left_out(pods: &[Seen], remains: &[Remains]) -> Vec<String> {
    ground().left_out(pods.iter(), remains)
}

#[test]
fn a_gpu_that_is_full_is_not_overdrawn() {
    let full = [bound("p", 12, "n0", "a"), bound("q", 8, "n0", "a"), bound("r", 10, "n1", "b")];
    assert_eq!(by(&full, &[]), Bytes::ZERO);
}

#[test]
fn one_pod_too_many_overdraws_a_gpu() {
    let pods = [bound("p", 12, "n0", "a"), bound("q", 9, "n0", "a")];
    assert_eq!(by(&pods, &[]), Bytes::gib(1));
}

#[test]
fn what_the_gone_still_hold_counts() {
    let pods = [bound("p", 15, "n0", "a")];
    assert_eq!(by(&pods, &[remains("a", 5)]), Bytes::ZERO);
    assert_eq!(by(&pods, &[remains("a", 7)]), Bytes::gib(2));
    assert_eq!(by(&[], &[remains("b", 99)]), Bytes::ZERO, "nobody was let in");
}

#[test]
fn one_that_has_a_gpu_alone_is_owed_all_of_it() {
    let pods = [alone(bound("p", 1, "n0", "a")), bound("q", 2, "n0", "a")];
    assert_eq!(by(&pods[..1], &[]), Bytes::ZERO);
    assert_eq!(by(&pods, &[]), Bytes::gib(2));
}

#[test]
fn one_that_was_told_no_gpu_may_be_on_any_of_its_node() {
    let mut pods = vec![bound("p", 8, "n1", "b"), bound("q", 5, "n1", "c")];
    pods[1].sent_to.clear();
    assert_eq!(by(&pods, &[]), Bytes::gib(3));
}

#[test]
fn who_has_ended_or_waits_is_owed_nothing() {
    let over = Seen { is_over: true, ..bound("p", 18, "n0", "a") };
    assert_eq!(by(&[over, bound("q", 18, "n0", "a"), waiting("r", 18)], &[]), Bytes::ZERO);
}

#[test]
fn who_would_fit_is_left_out() {
    let pods = [bound("p", 12, "n0", "a"), waiting("fits", 10), waiting("too-big", 11)];
    assert_eq!(left_out(&pods, &[]), ["fits"]);
    let pods = [waiting("p", 20), bound("q", 1, "n0", "a")];
    assert_eq!(left_out(&pods, &[]), [""; 0]);
}

#[test]
fn two_for_one_place_are_one_left_out() {
    let pods = [bound("p", 10, "n1", "b"), waiting("q", 15), waiting("r", 15)];
    assert_eq!(left_out(&pods, &[]), ["q"]);
}

#[test]
fn memory_of_the_gone_and_devices_in_use_are_no_place() {
    assert_eq!(left_out(&[waiting("p", 15)], &[remains("a", 6)]), [""; 0]);
    let full = (0..4).map(|at| bound(&format!("p{at}"), 1, "n0", "a"));
    let pods: Vec<_> = full.chain([waiting("q", 12)]).collect();
    assert_eq!(left_out(&pods, &[]), [""; 0]);
}

#[test]
fn an_empty_gpu_is_for_one_that_wants_it_alone() {
    let pods = [bound("p", 1, "n0", "a"), bound("q", 1, "n1", "b"), alone(waiting("r", 1))];
    assert_eq!(left_out(&pods, &[]), ["r"]);
    assert_eq!(left_out(&pods, &[remains("c", 1)]), [""; 0]);
}

#[test]
fn one_that_is_not_steered_has_no_choice_among_gpus() {
    let pods = [bound("p", 15, "n0", "a"), Seen { is_steered: false, ..waiting("q", 6) }];
    assert_eq!(left_out(&pods, &[]), [""; 0]);
}

#[test]
fn two_gpus_are_two_of_one_node() {
    let pods = [bound("p", 4, "n1", "b"), Seen { gpus: 2, ..waiting("q", 6) }];
    assert_eq!(left_out(&pods, &[]), ["q"]);
    let pods = [bound("p", 5, "n1", "b"), Seen { gpus: 2, ..waiting("q", 6) }];
    assert_eq!(left_out(&pods, &[]), [""; 0]);
}
