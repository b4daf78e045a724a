//! A stand-in for NVML's library, loaded as the real one is. Each test has a copy of its own: a
//! process can load several, and none knows of the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

#[path = "../nvml-stand-in/src/scenario.rs"]
pub mod scenario;

use scenario::{Device, Fault, Gpu, Instance, Memory, Process, Scenario};

const MIB: u64 = 1 << 20;
/// `nvmlClocksThrottleReasonSwPowerCap`.
const SW_POWER_CAP: u64 = 4;

/// The library, built once per test run.
fn built() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(build);
    &LIBRARY
}

/// Into a folder of its own: the one that the tests were built in may be locked by another cargo.
/// Where tests are built to be fast, so is the library: its work counts as that of who loads it.
fn build() -> PathBuf {
    let (profile, folder_of_profile) =
        if cfg!(debug_assertions) { ("dev", "debug") } else { ("release", "release") };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nvml-stand-in");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--locked", "--package", "nvml-stand-in"])
        .args(["--profile", profile])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .status()
        .expect("cargo to build the stand-in");
    assert!(built.success(), "cargo build --package nvml-stand-in: {built}");
    folder.join(folder_of_profile).join("libnvml_stand_in.so")
}

/// A copy of the library and its scenario.
pub struct StandIn {
    folder: TempDir,
}

impl StandIn {
    /// A library that pretends the scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let stand_in = Self::absent(scenario);
        stand_in.install();
        stand_in
    }

    /// The same before a driver was installed.
    pub fn absent(scenario: &Scenario) -> Self {
        let stand_in = Self { folder: tempfile::tempdir().expect("a folder") };
        stand_in.set(scenario);
        stand_in
    }

    /// A library that lacks these functions, as those of other drivers do.
    pub fn without(scenario: &Scenario, functions: &[&str]) -> Self {
        let stand_in = Self::absent(scenario);
        let mut library = fs::read(built()).expect("the library");
        for function in functions {
            rename(&mut library, function);
        }
        fs::write(stand_in.library(), library).expect("a library");
        stand_in
    }

    /// A driver was installed.
    pub fn install(&self) {
        fs::copy(built(), self.library()).expect("a copy of the library");
    }

    /// What `--nvml-library` is to be.
    pub fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so.1")
    }

    /// From the next call on it pretends this.
    pub fn set(&self, scenario: &Scenario) {
        let text = serde_json::to_vec(scenario).expect("a scenario");
        let (new, path) = ("scenario.new", "scenario.json");
        fs::write(self.folder.path().join(new), text).expect("a file");
        fs::rename(self.folder.path().join(new), self.folder.path().join(path)).expect("a rename");
    }

    /// The calls so far, with the index of the GPU, where the scenario says that they are logged.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often this was called.
    pub fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|line| *line == call).count()
    }
}

/// Changes the name that the library exports the function under, so that nobody finds it.
fn rename(library: &mut [u8], function: &str) {
    let name: Vec<_> = [b"\0", function.as_bytes(), b"\0"].concat();
    let places: Vec<_> =
        (0..library.len()).filter(|at| library[*at..].starts_with(&name)).collect();
    assert!(!places.is_empty(), "the library exports no {function}");
    for at in places {
        library[at + function.len()] = b'-';
    }
}

/// A machine with these GPUs and no faults.
pub fn machine(gpus: impl IntoIterator<Item = Gpu>) -> Scenario {
    Scenario {
        driver: "580.95.05".into(),
        generation: 1,
        gpus: gpus.into_iter().collect(),
        xids: Vec::new(),
        faults: Vec::new(),
        is_logged: false,
    }
}

/// The UUID of [`gpu`].
pub fn uuid(index: u32) -> String {
    format!("GPU-00000000-0000-0000-0000-{index:012}")
}

/// An idle GPU of 24 GiB, of which 512 MiB are reserved, that supports no figure but memory.
pub fn gpu(index: u32) -> Gpu {
    let mut gpu = Gpu {
        device: Device {
            uuid: uuid(index),
            name: "NVIDIA A10".into(),
            memory: memory(24_576, 512, 0),
            ..Device::default()
        },
        pci: format!("00000000:{:02X}:00.0", index + 1),
        ..Gpu::default()
    };
    gpu.generation = 1;
    gpu
}

/// Memory in MiB, of which processes hold `used`.
pub fn memory(total: u64, reserved: u64, used: u64) -> Memory {
    let [total, reserved, used] = [total, reserved, used].map(|mib| mib * MIB);
    Memory { total, reserved, used, free: total - reserved - used }
}

/// A process that holds so many MiB.
pub fn process(pid: u32, mib: u64) -> Process {
    Process { pid, memory: Some(mib * MIB) }
}

/// GPUs of which each has a compute process.
impl Gpu {
    /// With this compute process and its memory in MiB.
    #[must_use]
    pub fn with_process(mut self, pid: u32, mib: u64) -> Self {
        self.device = self.device.with_process(pid, mib);
        self
    }

    /// With this fault.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.device.faults.push(fault);
        self
    }

    /// With every figure that the agent asks for, but for samples of utilisation.
    #[must_use]
    pub fn with_figures(self) -> Self {
        Self {
            rates: Some((50, 20)),
            temperature: Some(60),
            power: Some(200_000),
            throttle: Some(SW_POWER_CAP),
            ecc: Some((0, 0)),
            remapped: Some((0, 0, 0, 0)),
            retired: Some((0, 0)),
            ..self
        }
    }
}

impl Device {
    /// With this compute process and its memory in MiB.
    #[must_use]
    pub fn with_process(mut self, pid: u32, mib: u64) -> Self {
        self.compute.push(process(pid, mib));
        self.memory.used += mib * MIB;
        self.memory.free -= mib * MIB;
        self
    }
}

impl Scenario {
    /// With this fault in every call of that name.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }
}

/// A MIG instance of 10 GiB with these ids, idle.
pub fn instance(number: u32, ids: (u32, u32)) -> Instance {
    Instance {
        device: Device {
            uuid: format!("MIG-00000000-0000-0000-0000-{number:012}"),
            name: "NVIDIA H100 80GB HBM3 MIG 1g.10gb".into(),
            memory: memory(9_984, 16, 0),
            ..Device::default()
        },
        ids,
        attributes: Some((1, 1, 9_984)),
    }
}

/// Every call of that name (`*`: every call) returns this.
pub fn fails(function: &str, code: u32) -> Fault {
    Fault { function: function.into(), code: Some(code), after: 0, times: None }
}

/// Every call of that name hangs until the scenario no longer says so.
pub fn hangs(function: &str) -> Fault {
    Fault { function: function.into(), code: None, after: 0, times: None }
}
