//! The simulated truth: an API server, kubelets, device plugins, GPUs, processes and agents.
//!
//! Nothing here knows the ledger. Amounts are GiB; a GPU has [`TOTAL`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use filmgate::engine::marks::Marks;
use filmgate::engine::{
    Bytes, Decision, GpuAsk, GpuUuid, NodeFacts, PodFacts, PodRef, PodUid, Reading, Time, Vram,
};

use crate::machine::{Machine, Process};

pub(crate) const TOTAL: u64 = 24;
/// A force-deleted pod's processes are killed within this, or at least grow no more.
const KILL_WITHIN: Duration = Duration::from_secs(30);

/// What kind of cluster it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(crate) nodes: usize,
    pub(crate) gpus: usize,
    pub(crate) replicas: u32,
    pub(crate) is_packed: bool,
    /// Pods keep to what they declare, steering is obeyed, nobody else is there, machines stay.
    pub(crate) is_honest: bool,
    pub(crate) book_tells_uid: bool,
    pub(crate) rejects_stale: bool,
    pub(crate) holds: bool,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) now: Time,
    pub(crate) machines: Vec<Machine>,
    pub(crate) pods: Vec<ApiPod>,
    pub(crate) pod_events: VecDeque<PodEvent>,
    pub(crate) node_events: VecDeque<NodeEvent>,
    version: u64,
    samplings: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum PodEvent {
    Applied(PodFacts),
    Deleted(PodFacts),
}

#[derive(Debug, Clone)]
pub(crate) enum NodeEvent {
    Applied(NodeFacts),
    Deleted(NodeFacts),
}

/// A pod as the API server has it, or had it last.
#[derive(Debug)]
pub(crate) struct ApiPod {
    pub(crate) facts: PodFacts,
    pub(crate) exists: bool,
    pub(crate) is_deleting: bool,
    /// Force-deleted: its processes run on.
    orphaned_at: Option<Time>,
    /// An extender that started after its force delete knows nothing of what it may still take.
    pub(crate) is_forgotten: bool,
    is_killed: bool,
}

/// A sampling, with what only the test knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Sampled {
    pub(crate) reading: Reading,
    pub(crate) generation: u32,
    /// Order of all samplings.
    pub(crate) number: u64,
    pub(crate) at: Time,
}

impl Cluster {
    pub(crate) fn new(config: Config, now: Time) -> Self {
        let machines = (0..config.nodes).map(|node| Machine::new(node, 0, config, now)).collect();
        Self {
            config,
            now,
            machines,
            pods: Vec::new(),
            pod_events: VecDeque::new(),
            node_events: VecDeque::new(),
            version: 0,
            samplings: 0,
        }
    }

    pub(crate) fn create(&mut self, ask: GpuAsk, priority: i32) {
        let number = self.pods.len();
        let name = format!("p{number}");
        let id = PodRef {
            namespace: "default".into(),
            name: name.as_str().into(),
            uid: format!("{name}-uid").into(),
        };
        let facts = PodFacts {
            id,
            workload: name.as_str().into(),
            scheduler: "filmgate".into(),
            is_gated: false,
            node: None,
            ask: Ok(ask),
            decision: None,
            marks: Marks::default(),
            has_ended: false,
            priority,
            created_at: number as i64,
            started_at: None,
            is_deleting: false,
            nominated: None,
            labels: None,
            address: None,
            resource_version: Arc::from(""),
        };
        self.pods.push(ApiPod {
            facts,
            exists: true,
            is_deleting: false,
            orphaned_at: None,
            is_forgotten: false,
            is_killed: false,
        });
        self.changed(number);
    }

    /// A write moves the version and is told to watchers.
    pub(crate) fn changed(&mut self, pod: usize) {
        self.version += 1;
        let facts = &mut self.pods[pod].facts;
        facts.resource_version = self.version.to_string().into();
        self.pod_events.push_back(PodEvent::Applied(facts.clone()));
    }

