use super::super::wire::pod_resources::{ClaimResource, ContainerDevices, DynamicResource};
use super::*;

const GPU: &str = "GPU-fef8089b-4820-abfc-e83e-94318197576e";
const MIG: &str = "MIG-7f4c0f1e-6a5c-5f0e-8c9a-2b1d3e4f5a6b";

fn devices(resource: &str, ids: &[&str]) -> ContainerDevices {
    let device_ids = ids.iter().map(|id| (*id).to_owned()).collect();
    ContainerDevices { resource_name: resource.to_owned(), device_ids }
}

fn claim(driver: &str, device: &str) -> DynamicResource {
    let device = ClaimResource { driver_name: driver.to_owned(), device_name: device.to_owned() };
    DynamicResource { claim_resources: vec![device] }
}

fn container(name: &str, devices: Vec<ContainerDevices>) -> ContainerResources {
    ContainerResources { name: name.to_owned(), devices, dynamic_resources: Vec::new() }
}

fn pod(name: &str, containers: Vec<ContainerResources>) -> PodResources {
    PodResources { name: name.to_owned(), namespace: "default".to_owned(), containers }
}

/// `pod/container resource gpu`, of each.
fn shown(pods: Vec<PodResources>) -> Vec<String> {
    let listed = ListPodResourcesResponse { pod_resources: pods };
    let line = |one: DeviceAssignment| {
        assert_eq!((&*one.namespace, one.uid), ("default", None));
        format!("{}/{} {} {}", one.pod, one.container, one.resource, one.gpu)
    };
    assignments(&listed).into_iter().map(line).collect()
}

#[test]
fn a_device_is_a_gpu_whatever_its_replicas_are_called() {
    for (id, name) in [
        (GPU.to_owned(), GPU),
        (format!("{GPU}::0"), GPU),
        (format!("{GPU}::12"), GPU),
        (MIG.to_owned(), MIG),
        (format!("{MIG}::2"), MIG),
        ("nvidia0".to_owned(), "nvidia0"),
        ("nvidia0/vgpu3".to_owned(), "nvidia0"),
        ("nvidia1/gi2/vgpu0".to_owned(), "nvidia1/gi2"),
        (String::new(), ""),
    ] {
        assert_eq!(gpu(&id).as_str(), name, "{id}");
    }
}

#[test]
fn lists_gpus_of_every_resource_and_nothing_else() {
    let resources = [
        ("nvidia.com/gpu", true),
        ("nvidia.com/gpu.shared", true),
        ("nvidia.com/mig-1g.10gb", true),
        ("nvidia.com/mig-1g.10gb.shared", true),
        ("nvidia.com/hostdev", false),
        ("rdma/hca_shared_devices_a", false),
        ("smarter-devices/nvidia.com/gpu", false),
    ];
    for (resource, is_gpu) in resources {
        let shown = shown(vec![pod("p", vec![container("c", vec![devices(resource, &[GPU])])])]);
        let expected = is_gpu.then(|| format!("p/c {resource} {GPU}"));
        assert_eq!(shown, Vec::from_iter(expected), "{resource}");
    }
}

#[test]
fn two_replicas_of_one_gpu_are_two_entries() {
    let ids = [format!("{GPU}::0"), format!("{GPU}::1")];
    let both = devices("nvidia.com/gpu", &[&ids[0], &ids[1]]);
    let apart = [devices("nvidia.com/gpu", &[&ids[0]]), devices("nvidia.com/gpu", &[&ids[1]])];
    let together = shown(vec![pod("p", vec![container("c", vec![both])])]);
    assert_eq!(
        together,
        [format!("p/c nvidia.com/gpu {GPU}"), format!("p/c nvidia.com/gpu {GPU}")]
    );
    assert_eq!(shown(vec![pod("p", vec![container("c", apart.to_vec())])]), together);
}

#[test]
fn lists_claims_by_their_driver() {
    let mut claimed = container("c", Vec::new());
    claimed.dynamic_resources = vec![claim("gpu.nvidia.com", "gpu-1"), claim("dra.net", "eth1")];
    assert_eq!(shown(vec![pod("p", vec![claimed])]), ["p/c gpu.nvidia.com gpu-1"]);
}

