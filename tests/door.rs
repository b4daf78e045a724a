//! Readings beyond loopback: an agent with a certificate, readers with tokens, and a real API server
//! that says whose a token is.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use filmgate::agent::simulated::{GpuSpec, SimulatedFleet};
use filmgate::clock::Clock;
use filmgate::readings::client::{LostReason, Trust};
use filmgate::readings::discovery::endpoint;
use filmgate::readings::readers::{Readers, TokenReviews};
use filmgate::readings::server::{Pace, bind, router, serve_readers};
use filmgate::tls::{Identity, TlsListener};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use support::agents::{Client, loopback, quick};
use support::authority::Authority;
use support::cluster::{Cluster, ClusterOptions};
use support::eventually::eventually;
use support::kubeconfig::User;
use support::manifests::{SIDECAR, apply_rights};
use support::metrics::Metrics;
use support::nvml::{StandIn, gpu, machine, uuid};
use support::objects::{node, pod};
use support::port::ReservedPort;
use support::process::Process;
use support::{prometheus, verbs};

const NAME: &str = "filmgate-agent.filmgate.svc";
const AUDIENCE: &str = "filmgate-agent";
const READER: &str = "system:serviceaccount:filmgate:filmgate";
const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    cluster: Cluster,
    files: TempDir,
    authority: Authority,
    identity: Identity,
    url: String,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::start(ClusterOptions { controller_manager: false }).await;
        apply_rights(&cluster.admin(), SIDECAR).await;
        let files = TempDir::new().unwrap();
        let authority = Authority::create(files.path(), "ours");
        let identity = Identity {
            certificate: files.path().join("tls.crt"),
            key: files.path().join("tls.key"),
        };
        authority.issue(&identity, NAME);
        let reviews = TokenReviews::new(cluster.client(User::Agent).await, AUDIENCE.to_owned());
        let readers = Readers::new(reviews, vec![READER.to_owned()], Clock::monotonic());

        let fleet = SimulatedFleet::new(Clock::monotonic());
        fleet.add_node("n0", vec![GpuSpec::gib(24)]);
        let tcp = bind(loopback(), false).await.unwrap();
        let url = format!("https://{}", tcp.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let listener = TlsListener::new(tcp, identity.clone()).unwrap();
        let router = router(Arc::new(fleet), Pace::default(), shutdown.clone());
        tokio::spawn(serve_readers(listener, router, readers, shutdown.clone()));
        Self { cluster, files, authority, identity, url, shutdown }
    }

    /// A file with a token of that service account for that audience.
    async fn token(&self, account: &str, audience: &str) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.cluster.admin(), "filmgate");
        let audiences = Some(vec![audience.to_owned()]);
        let spec = Some(TokenRequestSpec { audiences, ..Default::default() });
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let issued =
            accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        let path = self.files.path().join(format!("{:016x}.token", rand::random::<u64>()));
        fs::write(&path, issued.status.unwrap().token.unwrap()).unwrap();
        path
    }

    async fn reader(&self) -> PathBuf {
        self.token("filmgate", AUDIENCE).await
    }

    /// A client under that trust.
    fn client(&self, roots: PathBuf, name: &str, token: PathBuf) -> Client {
        let trust = Some(Trust { roots, name: name.to_owned(), token });
        let config = filmgate::readings::client::ClientConfig { trust, ..quick() };
        let client = Client::with(config, Clock::monotonic());
        client.client.set_endpoints(vec![endpoint("n0", &self.url).unwrap()]);
        client
    }

    async fn refusal(&self, token: PathBuf) -> (u16, String) {
        let mut client = self.client(self.authority.roots(), NAME, token);
        match client.lost().await {
            LostReason::Refused { status, text } => (status, text),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_reader_with_its_token_reads_and_only_from_an_agent_with_its_certificate() {
    let world = World::start().await;
    let ours = world.reader().await;
    let mut client = world.client(world.authority.roots(), NAME, ours.clone());
    client.arrival(|_| true).await;
    client.client.sample_now(&"n0".into(), DEADLINE).await.expect("a sampling on demand");

    let (status, text) = world.refusal(world.token("filmgate-agent", AUDIENCE).await).await;
    assert_eq!((status, text.contains("not one of a reader")), (403, true), "{text}");
    let other_audience = world.token("filmgate", "https://kubernetes.default.svc").await;
    assert_eq!(world.refusal(other_audience).await.0, 403, "made for somebody else");
    let made_up = world.files.path().join("made-up");
    fs::write(&made_up, "not.a.token").unwrap();
    assert_eq!(world.refusal(made_up).await.0, 403);

    let unreachable = async |mut client: Client| match client.lost().await {
        LostReason::Unreachable { why, .. } => why,
        other => panic!("{other}"),
    };
    let strangers = Authority::create(world.files.path(), "strangers");
    let why = unreachable(world.client(strangers.roots(), NAME, ours.clone())).await;
    assert!(why.contains("certificate"), "{why}");
    let why = unreachable(world.client(world.authority.roots(), "other.svc", ours)).await;
    assert!(why.contains("certificate"), "{why}");
    let missing = world.files.path().join("missing");
    let why = unreachable(world.client(world.authority.roots(), NAME, missing)).await;
    assert!(why.contains("no token to show"), "{why}");
}

/// The shipped agent of the node `n0`, whose driver is the stand-in.
fn start_agent(world: &World, library: &StandIn) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
    command.args(["agent", "--node", "n0", "--kubelet", "/nonexistent"]);
    command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
    command.arg("--tls-certificate").arg(&world.identity.certificate);
    command.arg("--tls-key").arg(&world.identity.key);
    command.arg("--kubeconfig").arg(world.cluster.kubeconfig(User::Agent));
    command.arg("--nvml-library").arg(library.library());
    Process::spawn("agent", command, world.files.path())
}

/// The shipped extender, which reads that node's agent under that trust.
struct Extender {
    process: Process,
    verbs: ReservedPort,
    ops: ReservedPort,
}

impl Extender {
    fn start(world: &World, name: &str, agent: &str, roots: &Path, token: &Path) -> Self {
        let (verbs, ops) = (ReservedPort::reserve(), ReservedPort::reserve());
        let config = serde_json::json!({
            "listen": {"verbs": verbs.address(), "metrics": ops.address()},
            "leaderElection": {"mode": "off"},
            "agents": {
                "static": [{"node": "n0", "url": agent}],
                "tls": {"caFile": roots, "tokenFile": token},
            },
        });
        let path = world.files.path().join(format!("{name}.yaml"));
        fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
        command.arg("extender").arg("--config").arg(path);
        command.arg("--kubeconfig").arg(world.cluster.kubeconfig(User::Filmgate));
        let process = Process::spawn(name, command, world.files.path());
        Self { process, verbs, ops }
    }

    fn metrics(&self) -> String {
        format!("http://{}/metrics", self.ops.address())
    }

    /// What it logs of the agent that it cannot read; nothing is read.
    async fn complaint(&mut self) -> String {
        let complaint = eventually(DEADLINE, "a complaint", async || {
            self.process.assert_running();
            let log = self.process.log();
            let line = log.lines().find(|line| line.contains("no readings from the node"));
            line.map(str::to_owned)
        })
        .await;
        let read = Metrics::scrape(&self.metrics()).await;
        assert_eq!(read.series("filmgate_reading_age_seconds"), [], "{complaint}");
        complaint
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_extender_reads_the_shipped_agent_or_says_why_it_cannot() {
    let world = World::start().await;
    world.cluster.add_nodes([node("n0").gpus(1)]).await;
    world.cluster.add_pod(pod("waits").gpus(1).vram("8Gi")).await;
    let library = StandIn::new(&machine([gpu(0).with_process(4242, 2048)]));
    let mut agent = start_agent(&world, &library);
    let url = eventually(DEADLINE, "the agent's address", async || {
        agent.assert_running();
        let log = agent.log();
        log.lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
    })
    .await;
    assert!(url.starts_with("https://"), "{url}");
    let (roots, reader) = (world.authority.roots(), world.reader().await);

    let extender = Extender::start(&world, "extender", &url, &roots, &reader);
    let read = async || {
        let ages = Metrics::scrape(&extender.metrics()).await;
        ages.value("filmgate_reading_age_seconds", &[("node", "n0")])
    };
    eventually(DEADLINE, "a reading", read).await;
    let server = format!("http://{}", extender.verbs.address());
    let explained = eventually(DEADLINE, "the pod explained", async || {
        let json = verbs::try_explain(&server, &["default/waits", "-o", "json"])?;
        serde_json::from_str::<serde_json::Value>(&json).map_err(|error| error.to_string())
    })
    .await;
    let shown = &explained["nodes"][0]["gpus"][0];
    assert_eq!((&shown["uuid"], &shown["usedBytes"]), (&uuid(0).into(), &(2_u64 << 30).into()));
    let text = reqwest::get(extender.metrics()).await.unwrap().text().await.unwrap();
    assert_eq!(prometheus::complaints(&text).unwrap_or_default(), "");

    let strangers = Authority::create(world.files.path(), "strangers").roots();
    let mut distrusting = Extender::start(&world, "distrusting", &url, &strangers, &reader);
    let why = distrusting.complaint().await;
    assert!(why.contains("; agents.tls.caFile has to hold"), "{why}");

    let other = world.token("filmgate-agent", AUDIENCE).await;
    let mut stranger = Extender::start(&world, "stranger", &url, &roots, &other);
    let why = stranger.complaint().await;
    assert!(why.contains("answered 403") && why.contains("agents.tls.tokenFile"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
    let world = World::start().await;
    let token = world.reader().await;
    let next = Authority::create(world.files.path(), "next");
    fs::write(&world.identity.certificate, "half of a").unwrap();
    let mut client = world.client(world.authority.roots(), NAME, token.clone());
    client.arrival(|_| true).await;

    next.issue(&world.identity, NAME);
    eventually(DEADLINE, "the new certificate", async || {
        let client = world.client(next.roots(), NAME, token.clone());
        client.client.sample_now(&"n0".into(), DEADLINE).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_shake_hands_keeps_nobody_out() {
    let world = World::start().await;
    let address = world.url.strip_prefix("https://").unwrap();
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let token = world.reader().await;
    world.client(world.authority.roots(), NAME, token).arrival(|_| true).await;
}
