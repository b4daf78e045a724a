//! A cluster with replicas of filmgate: two, each beside a kube-scheduler that elects a leader or
//! both behind a Service; or one, with nobody to elect it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use axum::http::StatusCode;
use filmgate::agent::simulated::SimulatedFleet;
use filmgate::clock::Clock;
use filmgate::engine::Bytes;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, ClusterOptions, SchedulerOptions};
use super::eventually::eventually;
use super::kubeconfig::User;
use super::kubelets::Kubelets;
use super::manifests::{self, apply_rights};
use super::metrics::Metrics;
use super::objects::{is_bound, is_refused};
use super::port::ReservedPort;
use super::process::{Process, on_host};
use super::proxy::FaultProxy;
use super::scheduler::{Extender, configuration};
use super::service::{Endpoint, Service};
use super::simulated::{SimulatedNode, TURN, config_with, serve_agents};
use super::verbs;

const DEADLINE: Duration = Duration::from_secs(60);
const HOSTNAMES: [&str; 2] = ["film-a", "film-b"];

/// Who elects the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// Nobody: there is one replica, and a kube-scheduler that calls it.
    Off,
    /// The kube-schedulers, one beside each replica.
    Sibling,
    /// The replicas themselves, as a Service behind one kube-scheduler.
    Own,
}

impl Election {
    fn hostnames(self) -> &'static [&'static str] {
        if self == Self::Off { &HOSTNAMES[..1] } else { &HOSTNAMES }
    }

    fn manifest(self) -> &'static str {
        if self == Self::Own { manifests::SERVICE } else { manifests::SIDECAR }
    }
}

/// How long a Lease lasts: short enough for tests, long enough for a busy machine.
#[derive(Clone, Copy)]
pub struct Terms {
    /// `leaseDuration`, in seconds.
    pub lease: u64,
    /// `renewDeadline`, in seconds.
    pub renew: u64,
    /// `retryPeriod`, in seconds.
    pub retry: u64,
}

impl Terms {
    /// Six seconds until another takes over.
    pub const SHORT: Self = Self { lease: 6, renew: 4, retry: 1 };
    /// Kubernetes' own.
    pub const USUAL: Self = Self { lease: 15, renew: 10, retry: 2 };
}

/// One replica.
pub struct Replica {
    scheduler: Option<Process>,
    extender: Option<Process>,
    /// Between this replica and the API server.
    pub proxy: FaultProxy,
    verbs: ReservedPort,
    ops: ReservedPort,
}

/// A running world. Everything in it ends with the value.
pub struct Replicas {
    replicas: Vec<Replica>,
    /// The one kube-scheduler of replicas that have none beside them.
    lone_scheduler: Option<Process>,
    /// What it calls where there is more than one replica.
    service: Option<Service>,
    election: Election,
    terms: Terms,
    _kubelets: Kubelets,
    /// The GPUs, and what is true of them.
    pub fleet: SimulatedFleet,
    agents: CancellationToken,
    /// The control plane.
    pub cluster: Cluster,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.agents.cancel();
    }
}

impl Replicas {
    /// Starts them, and returns when the first leads and the second stands by.
    pub async fn start(nodes: Vec<SimulatedNode>, election: Election, terms: Terms) -> Self {
        Self::start_with(nodes, election, terms, "").await
    }

    /// The same with more lines of filmgate's configuration.
    pub async fn start_with(
        nodes: Vec<SimulatedNode>,
        election: Election,
        terms: Terms,
        settings: &str,
    ) -> Self {
        let turn = TURN.lock().await;
        let cluster = Cluster::start(ClusterOptions::default()).await;
        let present = || nodes.iter().filter(|node| node.is_there());
        cluster.add_nodes(present().map(SimulatedNode::builder)).await;
        apply_rights(&cluster.admin(), election.manifest()).await;
        let fleet = SimulatedFleet::new(Clock::monotonic());
        present().for_each(|node| node.add_to(&fleet));
        let agents = CancellationToken::new();
        let agents_url = serve_agents(&fleet, &agents).await;
        let kubelets = Kubelets::start(cluster.admin(), fleet.clone());
        let settings = election_settings(election, terms) + settings;
        let mut replicas = Vec::new();
        for hostname in election.hostnames() {
            replicas
                .push(Replica::prepare(hostname, &cluster, &nodes, &agents_url, &settings).await);
        }
        let service = match election {
            Election::Own => Some(service(&replicas).await),
            Election::Off | Election::Sibling => None,
        };
        let mut world = Self {
            replicas,
            lone_scheduler: None,
            service,
            election,
            terms,
            _kubelets: kubelets,
            fleet,
            agents,
            cluster,
            _turn: turn,
        };
        world.spawn_all(present().count()).await;
        world
    }

