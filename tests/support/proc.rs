//! `/proc` of a machine whose processes are real and whose pods are not: the kernel's own files,
//! but for the cgroups.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A process of this machine, and the pod and container that it is to be in.
pub struct InPod {
    pub pid: u32,
    pub pod: String,
    pub container: String,
}

/// Makes the folder, with these processes in it.
pub fn write(proc: &Path, processes: &[InPod]) {
    fs::create_dir(proc).expect("a folder");
    let link = |name: &str| {
        symlink(Path::new("/proc").join(name), proc.join(name)).expect("a link");
    };
    ["uptime", "self", "1"].into_iter().for_each(link);
    for InPod { pid, pod, container } in processes {
        fs::create_dir(proc.join(pid.to_string())).expect("a folder");
        link(&format!("{pid}/stat"));
        link(&format!("{pid}/oom_score_adj"));
        let cgroup = format!("0::/kubepods/burstable/pod{pod}/{container}\n");
        fs::write(proc.join(format!("{pid}/cgroup")), cgroup).expect("a file");
    }
}
