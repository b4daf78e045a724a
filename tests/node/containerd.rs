//! containerd and runc, with one image and no network of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::machine::{Machine, program};
use super::support::eventually::eventually;
use super::support::process::Process;

/// The image of every container: a static busybox.
pub const IMAGE: &str = "filmgate.test/busybox:1";

const DEADLINE: Duration = Duration::from_secs(60);

/// A running containerd.
pub struct Containerd {
    process: Process,
    socket: PathBuf,
}

impl Containerd {
    /// Starts it on the machine, and returns when it has the image.
    pub async fn start(machine: &Machine) -> Self {
        let folder = machine.folder();
        fs::create_dir(folder.join("cni")).unwrap();
        // Without a network the node is not ready; the pods use the machine's.
        let network =
            r#"{"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "loopback"}]}"#;
        fs::write(folder.join("cni/none.conflist"), network).unwrap();
        let file = folder.join("containerd.toml");
        fs::write(&file, configuration(folder)).unwrap();
        let arguments = ["--config".to_owned(), file.display().to_string()];
        let process = machine.spawn("containerd", "containerd", &arguments);
        let mut containerd = Self { process, socket: socket(folder) };
        let image = folder.join("image.tar");
        let packed = Command::new(program("image.sh")).arg(IMAGE).arg(&image).output().unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        containerd.import(&image).await;
        containerd
    }

    /// Takes what is in that archive for its containers.
    pub async fn import(&mut self, image: &Path) {
        eventually(DEADLINE, "the image imported", async || {
            self.process.assert_running();
            let mut import = Command::new("ctr");
            import.arg("--address").arg(&self.socket).args(["--namespace", "k8s.io"]);
            let output = import.args(["images", "import"]).arg(image).output()?;
            anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            anyhow::Ok(())
        })
        .await;
    }
}

/// Where it listens.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("containerd.sock")
}

fn configuration(folder: &Path) -> String {
    let (socket, folder) = (socket(folder), folder.display());
    let socket = socket.display();
    format!(
        r#"
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
disabled_plugins = [
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
]
[grpc]
    address = "{socket}"
[ttrpc]
    address = "{socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "{IMAGE}"
    disable_apparmor = true
    restrict_oom_score_adj = true
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
    [plugins."io.containerd.grpc.v1.cri".cni]
        bin_dir = "{folder}/cni"
        conf_dir = "{folder}/cni"
"#
    )
}
