use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command};

use tempfile::TempDir;

use super::*;
use crate::engine::PodUid;

const UID: &str = "0f2ab7c9-6f5c-4d11-9d3a-2f7c1e5b8a90";
const OTHER_UID: &str = "11111111-2222-3333-4444-555555555555";
const ID: &str = "3f1c2b4a5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708";
const MACHINE_PIDS: &str = "pid:[4026531836]";
const MACHINE_CGROUPS: &str = "cgroup:[4026531835]";
const OTHER_PIDS: &str = "pid:[4026532789]";
const OTHER_CGROUPS: &str = "cgroup:[4026532790]";
const DRIVER: &str = "580.95.05";

/// A made-up `/proc`.
struct Tree(TempDir);

impl Tree {
    /// On the machine itself, so many hundredths of a second after its start.
    fn at(uptime: u64) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.process("1", 1, "0::/init.scope");
        tree.process("self", 500, "0::/kubepods/besteffort/podagent/agent");
        tree.namespaces(MACHINE_PIDS, MACHINE_CGROUPS);
        tree.uptime(uptime);
        tree
    }

    fn uptime(&self, hundredths: u64) {
        let text = format!("{}.{:02} 0.00\n", hundredths / 100, hundredths % 100);
        fs::write(self.0.path().join("uptime"), text).unwrap();
    }

    fn process(&self, pid: impl ToString, start: u64, cgroup: &str) {
        let folder = self.0.path().join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        let stat = format!("1 (comfy (ui)) S{} {start} 0 0\n", " 0".repeat(18));
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("cgroup"), format!("{cgroup}\n")).unwrap();
    }

    fn namespaces(&self, pid: &str, cgroup: &str) {
        let folder = self.0.path().join("self/ns");
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        symlink(pid, folder.join("pid")).unwrap();
        symlink(cgroup, folder.join("cgroup")).unwrap();
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(file), bytes).unwrap();
    }

    fn remove(&self, pid: u32) {
        fs::remove_dir_all(self.0.path().join(pid.to_string())).unwrap();
    }

    fn procfs(&self) -> Procfs {
        Procfs::new(self.0.path())
    }
}

fn in_pod(uid: &str) -> String {
    format!("0::/kubepods/burstable/pod{uid}/{ID}")
}

fn pod(uid: &str) -> Owner {
    Owner::Pod { uid: PodUid::from(uid), container: Some(ID.into()) }
}

#[test]
fn tells_pods_from_the_host_and_from_what_has_ended() {
    let tree = Tree::at(1000);
    tree.process(40, 900, &in_pod(UID));
    tree.process(41, 900, "0::/system.slice/sshd.service");
    let procfs = tree.procfs();
    let mut lookup = procfs.begin();
    let owners = [40, 41, 42].map(|pid| lookup.owner(pid));
    assert_eq!(owners, [pod(UID), Owner::Host, Owner::Gone]);
}

#[test]
fn a_process_that_took_the_number_of_one_that_was_listed_is_not_taken_for_it() {
    let tree = Tree::at(1000);
    tree.process(40, 900, &in_pod(UID));
    let procfs = tree.procfs();
    let mut lookup = procfs.begin();
    tree.process(40, 1001, &in_pod(OTHER_UID));
    assert_eq!(lookup.owner(40), Owner::Gone);
    drop(lookup);

    tree.uptime(1100);
    assert_eq!(procfs.begin().owner(40), pod(OTHER_UID));
}

#[test]
fn a_process_of_the_very_tick_in_which_the_sampling_began_is_in_doubt() {
    let tree = Tree::at(1000);
    tree.process(40, 1000, &in_pod(UID));
    tree.process(41, 999, &in_pod(UID));
    let procfs = tree.procfs();
    let mut lookup = procfs.begin();
    assert_eq!([40, 41].map(|pid| lookup.owner(pid)), [Owner::Gone, pod(UID)]);
}

