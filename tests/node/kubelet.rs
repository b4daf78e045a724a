//! The real kubelet.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::containerd;
use super::machine::Machine;
use super::support::binaries;
use super::support::port::ReservedPort;
use super::support::process::Process;
use super::support::site::flag;

/// Starts the kubelet of the node of that name on the machine.
pub fn start(machine: &Machine, node: &str, kubeconfig: &Path, port: &ReservedPort) -> Process {
    let folder = machine.folder();
    let file = folder.join("kubelet.json");
    fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    fs::create_dir_all(manifests(machine)).unwrap();
    fs::write(&file, configuration(machine, port).to_string()).unwrap();
    let arguments = [
        "kubelet".to_owned(),
        flag("config", file.display()),
        flag("kubeconfig", kubeconfig.display()),
        flag("cert-dir", folder.join("certificates").display()),
        flag("hostname-override", node),
    ];
    machine.spawn("kubelet", binaries::folder().join("cluster"), &arguments)
}

/// Where it finds static pods.
pub fn manifests(machine: &Machine) -> PathBuf {
    machine.folder().join("manifests")
}

fn configuration(machine: &Machine, port: &ReservedPort) -> Value {
    let folder = machine.folder();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": port.number(),
        "healthzPort": 0,
        "readOnlyPort": 0,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{}", containerd::socket(folder).display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": machine.cgroups.path(),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": false,
        "evictionHard": {"memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": folder.join("pod-logs"),
        "staticPodPath": manifests(machine),
        "resolvConf": folder.join("resolv.conf"),
        "volumePluginDir": folder.join("volume-plugins"),
    })
}
