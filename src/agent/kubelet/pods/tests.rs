use prost::Message as _;

use super::super::wire::pods::{ObjectMeta, PodStatus};
use super::*;

const A: &str = "aaaaaaaa-0000-0000-0000-000000000000";
const B: &str = "bbbbbbbb-0000-0000-0000-000000000000";
const STATIC: &str = "d4c6f2f0a1b34e8e9f2b7a6c5d4e3f21";

fn pod(name: &str, uid: &str) -> KnownPod {
    KnownPod {
        uid: uid.into(),
        namespace: "default".into(),
        name: name.into(),
        containers: Vec::new(),
    }
}

/// The UID that an entry of PodResources about pod `p` gets, and whether to ask again.
fn identified(before: &[KnownPod], after: &[KnownPod]) -> (Option<&'static str>, bool) {
    let mut entries = [DeviceAssignment {
        namespace: "default".into(),
        pod: "p".into(),
        uid: None,
        container: "c".into(),
        resource: "nvidia.com/gpu".into(),
        gpu: "GPU-0".into(),
    }];
    let is_open = identify(&mut entries, before, after);
    let known = |uid: &PodUid| [A, B, STATIC].into_iter().find(|one| *one == uid.as_str());
    (entries[0].uid.as_ref().and_then(known), is_open)
}

#[test]
fn a_pod_is_certain_where_its_name_means_the_same_before_and_after() {
    let one = [pod("p", A), pod("other", B)];
    assert_eq!(identified(&one, &one), (Some(A), false));
}

#[test]
fn a_pod_made_again_under_its_name_is_not_taken_for_the_one_before() {
    assert_eq!(identified(&[pod("p", A)], &[pod("p", B)]), (None, true));
    assert_eq!(identified(&[pod("p", A), pod("p", B)], &[pod("p", B)]), (None, true));
    assert_eq!(identified(&[], &[pod("p", B)]), (None, true), "it may have replaced another");
}

#[test]
fn a_name_that_two_pods_have_or_none_is_left_open() {
    let both = [pod("p", A), pod("p", B)];
    assert_eq!(identified(&both, &both), (None, false));
    assert_eq!(identified(&[pod("p", A)], &both), (None, false));
    assert_eq!(identified(&[pod("p", A)], &[]), (None, false));
    assert_eq!(identified(&[], &[]), (None, false));
}

#[test]
fn a_namesake_in_another_namespace_is_another_pod() {
    let mut elsewhere = pod("p", A);
    elsewhere.namespace = "elsewhere".into();
    let pods = [elsewhere, pod("p", B)];
    assert_eq!(identified(&pods, &pods), (Some(B), false));
}

#[test]
fn a_static_pod_has_no_uid_that_anyone_else_knows() {
    let pods = [pod("p", STATIC)];
    assert_eq!(identified(&pods, &pods), (None, false));
}

fn status(name: &str, id: &str) -> ContainerStatus {
    ContainerStatus { name: name.to_owned(), container_id: id.to_owned() }
}

#[test]
fn knows_pods_by_uid_and_containers_by_id() {
    let full = Pod {
        metadata: Some(ObjectMeta {
            name: "p".to_owned(),
            namespace: "default".to_owned(),
            uid: A.to_owned(),
        }),
        status: Some(PodStatus {
            container_statuses: vec![status("main", "containerd://0a"), status("waiting", "")],
            init_container_statuses: vec![status("early", "cri-o://0b")],
            ephemeral_container_statuses: vec![status("debug", "docker://0c")],
        }),
    };
    let pods = vec![full.encode_to_vec().into(), Pod::default().encode_to_vec().into()];
    let known = known(&ListPodsResponse { pods }).unwrap();
    let containers = [("0b", "early"), ("0a", "main"), ("0c", "debug")];
    let containers = containers.map(|(id, name)| (Arc::from(id), Arc::from(name)));
    assert_eq!(known[0], KnownPod { containers: containers.to_vec(), ..pod("p", A) });
    assert_eq!(known[1].uid.as_str(), "");
}

#[test]
fn a_pod_that_is_none_makes_no_list() {
    let pods = vec![b"\x0a\xff".as_slice().into()];
    assert!(known(&ListPodsResponse { pods }).is_err());
}