#[test]
fn a_process_that_is_watched_is_not_looked_up_again_until_it_ends() {
    let tree = Tree::at(1000);
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id();
    tree.process(pid, 900, &in_pod(UID));
    let life = format!("{pid}/oom_score_adj");
    symlink(Path::new("/proc").join(&life), tree.0.path().join(&life)).unwrap();
    let procfs = tree.procfs();
    assert_eq!(procfs.begin().owner(pid), pod(UID));
    tree.write(&format!("{pid}/stat"), b"no longer read");
    assert_eq!(procfs.begin().owner(pid), pod(UID));

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(procfs.begin().owner(pid), Owner::Gone);
    // Whoever has its number now is somebody else.
    tree.process(pid, 950, &in_pod(OTHER_UID));
    assert_eq!(procfs.begin().owner(pid), pod(OTHER_UID));
}

#[test]
fn the_cgroup_of_a_pods_process_is_read_once() {
    let tree = Tree::at(1000);
    tree.process(40, 900, &in_pod(UID));
    let procfs = tree.procfs();
    assert_eq!(procfs.begin().owner(40), pod(UID));
    tree.write("40/cgroup", b"no longer read");
    assert_eq!(procfs.begin().owner(40), pod(UID));

    // Another process with its number is another process.
    tree.process(40, 950, &in_pod(OTHER_UID));
    assert_eq!(procfs.begin().owner(40), pod(OTHER_UID));
}

#[test]
fn a_process_that_is_moved_into_a_pod_becomes_the_pods() {
    let tree = Tree::at(1000);
    tree.process(40, 900, "0::/system.slice/containerd.service");
    let procfs = tree.procfs();
    assert_eq!(procfs.begin().owner(40), Owner::Host);
    tree.process(40, 900, &in_pod(UID));
    assert_eq!(procfs.begin().owner(40), pod(UID));
}

#[test]
fn forgets_processes_that_are_no_longer_listed() {
    let tree = Tree::at(1000);
    tree.process(40, 900, &in_pod(UID));
    let procfs = tree.procfs();
    procfs.begin().owner(40);
    assert_eq!(procfs.in_pods.lock().len(), 1);
    drop(procfs.begin());
    assert_eq!(procfs.in_pods.lock().len(), 0);
}

#[test]
fn answers_the_same_throughout_a_sampling() {
    let tree = Tree::at(1000);
    tree.process(40, 900, &in_pod(UID));
    let procfs = tree.procfs();
    let mut lookup = procfs.begin();
    assert_eq!(lookup.owner(40), pod(UID));
    tree.remove(40);
    assert_eq!(lookup.owner(40), pod(UID));
}

#[test]
fn bears_with_files_that_are_missing_garbled_or_endless() {
    let tree = Tree::at(1000);
    let garbage = [0xff, b'\n', 0, b':'].repeat(1 << 20);
    for (pid, file) in [(40, "stat"), (41, "cgroup"), (42, "stat"), (43, "cgroup")] {
        tree.process(pid, 900, &in_pod(UID));
        let path = format!("{pid}/{file}");
        tree.write(&path, if pid < 42 { &garbage } else { &[] });
    }
    fs::remove_file(tree.0.path().join("43/cgroup")).unwrap();
    // A pod's path after a controller that is no text.
    let own = [b"7:\xff\xfe:/\xff\n".as_slice(), in_pod(UID).as_bytes()].concat();
    tree.process(44, 900, "");
    tree.write("44/cgroup", &own);
    let procfs = tree.procfs();
    let mut lookup = procfs.begin();
    let owners = [40, 41, 42, 43, 44].map(|pid| lookup.owner(pid));
    assert_eq!(owners, [Owner::Gone, Owner::Host, Owner::Gone, Owner::Gone, pod(UID)]);
}

#[test]
fn without_a_clock_nobody_is_named() {
    let tree = Tree::at(1000);
    tree.process(40, 900, &in_pod(UID));
    tree.write("uptime", b"soon");
    assert_eq!(tree.procfs().begin().owner(40), Owner::Gone);
}

