//! Which processes can be seen from here.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{cgroup, read};

/// The initial namespaces, by the numbers that the kernel gives them.
const MACHINE_PIDS: &str = "pid:[4026531836]";
const MACHINE_CGROUPS: &str = "cgroup:[4026531835]";

/// Drivers from here on give each caller the process numbers of its own PID namespace, and leave
/// out processes that have none there.
const TRANSLATES: [u32; 3] = [535, 113, 1];

/// What this process sees of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// The machine's processes.
    Machine,
    /// Those of a node that is itself a container (kind, minikube, k3d): all that its kubelet
    /// knows, by numbers of their own.
    Node,
    /// Those of its own container or pod.
    Pod,
    /// Only some.
    Hidden {
        /// Why, for people.
        why: Arc<str>,
    },
}

impl Sight {
    /// Finds out by the agent's own entries in `/proc` and the first process'. A node that is a
    /// container has a PID namespace of its own as a pod without `hostPID` has; but there the first
    /// process is the node's init system, which is in no pod, and here it is the agent itself, or
    /// the pause container of its pod.
    pub(super) fn from(root: &Path) -> Self {
        let (Some(own), Some(first)) = (text(root, "self/cgroup"), text(root, "1/cgroup")) else {
            return Self::Hidden { why: hidden(root) };
        };
        if is_link(root, "self/ns/pid", MACHINE_PIDS) {
            return Self::Machine;
        }
        let is_in_root = cgroup::paths(&own).all(|path| path == "/");
        let is_contained = !is_in_root || !is_link(root, "self/ns/cgroup", MACHINE_CGROUPS);
        if is_contained && are_siblings(&own, &first) { Self::Pod } else { Self::Node }
    }

    /// Why this driver cannot be asked from here whose memory it is.
    pub(super) fn blindness(&self, driver: &str) -> Option<Arc<str>> {
        match self {
            Self::Machine => None,
            Self::Node if translates(driver) => None,
            Self::Node => Some(
                format!(
                    "NVIDIA driver {driver} gives the machine's process numbers to this node, which is a container and has others: update it to 535.113.01 or newer"
                )
                .into(),
            ),
            Self::Pod => Some(
                "the agent has a PID namespace of its own, in which the driver lists no other pod's processes: set hostPID: true in its pod's spec (docker run --pid=host)"
                    .into(),
            ),
            Self::Hidden { why } => Some(Arc::clone(why)),
        }
    }
}

fn text(root: &Path, file: &str) -> Option<String> {
    read(&root.join(file)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn hidden(root: &Path) -> Arc<str> {
    let root = root.display();
    format!(
        "{root}/1 and {root}/self cannot both be read: mount /proc, without the option hidepid or with CAP_SYS_PTRACE for the agent"
    )
    .into()
}

fn is_link(root: &Path, file: &str, target: &str) -> bool {
    fs::read_link(root.join(file)).is_ok_and(|found| found.as_os_str() == target)
}

/// Whether the two are in one container, or in containers of one pod, in every hierarchy.
fn are_siblings(one: &str, other: &str) -> bool {
    let mut pairs = cgroup::paths(one).zip(cgroup::paths(other));
    pairs.all(|(one, other)| one == other || parent(one) == parent(other))
}

/// The folder of a cgroup; of the root of a cgroup namespace, the one that lies out of sight.
fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", "")) | None => "/..",
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
    }
}

fn translates(driver: &str) -> bool {
    let version: Vec<u32> = driver.split('.').map_while(|part| part.parse().ok()).collect();
    version.is_empty() || *version >= TRANSLATES[..]
}