    pub(crate) fn list(&self) -> Vec<PodFacts> {
        self.pods.iter().filter(|pod| pod.exists).map(|pod| pod.facts.clone()).collect()
    }

    /// A Binding arrives at the API server; whether the pod is then bound to that node.
    pub(crate) fn commit(
        &mut self,
        pod: usize,
        node: usize,
        version: &str,
        decision: Option<Decision>,
    ) -> bool {
        let name = self.machines[node].node.name.clone();
        let api = &mut self.pods[pod];
        let may = api.exists && !api.is_deleting && api.facts.node.is_none();
        if may && *api.facts.resource_version == *version {
            api.facts.node = Some(name);
            api.facts.decision = decision;
            self.changed(pod);
            return true;
        }
        api.exists && api.facts.node.as_ref() == Some(&name)
    }

    pub(crate) fn node_of(&self, pod: usize) -> Option<usize> {
        let name = self.pods[pod].facts.node.as_ref()?;
        self.machines.iter().position(|machine| machine.node.name == *name)
    }

    pub(crate) fn is_running(&self, pod: usize) -> bool {
        let api = &self.pods[pod];
        api.facts.node.is_some()
            && !api.facts.has_ended
            && !api.is_killed
            && (api.exists || api.orphaned_at.is_some())
    }

    /// kube-scheduler's count of devices: whether so many more are left on the node.
    pub(crate) fn has_devices_left(&self, node: usize, more: u32, on_their_way: u32) -> bool {
        let bound = (0..self.pods.len()).filter(|pod| self.node_of(*pod) == Some(node));
        let taken: u32 =
            bound.filter(|pod| self.is_running(*pod)).map(|pod| self.devices(pod)).sum();
        let all = self.config.gpus as u32 * self.config.replicas;
        taken + on_their_way + more <= all
    }

    pub(crate) fn devices(&self, pod: usize) -> u32 {
        self.pods[pod].facts.ask.as_ref().map_or(1, GpuAsk::devices)
    }

    pub(crate) fn is_steered(&self, pod: usize) -> bool {
        self.pods[pod].facts.ask.as_ref().is_ok_and(GpuAsk::is_steered)
    }

    /// Bound pods that the node's kubelet has not given devices to.
    pub(crate) fn unplaced(&self, node: usize) -> Vec<usize> {
        let is_listed =
            |pod: &usize| self.machines[node].book.iter().any(|(listed, _)| listed == pod);
        (0..self.pods.len())
            .filter(|pod| self.node_of(*pod) == Some(node) && self.pods[*pod].exists)
            .filter(|pod| self.is_running(*pod) && !self.pods[*pod].is_deleting && !is_listed(pod))
            .collect()
    }

    /// The kubelet takes up one of the pods bound to it; the device plugin chooses by its rule.
    pub(crate) fn place(&mut self, node: usize, pick: usize) {
        let unplaced = self.unplaced(node);
        let Some(pod) = unplaced.get(pick % unplaced.len().max(1)).copied() else { return };
        for _ in 0..self.devices(pod) {
            let Some(gpu) = self.next_replica(node, pick) else {
                self.machines[node].book.retain(|(listed, _)| *listed != pod);
                return self.end(pod);
            };
            self.machines[node].book.push((pod, gpu));
        }
    }

    fn next_replica(&self, node: usize, pick: usize) -> Option<usize> {
        let ties = self.next_gpus(node);
        ties.get(pick % ties.len().max(1)).copied()
    }

    /// GPUs of which the device plugin would give a replica now: it takes any of them.
    pub(crate) fn next_gpus(&self, node: usize) -> Vec<usize> {
        let assigned =
            |gpu: usize| self.machines[node].book.iter().filter(|(_, at)| *at == gpu).count();
        let replicas = self.config.replicas as usize;
        let left: Vec<_> = (0..self.config.gpus).filter(|gpu| assigned(*gpu) < replicas).collect();
        let counts = left.iter().map(|gpu| assigned(*gpu));
        let next = if self.config.is_packed { counts.max() } else { counts.min() };
        left.into_iter().filter(|gpu| Some(assigned(*gpu)) == next).collect()
    }