#[test]
fn knows_whether_it_sees_the_nodes_processes() {
    let kind = "0::/docker/node/kubelet/kubepods/pod1/agent";
    let cases = [
        // (PID namespace, cgroup namespace, own cgroup, first process' cgroup, sees the node)
        // hostPID on the machine, whatever the cgroup namespace.
        (MACHINE_PIDS, MACHINE_CGROUPS, "0::/kubepods/pod1/agent", "0::/init.scope", true),
        (MACHINE_PIDS, OTHER_CGROUPS, "0::/", "0::/../../../init.scope", true),
        // hostPID in kind: cgroup v1, v2 with and without a cgroup namespace.
        (OTHER_PIDS, MACHINE_CGROUPS, kind, "0::/docker/node/init.scope", true),
        (OTHER_PIDS, OTHER_CGROUPS, "0::/", "0::/../../../../init.scope", true),
        (OTHER_PIDS, OTHER_CGROUPS, "0::/kubelet.slice/pod1.slice/agent", "0::/init.scope", true),
        // A shell on a kind node, and in WSL, which has a PID namespace and no container.
        (OTHER_PIDS, OTHER_CGROUPS, "0::/", "0::/init.scope", true),
        (OTHER_PIDS, MACHINE_CGROUPS, "0::/", "0::/", true),
        // No hostPID: the agent is the first process itself.
        (OTHER_PIDS, OTHER_CGROUPS, "0::/", "0::/", false),
        (
            OTHER_PIDS,
            MACHINE_CGROUPS,
            "4:cpu:/kubepods/pod1/agent",
            "4:cpu:/kubepods/pod1/agent",
            false,
        ),
        // shareProcessNamespace: it is the pause container.
        (OTHER_PIDS, OTHER_CGROUPS, "0::/", "0::/../cri-containerd-pause.scope", false),
        (
            OTHER_PIDS,
            MACHINE_CGROUPS,
            "4:cpu:/kubepods/pod1/agent",
            "4:cpu:/kubepods/pod1/pause",
            false,
        ),
        // An unused hierarchy says nothing.
        (
            OTHER_PIDS,
            MACHINE_CGROUPS,
            "4:cpu:/docker/n/pod1/a\n0::/",
            "4:cpu:/docker/n/init\n0::/",
            true,
        ),
    ];
    for case in cases {
        let (pids, cgroups, own, first, sees) = case;
        let tree = Tree::at(1000);
        tree.process("self", 500, own);
        tree.process("1", 1, first);
        tree.namespaces(pids, cgroups);
        let blindness = tree.procfs().blindness(DRIVER);
        assert_eq!(blindness.is_none(), sees, "{case:?}: {blindness:?}");
        assert!(blindness.is_none_or(|why| why.contains("hostPID: true")), "{case:?}");
    }
}

#[test]
fn an_old_driver_names_strangers_to_a_node_that_is_a_container() {
    let tree = Tree::at(1000);
    let drivers = ["470.256.02", "535.104.12", "535.113.01", "550.54.14", "580.95.05", "a build"];
    let blind = drivers.map(|driver| tree.procfs().blindness(driver).is_some());
    assert_eq!(blind, [false; 6], "the machine's numbers are the machine's");

    tree.namespaces(OTHER_PIDS, OTHER_CGROUPS);
    let blind = drivers.map(|driver| tree.procfs().blindness(driver).is_some());
    assert_eq!(blind, [true, true, false, false, false, false]);
}

#[test]
fn a_proc_that_shows_not_even_the_first_process_is_said_to_hide_others() {
    let tree = Tree::at(1000);
    tree.remove(1);
    let why = tree.procfs().blindness(DRIVER).unwrap();
    assert!(why.contains("hidepid"), "{why}");
    assert!(Procfs::new("/nonexistent").blindness(DRIVER).is_some());
}

/// On the real `/proc`.
mod here {
    use super::*;

    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            Self(Command::new("sleep").arg("60").spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn knows_this_very_process_and_not_one_that_starts_later() {
        let procfs = Procfs::default();
        let mut lookup = procfs.begin();
        let later = Sleeper::start();
        assert_ne!(lookup.owner(std::process::id()), Owner::Gone);
        assert_eq!(lookup.owner(later.0.id()), Owner::Gone);
    }

    #[test]
    fn a_process_that_has_ended_is_gone() {
        let procfs = Procfs::default();
        let mut ended = Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        assert_eq!(procfs.begin().owner(ended.id()), Owner::Gone);
    }
}
