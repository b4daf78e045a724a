//! What is seen from outside: the API server's pods, and the truth about the GPUs.
//!
//! The pods are seen in the order in which the API server changed them, and looked at after every
//! change. What is late here is late as a whole, so a state that is seen was one: nothing is
//! overdrawn in it by a mixture of times. Of the truth, which has no such order, only what pods
//! that are seen to be gone still hold is added: that can have become less meanwhile, never more.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use filmgate::agent::simulated::SimulatedFleet;
use filmgate::engine::Bytes;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::runtime::watcher::Event;
use tokio_util::task::AbortOnDropHandle;

use super::account::{Ground, Remains, Seen};
use super::support::watched;

/// Texts about GPUs that are overdrawn that are kept of one burst.
const MOST_TEXTS: usize = 20;

/// Who looks on. It ends with the value.
pub struct Outside {
    sight: Arc<Mutex<Sight>>,
    _task: AbortOnDropHandle<()>,
}

struct Sight {
    fleet: SimulatedFleet,
    ground: Ground,
    /// By UID.
    pods: BTreeMap<String, Seen>,
    /// Bound once, and gone: their processes may not be.
    gone: HashSet<String>,
    overdrawn: Bytes,
    texts: Vec<String>,
    looks: u64,
}

/// The most that was promised beyond what a GPU has, in one burst.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// By how much.
    pub overdrawn: Bytes,
    /// Where, when and to whom.
    pub texts: Vec<String>,
    /// How often that was looked at.
    pub looks: u64,
}

impl Outside {
    /// Begins to look.
    pub fn watch(client: Client, fleet: SimulatedFleet) -> Self {
        let sight = Arc::new(Mutex::new(Sight {
            fleet,
            ground: Ground::default(),
            pods: BTreeMap::new(),
            gone: HashSet::new(),
            overdrawn: Bytes::ZERO,
            texts: Vec::new(),
            looks: 0,
        }));
        let task = tokio::spawn(look_on(client, sight.clone()));
        Self { sight, _task: AbortOnDropHandle::new(task) }
    }

    fn lock(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().expect("a state that no panic has left")
    }

    /// A burst begins on these nodes.
    pub fn begin(&self, ground: Ground) {
        let mut sight = self.lock();
        (sight.ground, sight.gone) = (ground, HashSet::new());
        (sight.overdrawn, sight.texts, sight.looks) = (Bytes::ZERO, Vec::new(), 0);
    }

    /// What was seen since the burst began.
    pub fn verdict(&self) -> Verdict {
        let sight = self.lock();
        let (overdrawn, texts, looks) = (sight.overdrawn, sight.texts.clone(), sight.looks);
        Verdict { overdrawn, texts, looks }
    }

    /// Names of the pods that are so.
    pub fn names(&self, is: impl Fn(&Seen) -> bool) -> Vec<String> {
        self.lock().pods.values().filter(|pod| is(pod)).map(|pod| pod.name.clone()).collect()
    }

    /// Nobody is about to go, and nothing is left of those that went.
    pub fn is_quiet(&self) -> bool {
        let sight = self.lock();
        sight.remains().is_empty() && !sight.pods.values().any(|pod| pod.is_leaving)
    }

    /// Pods that wait and could be bound now.
    pub fn left_out(&self) -> Vec<String> {
        let sight = self.lock();
        sight.ground.left_out(sight.pods.values(), &sight.remains())
    }

    /// Every pod, and the truth of every GPU.
    pub fn describe(&self) -> String {
        let sight = self.lock();
        let mut lines: Vec<_> = sight.pods.values().map(|pod| format!("{pod:?}")).collect();
        for gpu in &sight.ground.gpus {
            let truth = sight.fleet.truth(&gpu.node, &gpu.uuid);
            lines.push(format!("{} {} room {}: {truth:?}", gpu.node, gpu.uuid, gpu.room));
        }
        lines.extend(sight.remains().iter().map(|one| format!("left behind: {one:?}")));
        lines.join("\n")
    }
}

async fn look_on(client: Client, sight: Arc<Mutex<Sight>>) {
    let mut events = watched::pods(client);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        let mut sight = sight.lock().expect("a state that no panic has left");
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => listed.extend(Seen::of(&pod)),
            Event::InitDone => sight.replace(std::mem::take(&mut listed)),
            Event::Apply(pod) => sight.put(&pod),
            Event::Delete(pod) => sight.remove(&pod),
        }
        sight.look();
    }
}

impl Sight {
    fn put(&mut self, pod: &Pod) {
        if let Some(seen) = Seen::of(pod) {
            if seen.is_over && seen.node.is_some() {
                self.gone.insert(seen.uid.clone());
            }
            self.pods.insert(seen.uid.clone(), seen);
        }
    }

    fn remove(&mut self, pod: &Pod) {
        if let Some(seen) = Seen::of(pod) {
            self.pods.remove(&seen.uid);
            if seen.node.is_some() {
                self.gone.insert(seen.uid);
            }
        }
    }

    fn replace(&mut self, listed: Vec<Seen>) {
        let before = std::mem::take(&mut self.pods);
        self.pods = listed.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
        let over = self.pods.values().filter(|pod| pod.is_over).map(|pod| pod.uid.clone());
        self.gone.extend(over);
        let is_gone = |uid: &String| !self.pods.contains_key(uid);
        // Where one that waited was bound and ended unseen, its processes are the truth's to tell.
        self.gone.extend(before.into_keys().filter(is_gone));
    }

    /// What the processes of those that are gone still hold.
    fn remains(&self) -> Vec<Remains> {
        let mut nodes: Vec<_> = self.ground.gpus.iter().map(|gpu| &gpu.node).collect();
        nodes.dedup();
        let readings = nodes.into_iter().filter_map(|node| self.fleet.sample_at_once(node).ok());
        let gpus = readings.flat_map(|reading| reading.gpus);
        let held = gpus.flat_map(|gpu| {
            let gone = |uid: &str| self.gone.contains(uid);
            let left = gpu.pods.into_iter().filter(move |pod| gone(pod.uid.as_str()));
            left.map(move |pod| Remains { gpu: gpu.uuid.clone(), bytes: pod.used })
        });
        held.filter(|one| one.bytes > Bytes::ZERO).collect()
    }

    fn look(&mut self) {
        self.looks += 1;
        let remains = self.remains();
        for one in self.ground.overdrawn(self.pods.values(), &remains) {
            if one.by > self.overdrawn && self.texts.len() < MOST_TEXTS {
                self.texts.push(format!("{one}; left behind: {remains:?}"));
            }
            self.overdrawn = self.overdrawn.max(one.by);
        }
    }
}
