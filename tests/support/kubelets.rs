//! What kubelets, device plugins and the pods' processes do on simulated nodes: a pod that is bound
//! gets a device and begins to hold memory; one that ends gives both back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use filmgate::agent::simulated::SimulatedFleet;
use filmgate::engine::{Bytes, GpuUuid, PodRef};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt};
use tokio::task::JoinHandle;

use super::watched;

/// What the pod's processes really hold on each GPU, where it is not what the pod declares.
pub const USES_ANNOTATION: &str = "test.filmgate.dev/uses";
/// The pod's processes outlive it: by so many milliseconds, or until [`Kubelets::end_process`].
pub const LINGERS_ANNOTATION: &str = "test.filmgate.dev/lingers";
/// As long as the test wants.
pub const UNTIL_ENDED: &str = "until-ended";

/// The kubelets of all simulated nodes. They end with the value.
pub struct Kubelets {
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    fleet: SimulatedFleet,
    /// By UID.
    pods: Mutex<HashMap<String, Running>>,
}

/// A pod that has been started.
struct Running {
    pod: PodRef,
    node: String,
    /// The GPUs that the plugin gave, one per device: the kubelet's book.
    devices: Vec<GpuUuid>,
    lingers: Lingers,
    /// It is gone; its processes may not be.
    has_ended: bool,
}

#[derive(Clone, Copy)]
enum Lingers {
    For(Duration),
    UntilEnded,
}

impl Kubelets {
    /// Starts to play the kubelets of the fleet's nodes.
    pub fn start(client: Client, fleet: SimulatedFleet) -> Self {
        let state = Arc::new(State { fleet, pods: Mutex::default() });
        let task = tokio::spawn(play(client, state.clone()));
        Self { state, task }
    }

    /// Ends the processes of a pod that lingers.
    pub fn end_process(&self, pod: &str) {
        let mut pods = self.state.lock();
        let named = |running: &Running| &*running.pod.name == pod;
        let uid = pods.iter().find(|(_, running)| named(running)).map(|(uid, _)| uid.clone());
        let running = pods.remove(&uid.expect("a pod that was started")).expect("it");
        self.state.fleet.stop_pod(&running.node, &running.pod.uid).expect("its node");
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// As long as the test runs, whatever becomes of the API server meanwhile.
async fn play(client: Client, state: Arc<State>) {
    let mut events = watched::pods(client);
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(pod) => state.sync(&pod),
            Event::InitApply(pod) => {
                listed.extend(pod.uid());
                state.sync(&pod);
            }
            Event::Delete(pod) => state.end(&pod.uid().unwrap_or_default()),
            Event::Init => listed.clear(),
            Event::InitDone => state.end_all_but(&listed),
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.pods.lock().expect("a state that no panic has left")
    }

    fn sync(self: &Arc<Self>, pod: &Pod) {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        match (node, phase) {
            (_, Some("Succeeded" | "Failed")) => self.end(&pod.uid().unwrap_or_default()),
            (Some(node), _) if self.fleet.gpus(&node).is_ok() => self.start(pod, node),
            _ => {}
        }
    }

    fn start(&self, pod: &Pod, node: String) {
        let (uid, count) = (pod.uid().unwrap_or_default(), gpu_count(pod));
        let mut pods = self.lock();
        if count == 0 || pods.contains_key(&uid) {
            return;
        }
        let id = PodRef {
            namespace: pod.namespace().unwrap_or_default().into(),
            name: pod.name_any().into(),
            uid: uid.as_str().into(),
        };
        let devices = self.choose_devices(&pods, &node, count);
        for gpu in &devices {
            self.fleet.assign_device(&node, gpu, &id, "main").expect("a GPU of the node");
        }
        for gpu in visible_devices(pod).unwrap_or_else(|| devices.clone()) {
            self.fleet.start_pod(&node, &gpu, &id, memory(pod)).expect("a GPU of the node");
        }
        let lingers = lingers(pod);
        pods.insert(uid, Running { pod: id, node, devices, lingers, has_ended: false });
    }

    fn end_all_but(self: &Arc<Self>, listed: &HashSet<String>) {
        let missing: Vec<_> =
            self.lock().keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        missing.iter().for_each(|uid| self.end(uid));
    }

    fn end(self: &Arc<Self>, uid: &str) {
        let mut pods = self.lock();
        let Some(running) = pods.get_mut(uid).filter(|running| !running.has_ended) else { return };
        running.has_ended = true;
        running.devices.clear();
        let _ = self.fleet.unassign_devices(&running.node, &running.pod);
        match running.lingers {
            Lingers::UntilEnded => {}
            Lingers::For(Duration::ZERO) => self.stop(&mut pods, uid),
            Lingers::For(time) => {
                let (state, uid) = (self.clone(), uid.to_owned());
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    state.stop(&mut state.lock(), &uid);
                });
            }
        }
    }

    fn stop(&self, pods: &mut HashMap<String, Running>, uid: &str) {
        if let Some(running) = pods.remove(uid) {
            // The node may be gone by now, and its processes with it.
            let _ = self.fleet.stop_pod(&running.node, &running.pod.uid);
        }
    }

    /// As NVIDIA's plugin does by default: each device on the GPU with the fewest in use.
    fn choose_devices(
        &self,
        pods: &HashMap<String, Running>,
        node: &str,
        count: usize,
    ) -> Vec<GpuUuid> {
        let gpus = self.fleet.gpus(node).expect("a simulated node");
        let mut in_use: BTreeMap<GpuUuid, usize> =
            gpus.iter().map(|gpu| (gpu.clone(), 0)).collect();
        let given = pods.values().filter(|running| running.node == node);
        for gpu in given.flat_map(|running| &running.devices) {
            *in_use.entry(gpu.clone()).or_default() += 1;
        }
        let mut chosen = Vec::new();
        for _ in 0..count {
            let gpu = gpus.iter().min_by_key(|gpu| in_use[*gpu]).expect("a GPU");
            *in_use.entry(gpu.clone()).or_default() += 1;
            chosen.push(gpu.clone());
        }
        chosen
    }
}

fn gpu_count(pod: &Pod) -> usize {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let limits = containers.filter_map(|container| container.resources.as_ref()?.limits.as_ref());
    limits.filter_map(|limits| limits.get("nvidia.com/gpu")?.0.parse::<usize>().ok()).sum()
}

/// What a steered pod's process sees: the downward API hands it the annotation.
fn visible_devices(pod: &Pod) -> Option<Vec<GpuUuid>> {
    let environment = pod.spec.as_ref()?.containers.first()?.env.as_ref()?;
    environment.iter().find(|variable| variable.name == "NVIDIA_VISIBLE_DEVICES")?;
    let annotation = pod.annotations().get("filmgate.dev/gpu").cloned().unwrap_or_default();
    Some(annotation.split(',').filter(|gpu| !gpu.is_empty()).map(GpuUuid::from).collect())
}

fn memory(pod: &Pod) -> Bytes {
    let annotations = pod.annotations();
    let declared =
        annotations.get(USES_ANNOTATION).or_else(|| annotations.get("filmgate.dev/vram"));
    declared.map_or(Bytes::ZERO, |text| Bytes::parse_quantity(text).expect("a quantity"))
}

fn lingers(pod: &Pod) -> Lingers {
    match pod.annotations().get(LINGERS_ANNOTATION).map(String::as_str) {
        None => Lingers::For(Duration::ZERO),
        Some(UNTIL_ENDED) => Lingers::UntilEnded,
        Some(time) => Lingers::For(Duration::from_millis(time.parse().expect("milliseconds"))),
    }
}
