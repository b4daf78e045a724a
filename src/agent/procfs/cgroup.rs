//! Whose a process is, by the text of its `/proc/PID/cgroup`.
//!
//! The kubelet names a pod's cgroup after its UID and the runtime names the container's after its
//! id; what lies around the two differs with cgroup version, drivers, runtime and nesting. So each
//! part of a path is looked at by itself. On cgroup v2 a container has a cgroup namespace of its
//! own, from which other pods' paths are relative (`/../../pod…`) and may lack the word "kubepods".

use std::sync::Arc;

use crate::agent::owner::Owner;
use crate::engine::PodUid;

/// What the kernel adds to the path of a cgroup that was removed under a process that is ending.
const REMOVED: &str = " (deleted)";
const CONTAINER_ID_CHARS: usize = 64;
/// A static pod's UID is the MD5 of its manifest.
const STATIC_UID_CHARS: usize = 32;
const UID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// A pod, or the host: whose process has this `/proc/PID/cgroup`.
#[must_use]
pub fn owner(text: &str) -> Owner {
    paths(text).find_map(pod).unwrap_or(Owner::Host)
}

/// The process' path in each hierarchy; cgroup v2 has one.
pub(super) fn paths(text: &str) -> impl Iterator<Item = &str> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.map(|path| path.strip_suffix(REMOVED).unwrap_or(path))
}

/// Where a node runs inside another cluster's pod, the outer pod is the one found: from outside it
/// is the only one that the kubelet knows, and from inside its part of the path is out of sight.
fn pod(path: &str) -> Option<Owner> {
    // A runtime without the systemd driver that the kubelet has takes systemd's
    // `slice:prefix:name` for one folder's name.
    let mut parts = path.split(['/', ':']);
    let uid = parts.find_map(pod_uid)?;
    Some(Owner::Pod { uid, container: parts.find_map(container_id) })
}

/// `pod<uid>`, or a systemd slice whose name ends with it and has `_` for the UID's `-`.
fn pod_uid(part: &str) -> Option<PodUid> {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let (before, uid) = name.rsplit_once("pod")?;
    let is_whole_word = before.is_empty() || before.ends_with('-');
    (is_whole_word && is_uid(uid)).then(|| PodUid::from(uid.replace('_', "-")))
}

fn is_uid(text: &str) -> bool {
    let groups = text.split(['-', '_']).map(|group| is_hex(group).then_some(group.len()));
    groups.eq(UID_GROUPS.map(Some)) || (text.len() == STATIC_UID_CHARS && is_hex(text))
}