#[test]
fn the_order_of_an_answer_does_not_matter() {
    let one = pod("a", vec![container("x", vec![devices("nvidia.com/gpu", &[GPU, MIG])])]);
    let other = pod(
        "b",
        vec![
            container("y", vec![devices("nvidia.com/gpu", &[MIG])]),
            container("x", vec![devices("nvidia.com/gpu", &[GPU])]),
        ],
    );
    let mut turned = other.clone();
    turned.containers.reverse();
    assert_eq!(shown(vec![one.clone(), other]), shown(vec![turned, one]));
}

fn said(devices: &[ContainerDevices]) -> AllocatableResourcesResponse {
    AllocatableResourcesResponse { devices: devices.to_vec() }
}

fn offer(resource: &str, replicas: u32) -> Offer {
    Offer { resource: resource.into(), replicas }
}

#[test]
fn counts_the_devices_that_each_gpu_is_offered_as() {
    let shared: Vec<_> = (0..4).map(|n| format!("{GPU}::{n}")).collect();
    let shared: Vec<_> = shared.iter().map(String::as_str).collect();
    // The kubelet makes an entry of each device, or one of all.
    let said = said(&[
        devices("nvidia.com/gpu.shared", &shared[..1]),
        devices("nvidia.com/gpu.shared", &shared[1..]),
        devices("nvidia.com/mig-1g.10gb", &[MIG]),
        devices("example.com/fpga", &["GPU-0"]),
    ]);
    let offers = Offers::default().update(&said, Instant::now());
    assert_eq!(
        offers,
        HashMap::from([
            (GPU.into(), offer("nvidia.com/gpu.shared", 4)),
            (MIG.into(), offer("nvidia.com/mig-1g.10gb", 1)),
        ])
    );
}

#[test]
fn a_gpu_under_two_resources_counts_as_the_one_with_more_devices() {
    let said = said(&[
        devices("nvidia.com/gpu.shared", &[&format!("{GPU}::0"), &format!("{GPU}::1")]),
        devices("nvidia.com/gpu", &[GPU]),
    ]);
    let offers = Offers::default().update(&said, Instant::now());
    assert_eq!(offers[&GpuUuid::from(GPU)], offer("nvidia.com/gpu.shared", 2));
}

#[test]
fn what_was_offered_outlasts_the_kubelets_restart() {
    let (mut offers, start) = (Offers::default(), Instant::now());
    let both =
        said(&[devices("nvidia.com/gpu", &[GPU]), devices("nvidia.com/mig-1g.10gb", &[MIG])]);
    let all = offers.update(&both, start);
    assert_eq!(all.len(), 2);
    let later = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(offers.update(&said(&[]), later(1)), all, "no plugin has registered yet");
    let one = said(&[devices("nvidia.com/gpu", &[GPU])]);
    assert_eq!(offers.update(&one, later(299)), all, "one of two has");
    let left = offers.update(&one, later(300));
    assert_eq!(left, HashMap::from([(GPU.into(), offer("nvidia.com/gpu", 1))]), "it does not come");
}

#[test]
fn a_gpu_that_its_plugin_holds_back_is_not_offered() {
    let (mut offers, start) = (Offers::default(), Instant::now());
    offers.update(&said(&[devices("nvidia.com/gpu", &[GPU, "GPU-other"])]), start);
    let left = offers
        .update(&said(&[devices("nvidia.com/gpu", &["GPU-other"])]), start + PLUGIN_GRACE / 2);
    assert_eq!(left, HashMap::from([("GPU-other".into(), offer("nvidia.com/gpu", 1))]));
}

#[test]
fn a_gpu_that_is_offered_otherwise_is_no_longer_offered_as_before() {
    let (mut offers, start) = (Offers::default(), Instant::now());
    offers.update(&said(&[devices("nvidia.com/gpu", &[GPU])]), start);
    let shared = devices("nvidia.com/gpu.shared", &[&format!("{GPU}::0"), &format!("{GPU}::1")]);
    let now = offers.update(&said(&[shared]), start + Duration::from_secs(1));
    assert_eq!(now, HashMap::from([(GPU.into(), offer("nvidia.com/gpu.shared", 2))]));
}