    /// GPUs on which the pod's process runs.
    fn visible(&self, pod: usize) -> Vec<usize> {
        let Some(node) = self.node_of(pod) else { return Vec::new() };
        let machine = &self.machines[node];
        let listed = machine.book.iter().filter(|(listed, _)| *listed == pod).map(|(_, gpu)| *gpu);
        let listed: Vec<_> = listed.collect();
        let chosen = self.pods[pod].facts.decision.as_ref();
        // A disobedient runtime is one for every third pod.
        let obeys = self.config.is_honest || !pod.is_multiple_of(3);
        match chosen.filter(|_| obeys && self.is_steered(pod) && !listed.is_empty()) {
            Some(chosen) => {
                let at = |gpu: &GpuUuid| machine.gpus.iter().position(|other| other == gpu);
                chosen.charged.iter().filter_map(|(gpu, _)| at(gpu)).collect()
            }
            None => listed,
        }
    }

    /// The most that an honest pod uses of the GPU.
    pub(crate) fn limit(&self, pod: usize, gpu: &GpuUuid) -> u64 {
        let facts = &self.pods[pod].facts;
        let declared = facts.ask.as_ref().ok().and_then(GpuAsk::most_per_gpu);
        let decided = facts.decision.iter().flat_map(|decision| &decision.charged);
        let decided = decided.filter(|(at, _)| at == gpu).map(|(_, bytes)| *bytes).next();
        declared.or(decided).map_or(0, |bytes| bytes.get() >> 30)
    }

    /// The pod's process wants to hold that much on each of its GPUs.
    pub(crate) fn grow(&mut self, pod: usize, gib: u64, is_new: bool) {
        let too_late =
            self.pods[pod].orphaned_at.is_some_and(|since| since + KILL_WITHIN <= self.now);
        let Some(node) = self.node_of(pod).filter(|_| self.is_running(pod)) else { return };
        if too_late || self.pods[pod].is_forgotten {
            return;
        }
        for gpu in self.visible(pod) {
            let wanted = if self.config.is_honest {
                gib.min(self.limit(pod, &self.machines[node].gpus[gpu]))
            } else {
                gib
            };
            let machine = &mut self.machines[node];
            let others = machine.used(gpu) - machine.held_by(pod, gpu);
            let gib = wanted.min(TOTAL - others);
            let own = |process: &&mut Process| process.pod == pod && process.gpu == gpu;
            match machine.processes.iter_mut().find(own) {
                Some(process) => process.gib = gib,
                None => machine.processes.push(Process { pod, gpu, gib, is_new }),
            }
        }
    }

    /// Every container of the pod has terminated. What they held may linger.
    pub(crate) fn end(&mut self, pod: usize) {
        if self.is_running(pod) && self.pods[pod].exists {
            self.pods[pod].facts.has_ended = true;
            self.changed(pod);
        }
    }

    pub(crate) fn index_of(&self, uid: &PodUid) -> usize {
        let position = self.pods.iter().position(|pod| pod.facts.id.uid == *uid);
        position.expect("a pod that was created")
    }

    /// `kubectl delete`; also what follows when the containers have terminated.
    pub(crate) fn delete(&mut self, pod: usize) {
        let api = &mut self.pods[pod];
        if !api.exists {
            return;
        }
        if api.facts.node.is_none() || api.facts.has_ended {
            return self.remove(pod);
        }
        if !api.is_deleting {
            api.is_deleting = true;
            api.facts.is_deleting = true;
            self.changed(pod);
        }
    }

    /// `kubectl delete --force`: gone at once, and the processes run on.
    pub(crate) fn force_delete(&mut self, pod: usize) {
        if self.pods[pod].exists {
            self.pods[pod].orphaned_at = Some(self.now);
            self.remove(pod);
        }
    }

    fn remove(&mut self, pod: usize) {
        self.version += 1;
        let api = &mut self.pods[pod];
        api.exists = false;
        api.facts.resource_version = self.version.to_string().into();
        self.pod_events.push_back(PodEvent::Deleted(api.facts.clone()));
    }

