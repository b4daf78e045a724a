//! A machine within this one: PID and mount namespaces and cgroups of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::cgroups::Cgroups;
use super::support::eventually::eventually;
use super::support::process::Process;

const DEADLINE: Duration = Duration::from_secs(20);

/// Everything that runs on it ends with the value.
pub struct Machine {
    // Dropped in this order: the processes before the cgroups they are in.
    first: Process,
    /// Its cgroups.
    pub cgroups: Cgroups,
    folder: PathBuf,
}

impl Machine {
    /// A machine that keeps its files in that folder.
    pub async fn start(folder: &Path) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        let cgroups = Cgroups::create();
        command.arg(program("machine.sh")).arg(folder).args(cgroups.first());
        let first = Process::spawn("machine", command, folder);
        let mut machine = Self { first, cgroups, folder: folder.to_owned() };
        eventually(DEADLINE, "a machine", async || {
            machine.first.assert_running();
            machine.first.log().contains("ready").then_some(())
        })
        .await;
        machine
    }

    /// Its files, seen from outside.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `/var/lib/kubelet`, seen from outside.
    pub fn kubelet_folder(&self) -> PathBuf {
        self.folder.join("var-lib/kubelet")
    }

    /// Runs a program on it.
    pub fn spawn(&self, name: &str, program: impl AsRef<Path>, arguments: &[String]) -> Process {
        let namespaces = PathBuf::from(format!("/proc/{}/ns", self.first.pid()));
        let namespace =
            |flag: &str, name: &str| format!("--{flag}={}", namespaces.join(name).display());
        let mut command = Command::new("nsenter");
        command.args([namespace("mount", "mnt"), namespace("pid", "pid_for_children")]);
        command.arg("--").arg(program.as_ref()).args(arguments);
        Process::spawn(name, command, &self.folder)
    }
}

/// A file beside this one.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node").join(name)
}
