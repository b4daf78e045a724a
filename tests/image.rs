//! The container image, as `tools/image.sh` packs it and the Dockerfile describes it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_filmgate");

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Whether an image can be packed here, which must be Debian or its kin; says so where it cannot.
fn is_possible() -> bool {
    let has_authorities = Path::new("/usr/share/ca-certificates/mozilla").is_dir();
    let has_strip = Command::new("strip").arg("--version").output().is_ok();
    let is_possible = has_authorities && has_strip;
    assert!(is_possible || std::env::var_os("CI").is_none(), "no test of the image");
    if !is_possible {
        eprintln!("skipped: Debian's ca-certificates or binutils are missing");
    }
    is_possible
}

/// What a command prints.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Packs the program, as somebody whose new files are nobody else's to read by default.
fn pack(file: &Path, mask: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask \"$0\" && exec \"$@\"", mask]).arg(shipped("tools/image.sh"));
    printed(shell.arg(PROGRAM).arg(file))
}

/// An image's archive, unpacked.
struct Image {
    folder: TempDir,
    manifest: Value,
}

impl Image {
    fn packed() -> Self {
        let folder = TempDir::new().unwrap();
        let archive = folder.path().join("image.tar");
        pack(&archive, "022");
        printed(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(folder.path()));
        let index = read_json(&folder.path().join("index.json"));
        let manifest = read_json(&blob(folder.path(), &index["manifests"][0]));
        Self { folder, manifest }
    }

    fn config(&self) -> Value {
        read_json(&blob(self.folder.path(), &self.manifest["config"]))
    }

    /// Its files, unpacked.
    fn root(&self) -> PathBuf {
        let root = self.folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let layer = blob(self.folder.path(), &self.manifest["layers"][0]);
        printed(Command::new("tar").arg("-xzf").arg(layer).arg("-C").arg(&root));
        root
    }
}

fn blob(folder: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let file = folder.join("blobs/sha256").join(digest);
    let sum = printed(Command::new("sha256sum").arg(&file));
    assert!(sum.starts_with(digest), "{sum}");
    assert_eq!(descriptor["size"], fs::metadata(&file).unwrap().len());
    file
}

fn read_json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn the_same_program_is_the_same_image_whoever_packs_it() {
    if !is_possible() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let [one, other] = ["one.tar", "other.tar"].map(|name| folder.path().join(name));
    assert_eq!(pack(&one, "022"), pack(&other, "077"));
    assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "the archives differ");
}

#[test]
fn the_program_runs_on_the_image_s_files_alone_and_the_driver_finds_its_libraries() {
    if !is_possible() {
        return;
    }
    let image = Image::packed();
    let root = image.root();
    // Most systems let anybody be root of what is only his.
    let as_root = ["unshare", "--map-root-user"];
    if Command::new(as_root[0]).args([as_root[1], "true"]).status().unwrap().success() {
        let mut alone = Command::new(as_root[0]);
        alone.args([as_root[1], "chroot"]).arg(&root).args(["/usr/bin/filmgate", "--version"]);
        assert_eq!(printed(&mut alone), concat!("filmgate ", env!("CARGO_PKG_VERSION")));
    } else {
        assert!(std::env::var_os("CI").is_none(), "nobody may be root here");
        eprintln!("not run: nobody may be root here");
    }

    let libraries = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    for name in ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"] {
        assert!(libraries.join(name).exists(), "{name}");
    }
    let roots = fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(roots.contains("BEGIN CERTIFICATE"));
    for absent in ["usr/bin/sh", "usr/bin/bash", "usr/bin/busybox"] {
        assert!(!root.join(absent).exists(), "{absent}");
    }
}

#[test]
fn the_dockerfile_says_the_same_as_the_packed_image() {
    if !is_possible() {
        return;
    }
    let file = fs::read_to_string(shipped("Dockerfile")).unwrap();
    let file = file.replace("\\\n", "");
    let said = |word: &str| {
        let last = file.lines().rev().find_map(|line| line.strip_prefix(word));
        last.unwrap_or_else(|| panic!("no {word}")).trim()
    };
    let config = Image::packed().config();
    let config = &config["config"];
    assert_eq!(config["User"], said("USER"));
    assert_eq!(config["Entrypoint"].to_string(), said("ENTRYPOINT"));
    let labels = said("LABEL").split("\" ").map(|pair| {
        let (name, value) = pair.trim().split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('"').to_owned())
    });
    for (name, value) in labels {
        let packed = config["Labels"][&name].as_str().unwrap_or_else(|| panic!("no {name}"));
        assert!(value.starts_with('$') || value == packed, "{name}: {value}, {packed}");
    }
    assert_eq!(config["Labels"].as_object().unwrap().len(), said("LABEL").matches('=').count());
    assert_eq!(said("ARG VERSION="), env!("CARGO_PKG_VERSION"));
    let toolchain = fs::read_to_string(shipped("rust-toolchain.toml")).unwrap();
    assert!(toolchain.contains(&format!("\"{}\"", said("ARG RUST_VERSION="))), "{toolchain}");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], json!(said("ARG VERSION=")));
}