    /// The kubelet notices an orphan and kills it.
    pub(crate) fn kill(&mut self, pod: usize) {
        if self.pods[pod].orphaned_at.is_some() {
            self.pods[pod].is_killed = true;
        }
    }

    /// What ended processes held is given back.
    pub(crate) fn settle(&mut self, node: usize) {
        let over: Vec<_> = (0..self.pods.len()).filter(|pod| !self.is_running(*pod)).collect();
        self.machines[node].processes.retain(|process| !over.contains(&process.pod));
    }

    /// The kubelet takes back the devices of pods that have ended.
    pub(crate) fn take_back(&mut self, node: usize, may: impl Fn(&PodFacts) -> bool) {
        let over = |pod: &usize| !self.is_running(*pod) && may(&self.pods[*pod].facts);
        let over: Vec<_> = (0..self.pods.len()).filter(over).collect();
        self.machines[node].book.retain(|(pod, _)| !over.contains(pod));
    }

    /// The node's object is made again, by the same machine or another.
    pub(crate) fn recreate(&mut self, node: usize, is_same: bool, is_seen: bool) {
        let machine = &mut self.machines[node];
        if is_seen {
            self.node_events.push_back(NodeEvent::Deleted(machine.node.clone()));
        }
        let uid = format!("{}+", machine.node.uid).into();
        if !is_same {
            let run = machine.run + 1;
            *machine = Machine::new(node, machine.generation + 1, self.config, self.now);
            machine.run = run;
        }
        machine.node.uid = uid;
        self.node_events.push_back(NodeEvent::Applied(machine.node.clone()));
    }

    pub(crate) fn restart_agent(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        machine.run += 1;
        machine.sampling = 0;
        machine.started_at = self.now;
        machine.history.clear();
    }

    pub(crate) fn sample(&mut self, node: usize) -> Sampled {
        self.samplings += 1;
        let uids: Vec<_> = self.pods.iter().map(|pod| pod.facts.id.clone()).collect();
        let machine = &mut self.machines[node];
        machine.remember(self.now);
        let reading = machine.read(&uids, self.config, self.now);
        machine.processes.iter_mut().for_each(|process| process.is_new = false);
        Sampled { reading, generation: machine.generation, number: self.samplings, at: self.now }
    }

    /// No sampling would differ from that one but in its number.
    pub(crate) fn heartbeat(&mut self, node: usize, last: &Reading) -> Option<u64> {
        let now = self.sample(node).reading;
        let same = Reading { sampling: last.sampling, ..now.clone() } == *last;
        same.then_some(now.sampling)
    }

    /// What pods may take of the GPU by right, and what ended ones still hold.
    pub(crate) fn committed(&self, node: usize, gpu: usize) -> u64 {
        let machine = &self.machines[node];
        let live = (0..self.pods.len())
            .filter(|pod| self.is_running(*pod) && self.node_of(*pod) == Some(node));
        let on_it = live.filter(|pod| self.visible(*pod).contains(&gpu));
        let by_right: u64 = on_it
            .clone()
            .filter(|pod| !self.pods[*pod].is_forgotten && self.pods[*pod].exists)
            .map(|pod| self.limit(pod, &machine.gpus[gpu]))
            .sum();
        let counted: Vec<_> =
            on_it.filter(|pod| !self.pods[*pod].is_forgotten && self.pods[*pod].exists).collect();
        let left = machine
            .processes
            .iter()
            .filter(|process| process.gpu == gpu && !counted.contains(&process.pod));
        by_right + left.map(|process| process.gib).sum::<u64>()
    }
}

pub(crate) fn ask(gib: u64, gpus: u32, is_steered: bool) -> GpuAsk {
    let vram = if gib == 0 { Vram::Exclusive } else { Vram::Declared(Bytes::gib(gib)) };
    if is_steered { GpuAsk::steered(gpus, vram) } else { GpuAsk::unsteered(gpus, vram) }
}