    async fn spawn_all(&mut self, nodes: usize) {
        if self.election != Election::Sibling {
            self.spawn_scheduler(0);
        }
        for at in 0..self.replicas.len() {
            self.spawn(at);
            if at == 0 {
                self.leads(0).await;
            }
            self.has_read(at, nodes).await;
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.replicas.len()
    }

    /// One of them.
    pub fn replica(&self, at: usize) -> &Replica {
        &self.replicas[at]
    }

    /// Starts one, as its pod starts.
    pub fn spawn(&mut self, at: usize) {
        self.spawn_extender(at);
        if self.election == Election::Sibling {
            self.spawn_scheduler(at);
        }
    }

    /// Starts one's filmgate.
    pub fn spawn_extender(&mut self, at: usize) {
        let folder = self.cluster.folder().join(HOSTNAMES[at]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
        command.arg("extender").arg("--config").arg(folder.join("filmgate.yaml"));
        command.arg("--kubeconfig").arg(self.replicas[at].proxy.kubeconfig());
        let name = format!("filmgate-{}", HOSTNAMES[at]);
        let command = on_host(HOSTNAMES[at], &command);
        self.replicas[at].extender = Some(Process::spawn(&name, command, self.cluster.folder()));
    }

    /// Starts one's kube-scheduler, or the lone one.
    pub fn spawn_scheduler(&mut self, at: usize) {
        if self.election == Election::Sibling {
            self.replicas[at].scheduler = Some(self.start_sibling(at));
        } else {
            self.lone_scheduler = Some(self.start_lone_scheduler());
        }
    }

    fn start_sibling(&self, at: usize) -> Process {
        let extender = Extender::at(self.replicas[at].verbs_url());
        let mut config = configuration(&self.cluster.kubeconfig(User::Filmgate), &[extender]);
        let Terms { lease, renew, retry } = self.terms;
        config["leaderElection"] = json!({
            "leaderElect": true,
            "resourceNamespace": "filmgate",
            "resourceName": "filmgate-kube-scheduler",
            "leaseDuration": format!("{lease}s"),
            "renewDeadline": format!("{renew}s"),
            "retryPeriod": format!("{retry}s"),
        });
        let name = format!("kube-scheduler-{}", HOSTNAMES[at]);
        let options = SchedulerOptions { config_yaml: config.to_string(), name };
        self.cluster.start_scheduler_on(HOSTNAMES[at], options)
    }

    fn start_lone_scheduler(&self) -> Process {
        let replicas = || self.replicas[0].verbs_url();
        let called = self.service.as_ref().map_or_else(replicas, |one| one.url().to_owned());
        let kubeconfig = self.cluster.kubeconfig(User::Scheduler);
        let config_yaml = configuration(&kubeconfig, &[Extender::at(called)]).to_string();
        let name = "kube-scheduler".to_owned();
        self.cluster.start_scheduler(SchedulerOptions { config_yaml, name })
    }

    /// Kills one as a crash of its machine would.
    pub fn kill(&mut self, at: usize) {
        for process in self.processes(at) {
            process.kill();
        }
    }

    /// Sends a signal to all of one.
    pub fn signal(&mut self, at: usize, signal: i32) {
        for process in self.processes(at) {
            process.signal(signal);
        }
    }

    /// Waits until all of one has ended.
    pub async fn ended(&mut self, at: usize) {
        for process in self.processes(at) {
            process.wait_exit(DEADLINE).await;
        }
    }

    fn processes(&mut self, at: usize) -> impl Iterator<Item = &mut Process> {
        let replica = &mut self.replicas[at];
        replica.scheduler.iter_mut().chain(replica.extender.iter_mut())
    }

    /// One's filmgate, to stop and continue it.
    pub fn extender(&mut self, at: usize) -> &mut Process {
        self.replicas[at].extender.as_mut().expect("an extender")
    }

    /// One's kube-scheduler, or the lone one.
    pub fn scheduler(&mut self, at: usize) -> &mut Process {
        let own = self.replicas[at].scheduler.as_mut();
        self.lone_scheduler.as_mut().or(own).expect("a scheduler")
    }

    /// Waits until it leads.
    pub async fn leads(&self, at: usize) {
        let what = format!("{} leads", HOSTNAMES[at]);
        eventually(DEADLINE, &what, async || {
            let leader = self.replica(at).metric("filmgate_leader").await;
            (leader == Some(1.0)).then_some(()).ok_or(format!("{leader:?}"))
        })
        .await;
    }

    /// Waits until it has read so many nodes.
    pub async fn has_read(&self, at: usize, nodes: usize) {
        eventually(DEADLINE, "the nodes read", async || {
            let read = self.replica(at).metrics().await;
            let read = read.series("filmgate_reading_age_seconds").len();
            (read >= nodes).then_some(()).ok_or(format!("{read} of {nodes}"))
        })
        .await;
    }

    /// Waits until so many of its Bindings are held back.
    pub async fn holds_bindings(&self, at: usize, least: usize) {
        eventually(DEADLINE, "Bindings on the wire", async || {
            let held = self.replica(at).proxy.held().len();
            (held >= least).then_some(()).ok_or(format!("{held} of {least}"))
        })
        .await;
    }

    /// Lets all its Bindings go on to the API server; none may be carried out.
    pub async fn releases_in_vain(&self, at: usize) {
        let proxy = &self.replica(at).proxy;
        proxy.hold_bindings(false);
        for pod in proxy.held() {
            assert_eq!(proxy.release(&pod).await, StatusCode::CONFLICT, "{pod}");
        }
    }

    /// Waits until kube-scheduler's Lease was renewed for longer than it lasts.
    pub async fn renewed_past_a_lease(&self) {
        let leases: Api<Lease> = Api::namespaced(self.cluster.admin(), "filmgate");
        let renewed = async || {
            let lease = leases.get("filmgate-kube-scheduler").await.ok()?;
            Some(lease.spec?.renew_time?.0.as_second())
        };
        let first = renewed().await.expect("a Lease");
        let past = i64::try_from(self.terms.lease + self.terms.retry).expect("seconds");
        eventually(DEADLINE, "a Lease's length of renewals", async || {
            renewed().await.filter(|now| now - first > past)
        })
        .await;
    }

    /// Waits until so many pods are bound and so many others refused.
    pub async fn settles(&self, bound: usize, refused: usize) {
        eventually(DEADLINE * 2, "all pods bound or refused", async || {
            let now = self.bound_and_refused().await;
            (now == (bound, refused)).then_some(()).ok_or(format!("{now:?}"))
        })
        .await;
    }

    async fn bound_and_refused(&self) -> (usize, usize) {
        let pods = self.cluster.pods().list(&ListParams::default()).await.expect("pods").items;
        let count = |is: fn(&Pod) -> bool| pods.iter().filter(|pod| is(pod)).count();
        (count(is_bound), count(is_refused))
    }

    /// The node of a pod now.
    pub async fn node_now(&self, pod: &str) -> Option<String> {
        self.cluster.pods().get(pod).await.expect("the pod").spec.expect("a spec").node_name
    }

    /// Has one of them bind the pod; what it answers as `Error`.
    pub async fn bind(&self, at: usize, pod: &str, node: &str) -> String {
        verbs::bind(&self.replica(at).verbs_url(), &self.cluster, pod, node).await
    }

    /// No GPU was ever above its memory, by the simulated truth.
    pub fn assert_no_overcommit(&self) {
        assert_eq!(self.fleet.most_overcommitted(), Bytes::ZERO, "over-committed");
    }
}

impl Replica {
    async fn prepare(
        hostname: &str,
        cluster: &Cluster,
        nodes: &[SimulatedNode],
        agents_url: &str,
        settings: &str,
    ) -> Self {
        let folder = cluster.folder().join(hostname);
        fs::create_dir(&folder).expect("a folder");
        let proxy = FaultProxy::start(&cluster.kubeconfig(User::Filmgate), &folder).await;
        let (verbs, ops) = (ReservedPort::reserve(), ReservedPort::reserve());
        let config = config_with(nodes, &verbs, &ops, agents_url, settings);
        fs::write(folder.join("filmgate.yaml"), config).expect("a configuration");
        Self { scheduler: None, extender: None, proxy, verbs, ops }
    }

    fn verbs_url(&self) -> String {
        format!("http://{}", self.verbs.address())
    }

    fn readyz(&self) -> String {
        format!("http://{}/readyz", self.ops.address())
    }

    async fn metrics(&self) -> Metrics {
        Metrics::scrape(&format!("http://{}/metrics", self.ops.address())).await
    }

    /// The value of a series without labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        self.metrics().await.value(name, &[])
    }

    /// The status of its readiness.
    pub async fn readiness(&self) -> Option<u16> {
        Some(reqwest::get(self.readyz()).await.ok()?.status().as_u16())
    }

    /// What a verb answers as `Error`.
    pub async fn error_of(&self, verb: &str, call: &Value) -> String {
        verbs::error_of(&self.verbs_url(), verb, call).await
    }

    /// Whether its watch has shown it the pod.
    pub async fn knows(&self, pod: &str) -> bool {
        let url = format!("{}/explain?pod={pod}", self.verbs_url());
        reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success())
    }

    /// What `filmgate explain` prints about that pod.
    pub fn explain(&self, pod: &str) -> String {
        verbs::explain(&self.verbs_url(), &[pod])
    }
}

fn election_settings(election: Election, terms: Terms) -> String {
    let Terms { lease, renew, retry } = terms;
    match election {
        Election::Off => "leaderElection: {mode: off}\n".to_owned(),
        Election::Sibling => format!("leaderElection: {{retryPeriod: {retry}s}}\n"),
        Election::Own => format!(
            "leaderElection: {{mode: own, leaseDuration: {lease}s, renewDeadline: {renew}s, \
             retryPeriod: {retry}s}}\n"
        ),
    }
}

async fn service(replicas: &[Replica]) -> Service {
    let endpoint =
        |replica: &Replica| Endpoint { url: replica.verbs_url(), readyz: replica.readyz() };
    Service::start(replicas.iter().map(endpoint).collect()).await
}
