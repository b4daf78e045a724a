//! The ledger among everything that it talks to, and what must hold after every step.

use std::sync::Arc;
use std::time::Duration;

use filmgate::engine::claim::ClaimState;
use filmgate::engine::{
    Arrival, Bytes, Ledger, PluginAllocation, PodFacts, Policy, Reading, StalePolicy, Time, Vram,
};

use crate::cluster::{Cluster, Config, NodeEvent, PodEvent, Sampled, ask};
use crate::oracle::{Oracle, State};
use crate::scheduling::Binding;
use crate::steps::Step;

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) ledger: Ledger,
    pub(crate) oracle: Oracle,
    pub(crate) policy: Policy,
    pub(crate) bindings: Vec<Binding>,
    messages: Vec<Message>,
}

struct Message {
    sampled: Sampled,
    asked_at: Option<Time>,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let policy = Policy {
            holds: config.holds,
            // Short enough to come about between other steps.
            starvation_after: Duration::from_secs(20),
            stale_policy: if config.rejects_stale {
                StalePolicy::Reject
            } else {
                StalePolicy::Declared
            },
            plugin_allocation: if config.is_packed {
                PluginAllocation::Packed
            } else {
                PluginAllocation::Distributed
            },
            ..Policy::default()
        };
        let cluster = Cluster::new(config, Time::from_secs(100));
        let mut world = Self {
            cluster,
            ledger: Ledger::new(policy.clone()),
            oracle: Oracle::new(policy.clone()),
            policy,
            bindings: Vec::new(),
            messages: Vec::new(),
        };
        (0..4_usize).for_each(|pod| world.cluster.create(ask([5, 4, 9, 14][pod], 1, pod != 1), 0));
        world.restart();
        for node in 0..config.nodes {
            world.sample_now(node);
            world.deliver(0, false);
        }
        world
    }

    fn node(&self, node: usize) -> usize {
        node % self.cluster.config.nodes
    }

    /// One of the pods that `may`.
    fn pick(&self, number: usize, may: impl Fn(&Cluster, usize) -> bool) -> Option<usize> {
        let pods: Vec<_> =
            (0..self.cluster.pods.len()).filter(|pod| may(&self.cluster, *pod)).collect();
        pods.get(number % pods.len().max(1)).copied()
    }

    pub(crate) fn take(&mut self, step: &Step) {
        let is_honest = self.cluster.config.is_honest;
        // No two things happen at one moment.
        self.cluster.now = self.cluster.now + Duration::from_micros(1);
        match *step {
            Step::Pass { seconds } => self.pass(seconds),
            Step::Tick => self.ledger.tick(self.cluster.now),
            Step::Create { gib, gpus, is_steered, priority } => {
                self.cluster.create(ask(gib, gpus, is_steered), priority);
            }
            Step::WatchPods { events } => (0..events).for_each(|_| self.watch_pod()),
            Step::Schedule { pod, node } => self.schedule(pod, self.node(node)),
            Step::WatchNodes => self.watch_node(),
            Step::RelistPods => self.relist(),
            Step::Wake => self.wake(),
            Step::Fence => self.fence(),
            Step::RestartExtender => self.restart(),
            Step::Commit { binding } => self.commit(binding),
            Step::Reply { binding } => self.reply(binding),
            Step::TimeOut { binding } => self.time_out(binding),
            Step::Lose { binding } => self.lose(binding),
            Step::Deliver { message, again } => self.deliver(message, again),
            Step::LoseMessage { message } => {
                if !self.messages.is_empty() {
                    self.messages.remove(message % self.messages.len());
                }
            }
            Step::Filter { pod } => self.with(pod, is_unbound, Self::filter),
            Step::Preempt { pod, gib, victims } => {
                if self.pick(pod, may_preempt).is_none() {
                    self.cluster.create(ask(gib, 1, true), 2);
                }
                self.with(pod, may_preempt, |world, pod| world.preempt(pod, victims));
            }
            Step::Bind { pod, node } => {
                self.with(pod, is_unbound, |world, pod| world.bind(pod, world.node(node)));
            }
            Step::Place { .. }
            | Step::TakeBack { .. }
            | Step::Settle { .. }
            | Step::Grow { .. }
            | Step::End { .. }
            | Step::Delete { .. }
            | Step::ForceDelete { .. }
            | Step::Kill { .. }
            | Step::RestartAgent { .. }
            | Step::Reregister { .. } => self.run(step),
            Step::Sample { node } => self.sample(self.node(node)),
            Step::SampleNow { node } => self.sample_now(self.node(node)),
            Step::Heartbeat { node } => self.heartbeat(self.node(node)),
            Step::Impossible { node } => self.impossible(self.node(node)),
            _ if is_honest => {}
            _ => self.upset(step),
        }
    }

    pub(crate) fn with(
        &mut self,
        number: usize,
        may: impl Fn(&Cluster, usize) -> bool,
        act: impl FnOnce(&mut Self, usize),
    ) {
        if let Some(pod) = self.pick(number, may) {
            act(self, pod);
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Place { node, pick } => self.cluster.place(self.node(node), pick),
            Step::TakeBack { node } => self.take_back(self.node(node)),
            Step::Settle { node } => self.cluster.settle(self.node(node)),
            Step::Grow { pod, gib, is_new } => {
                self.with(pod, Cluster::is_running, |world, pod| {
                    world.cluster.grow(pod, gib, is_new)
                });
            }
            Step::End { pod } => {
                self.with(pod, Cluster::is_running, |world, pod| world.cluster.end(pod))
            }
            Step::Delete { pod } => self.with(pod, exists, |world, pod| world.cluster.delete(pod)),
            Step::ForceDelete { pod } => {
                self.with(pod, exists, |world, pod| world.cluster.force_delete(pod))
            }
            Step::Kill { pod } => {
                self.with(pod, Cluster::is_running, |world, pod| world.cluster.kill(pod))
            }
            Step::RestartAgent { node } => self.cluster.restart_agent(self.node(node)),
            Step::Reregister { node, is_seen } => {
                self.cluster.recreate(self.node(node), true, is_seen)
            }
            _ => {}
        }
    }

    /// What only happens where not everybody is honest.
    fn upset(&mut self, step: &Step) {
        match *step {
            Step::Foreign { node, gpu, gib } => {
                let gpu = gpu % self.cluster.config.gpus;
                let node = self.node(node);
                let machine = &mut self.cluster.machines[node];
                let others = machine.used(gpu) - machine.foreign[gpu];
                machine.foreign[gpu] = gib.min(crate::cluster::TOTAL - others);
            }
            Step::OthersBind { pod, node } => self.with(pod, is_unbound, |world, pod| {
                let version = world.cluster.pods[pod].facts.resource_version.clone();
                let node = world.node(node);
                world.cluster.commit(pod, node, &version, None);
            }),
            Step::Edit { pod, gib } => self.with(pod, exists, |world, pod| {
                if let (Ok(ask), true) = (&mut world.cluster.pods[pod].facts.ask, gib > 0) {
                    ask.shares[0].vram = Vram::Declared(Bytes::gib(gib));
                    world.cluster.changed(pod);
                }
            }),
            Step::ReplaceMachine { node, is_seen } => {
                self.cluster.recreate(self.node(node), false, is_seen)
            }
            Step::Degrade { node, is_degraded } => {
                let node = self.node(node);
                self.cluster.machines[node].is_degraded = is_degraded;
            }
            _ => {}
        }
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.cluster.now = self.cluster.now + Duration::from_secs(seconds);
    }

    /// Among honest nodes a device comes back only when we know its pod to be gone and no pod is on
    /// its way to a predicted GPU: what happens between a reading and the plugin's choice no
    /// prediction can know.
    fn take_back(&mut self, node: usize) {
        let is_honest = self.cluster.config.is_honest;
        let ledger = &self.ledger;
        let is_known_gone = |facts: &PodFacts| match ledger.claim(&facts.id.uid) {
            Some((_, claim)) => matches!(claim.state, ClaimState::Leaving { .. }),
            None => true,
        };
        let unsteered = |pod: &usize| !self.cluster.is_steered(*pod);
        let on_their_way =
            self.bindings.iter().filter(|binding| binding.node == node).map(|binding| binding.pod);
        let is_predicted =
            self.cluster.unplaced(node).into_iter().chain(on_their_way).any(|pod| unsteered(&pod));
        if !is_honest || !is_predicted {
            self.cluster.take_back(node, |facts| !is_honest || is_known_gone(facts));
        }
    }

    pub(crate) fn watch_pod(&mut self) {
        let now = self.cluster.now;
        match self.cluster.pod_events.pop_front() {
            Some(PodEvent::Applied(facts)) => self.apply(facts),
            Some(PodEvent::Deleted(facts)) => {
                self.oracle.deleted(&facts.id.uid, Some(&facts), now);
                self.ledger.delete_pod(&facts.id.uid.clone(), Some(facts), now);
            }
            None => {}
        }
    }

    pub(crate) fn apply(&mut self, facts: PodFacts) {
        self.oracle.applied(&facts, self.cluster.now);
        self.ledger.apply_pod(facts, self.cluster.now);
    }

    pub(crate) fn watch_node(&mut self) {
        match self.cluster.node_events.pop_front() {
            Some(NodeEvent::Applied(facts)) => {
                let machine =
                    self.cluster.machines.iter().find(|machine| machine.node.name == facts.name);
                // An event in between is of a machine that has gone since.
                let is_last = machine.is_some_and(|machine| machine.node.uid == facts.uid);
                let generation = machine.map_or(0, |machine| machine.generation);
                let known = self.oracle.nodes.get(&facts.name).map_or(0, |seen| seen.generation);
                let generation = if is_last { generation } else { known };
                self.oracle.node_applied(&facts.name, &facts.uid.to_string(), generation);
                self.ledger.apply_node(facts, self.cluster.now);
            }
            Some(NodeEvent::Deleted(facts)) => {
                self.oracle.node_deleted(&facts.name);
                self.ledger.delete_node(&facts.name);
            }
            None => {}
        }
    }

    fn relist(&mut self) {
        self.cluster.pod_events.clear();
        let pods = self.cluster.list();
        self.oracle.relisted(&pods, self.cluster.now);
        self.ledger.replace_pods(pods, self.cluster.now);
    }

    /// A new process: nothing is remembered; every unbound pod is fenced before the list.
    fn restart(&mut self) {
        self.ledger = Ledger::new(self.policy.clone());
        self.oracle = Oracle::new(self.policy.clone());
        self.messages.clear();
        self.bindings.iter_mut().for_each(|binding| binding.is_abandoned = true);
        for pod in 0..self.cluster.pods.len() {
            let api = &mut self.cluster.pods[pod];
            api.is_forgotten |= !api.exists;
            if api.exists && api.facts.node.is_none() {
                self.cluster.changed(pod);
            }
        }
        self.cluster.node_events.clear();
        for machine in &self.cluster.machines {
            let node = machine.node.clone();
            self.oracle.node_applied(&node.name, &node.uid.to_string(), machine.generation);
            self.ledger.apply_node(node, self.cluster.now);
        }
        self.relist();
    }

    fn sample(&mut self, node: usize) {
        let sampled = self.cluster.sample(node);
        self.messages.push(Message { sampled, asked_at: None });
    }

    pub(crate) fn sample_now(&mut self, node: usize) {
        let asked_at = Some(self.cluster.now);
        let sampled = self.cluster.sample(node);
        self.messages.push(Message { sampled, asked_at });
    }

    /// Asks, and the answer comes at once.
    pub(crate) fn ask(&mut self, node: usize) {
        self.messages.clear();
        self.sample_now(node);
        self.deliver(0, false);
    }

    pub(crate) fn deliver(&mut self, message: usize, again: bool) {
        let message = message % self.messages.len().max(1);
        let Some(Message { sampled, asked_at }) = self.messages.get(message) else { return };
        let (sampled, asked_at) = (sampled.clone(), *asked_at);
        if !again {
            self.messages.remove(message);
        }
        let reading = Arc::new(sampled.reading.clone());
        let arrival = self.ledger.apply_reading(reading, self.cluster.now, asked_at);
        if arrival == Arrival::Taken {
            self.oracle.taken(&sampled);
        }
        if let Some(asked_at) = asked_at {
            self.oracle.answered(&sampled.reading, asked_at);
        }
    }

    /// In the stream's order: it repeats the last reading that was taken.
    fn heartbeat(&mut self, node: usize) {
        let name = self.cluster.machines[node].node.name.clone();
        let Some(seen) = self.oracle.nodes.get_mut(&name) else { return };
        let Some(last) = seen.last.as_ref().filter(|_| !seen.is_impossible) else { return };
        if let Some(sampling) = self.cluster.heartbeat(node, &last.reading) {
            seen.told = sampling;
            let run = last.reading.agent.clone();
            self.ledger.apply_heartbeat(&name, &run, sampling, self.cluster.now);
        }
    }

    /// The agent's next reading cannot be.
    fn impossible(&mut self, node: usize) {
        let mut reading: Reading = self.cluster.sample(node).reading;
        reading.gpus[0].total = Bytes::ZERO;
        let (name, reading) = (reading.node.clone(), Arc::new(reading));
        let arrival = self.ledger.apply_reading(reading, self.cluster.now, None);
        if let (Arrival::Impossible(_), Some(seen)) = (arrival, self.oracle.nodes.get_mut(&name)) {
            seen.is_impossible = true;
        }
    }

    /// The ledger's claims against the oracle's; ends of leaving claims are the ledger's to tell.
    pub(crate) fn compare_claims(&mut self) {
        let expected: Vec<_> = self.oracle.claims.keys().cloned().collect();
        for uid in expected {
            let is_there = self.ledger.claim(&uid).is_some_and(|(_, claim)| !claim.is_advice());
            if !is_there {
                self.oracle.ended(&uid, self.cluster.now);
            }
        }
        for (node, claim) in self.ledger.claims().filter(|(_, claim)| !claim.is_advice()) {
            let uid = &claim.pod.uid;
            let Some(expected) = self.oracle.claims.get(uid) else {
                panic!("{claim:?} has no reason")
            };
            let state = match claim.state {
                ClaimState::Binding { .. } => State::Binding,
                ClaimState::Bound { since } => State::Bound { since },
                ClaimState::Leaving { not_before } => State::Leaving { not_before },
                _ => continue,
            };
            assert_eq!((node, state), (&expected.node, expected.state), "{uid}");
            assert_eq!((&claim.planned, &claim.ask), (&expected.planned, &expected.ask), "{uid}");
        }
    }
}

fn exists(cluster: &Cluster, pod: usize) -> bool {
    cluster.pods[pod].exists
}

fn may_preempt(cluster: &Cluster, pod: usize) -> bool {
    is_unbound(cluster, pod) && cluster.pods[pod].facts.priority > 0
}

pub(crate) fn is_unbound(cluster: &Cluster, pod: usize) -> bool {
    exists(cluster, pod) && cluster.pods[pod].facts.node.is_none()
}