/// `<id>`, `<runtime>-<id>` or `<runtime>-<id>.scope`.
fn container_id(part: &str) -> Option<Arc<str>> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    (id.len() == CONTAINER_ID_CHARS && is_hex(id)).then(|| Arc::from(id))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f2ab7c9-6f5c-4d11-9d3a-2f7c1e5b8a90";
    const SLICE_UID: &str = "0f2ab7c9_6f5c_4d11_9d3a_2f7c1e5b8a90";
    const STATIC: &str = "d4c6f2f0a1b34e8e9f2b7a6c5d4e3f21";
    const ID: &str = "3f1c2b4a5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708";
    const NODE: &str = "99aa88bb77cc66dd55ee44ff33002211aabbccddeeff00112233445566778899";

    fn of(path: &str) -> Owner {
        owner(&format!("0::{path}\n"))
    }

    fn in_container(uid: &str, id: &str) -> Owner {
        Owner::Pod { uid: PodUid::from(uid), container: Some(id.into()) }
    }

    #[test]
    fn reads_every_layout() {
        let layouts = [
            // systemd driver: containerd, CRI-O, docker; guaranteed pods have no class of their own.
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{SLICE_UID}.slice/crio-{ID}.scope"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICE_UID}.slice/docker-{ID}.scope"
            ),
            // CRI-O on cgroup v2 has a cgroup below, and its monitor beside.
            format!("/kubepods.slice/kubepods-pod{SLICE_UID}.slice/crio-{ID}.scope/container"),
            format!("/kubepods.slice/kubepods-pod{SLICE_UID}.slice/crio-conmon-{ID}.scope"),
            // cgroupfs driver, also under a root of the kubelet's own.
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/kubepods/pod{UID}/{ID}"),
            format!("/kubepods/besteffort/pod{UID}/crio-{ID}"),
            format!("/filmgate/kubepods/besteffort/pod{UID}/{ID}"),
            // The kubelet has the systemd driver and the runtime has not.
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{SLICE_UID}.slice:cri-containerd:{ID}"
            ),
            format!("/kubepods-pod{SLICE_UID}.slice:crio:{ID}"),
            // kind and minikube: the node is itself a container of docker or podman.
            format!(
                "/docker/{NODE}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope"
            ),
            format!(
                "/system.slice/docker-{NODE}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/docker/{NODE}/kubelet/kubepods/burstable/pod{UID}/{ID}"),
            format!("/docker/{NODE}/kubepods/besteffort/pod{UID}/{ID}"),
            format!(
                "/machine.slice/libpod-{NODE}.scope/container/kubelet.slice/kubelet-kubepods-pod{SLICE_UID}.slice/crio-{ID}.scope"
            ),
            // k3s
            format!("/k3s/kubepods/besteffort/pod{UID}/{ID}"),
            format!(
                "/system.slice/k3s.service/kubepods.slice/kubepods-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope"
            ),
            // Seen from the cgroup namespace of the agent's container.
            format!("/../../kubepods-besteffort-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope"),
            format!(
                "/../../../kubepods-burstable.slice/kubepods-burstable-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/../../pod{UID}/{ID}"),
            // A container that runs an init system, or containers, of its own.
            format!("/kubepods/burstable/pod{UID}/{ID}/init.scope"),
            format!("/kubepods/burstable/pod{UID}/{ID}/docker/{NODE}"),
            format!("/kubepods/burstable/pod{UID}/{ID} (deleted)"),
        ];
        for path in layouts {
            assert_eq!(of(&path), in_container(UID, ID), "{path}");
        }
    }

    #[test]
    fn a_static_pod_has_the_hash_of_its_manifest_for_a_uid() {
        for path in [
            format!("/kubepods/burstable/pod{STATIC}/{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/../../pod{STATIC}/{ID}"),
        ] {
            assert_eq!(of(&path), in_container(STATIC, ID), "{path}");
        }
    }

    #[test]
    fn a_pod_is_told_where_its_container_is_not() {
        let pod = Owner::Pod { uid: PodUid::from(UID), container: None };
        for path in [
            format!("/kubepods/burstable/pod{UID}"),
            format!("/kubepods.slice/kubepods-pod{SLICE_UID}.slice"),
            format!("/kubepods/pod{UID}/kata_overhead"),
            format!("/kubepods/pod{UID}/{}", &ID[1..]),
        ] {
            assert_eq!(of(&path), pod, "{path}");
        }
    }

    #[test]
    fn any_hierarchy_of_cgroup_v1_may_tell() {
        let text = format!(
            "12:pids:/\n9:name=systemd:/kubepods/burstable/pod{UID}/{ID}\n4:cpu,cpuacct:/kubepods/burstable/pod{UID}/{ID}\n0::/\n"
        );
        assert_eq!(owner(&text), in_container(UID, ID));
    }

    #[test]
    fn the_outer_of_two_nested_pods_counts() {
        let path = format!("/kubepods/pod{UID}/{ID}/docker/{NODE}/kubepods/pod{STATIC}/{NODE}");
        assert_eq!(of(&path), in_container(UID, ID));
    }

    #[test]
    fn everything_else_is_the_hosts() {
        for path in [
            "/",
            "/init.scope",
            "/user.slice/user-1000.slice/session-3.scope",
            "/system.slice/containerd.service",
            "/../../../init.scope",
            "/kubepods/burstable",
            "/kubepods.slice/kubepods-podrunner.slice",
            &format!("/docker/{ID}"),
            &format!("/machine.slice/libpod-{ID}.scope"),
            &format!("/user.slice/app{STATIC}"),
            &format!("/user.slice/tripod{STATIC}"),
            &format!("/kubepods/pod{}", &UID[1..]),
            &format!("/kubepods/pod{}", UID.replace("4d11", "4g11")),
            &format!("/kubepods/pod{UID}-more"),
        ] {
            assert_eq!(of(path), Owner::Host, "{path}");
        }
    }

    #[test]
    fn bears_with_any_text() {
        for text in
            ["", "\n\n", "0::", ":::::", "no colons", "0:\u{fffd}:/\u{fffd}pod\u{fffd}", "pod"]
        {
            assert_eq!(owner(text), Owner::Host, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".*(pod|::/|-|\n)?.*") {
            drop(owner(&text));
        }
    }
}
