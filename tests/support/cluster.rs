//! A real Kubernetes control plane on loopback: etcd, kube-apiserver with RBAC,
//! kube-controller-manager, and kwok for the nodes' kubelets. Each cluster is
//! its own: folder, ports, certificates, tokens. It ends with the value.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use axum::http::Request;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tempfile::TempDir;

use super::binaries;
use super::eventually::eventually;
use super::kubeconfig::{Credentials, User};
use super::objects::{NodeBuilder, PodBuilder};
use super::port::ReservedPort;
use super::process::Process;

/// Starting takes 3 s on an idle machine; tests run side by side on busy ones.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// What a node or a pod needs of the controllers, on a busy machine.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

/// Nodes created at a time: enough to keep the API server busy, few enough for
/// its queues.
const CREATIONS_AT_A_TIME: usize = 16;

/// The controllers that tests rely on, each as in a cluster.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,\
    horizontal-pod-autoscaler-controller,disruption-controller,serviceaccount-controller,\
    root-ca-certificate-publisher-controller,endpointslice-controller,namespace-controller,\
    garbage-collector-controller,pod-garbage-collector-controller,node-lifecycle-controller";

/// What a cluster has besides etcd, the API server and kwok.
#[derive(Clone, Copy, Debug)]
pub struct ClusterOptions {
    /// kube-controller-manager. Without it, nodes are untainted from the start and
    /// pods need no service account.
    pub controller_manager: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { controller_manager: true }
    }
}

/// A kube-scheduler to start.
pub struct SchedulerOptions {
    /// Its KubeSchedulerConfiguration (see [`super::scheduler::configuration`]).
    pub config_yaml: String,
    /// Names its log and configuration among the cluster's files.
    pub name: String,
}

/// A running control plane.
pub struct Cluster {
    // Dropped in this order: the processes before the files they write.
    api_server: Process,
    others: Vec<Process>,
    admin: Client,
    site: Site,
}

impl Cluster {
    /// Starts a control plane and returns when it takes pods.
    pub async fn start(options: ClusterOptions) -> Self {
        let site = Site::prepare(options);
        let mut etcd = site.start_etcd();
        let mut api_server = site.start_api_server();
        let admin = site.ready_client(&mut api_server, Some(&mut etcd)).await;
        let mut others = vec![etcd, site.start_kwok()];
        if options.controller_manager {
            others.push(site.start_controller_manager());
            default_service_account(&admin).await;
        }
        Self { api_server, others, admin, site }
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Client {
        self.admin.clone()
    }

    /// The kubeconfig of one of the users.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.site.credentials.kubeconfig(user)
    }

    /// Where the API server listens.
    pub fn api_url(&self) -> String {
        self.site.api_url()
    }

    /// The certificate that the API server's is signed by.
    pub fn ca(&self) -> PathBuf {
        self.site.ca()
    }

    /// A folder for this test's files and logs, gone with the cluster.
    pub fn folder(&self) -> &Path {
        self.site.home.path()
    }

    /// Kills the API server as a crash would. etcd keeps its data.
    pub fn kill_api_server(&mut self) {
        self.api_server.kill();
    }

    /// Starts the API server again, at the same address, and returns when it is
    /// ready.
    pub async fn restart_api_server(&mut self) {
        self.api_server.kill();
        self.api_server = self.site.start_api_server();
        self.site.ready_client(&mut self.api_server, None).await;
    }

    /// The API server's process, to stop and continue it.
    pub fn api_server(&mut self) -> &mut Process {
        &mut self.api_server
    }

    /// Starts a real kube-scheduler.
    pub fn start_scheduler(&self, options: SchedulerOptions) -> Process {
        let SchedulerOptions { config_yaml, name } = options;
        let config = self.folder().join(format!("{name}.yaml"));
        std::fs::write(&config, config_yaml).expect("the scheduler's configuration");
        let flags = [flag("config", config.display()), flag("secure-port", 0)];
        self.site.start_component(&name, "kube-scheduler", flags)
    }

    /// The nodes.
    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.admin())
    }

    /// The pods of the default namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.admin())
    }

    /// Creates nodes and returns when pods can be scheduled on all of them.
    pub async fn add_nodes(&self, nodes: impl IntoIterator<Item = NodeBuilder>) {
        let api = &self.nodes();
        let created = stream::iter(nodes)
            .map(async |node| create(api, &node.build()).await)
            .buffer_unordered(CREATIONS_AT_A_TIME)
            .count()
            .await;
        assert!(created > 0, "no nodes to add");
        eventually(SETTLE_DEADLINE, "all nodes usable", async || {
            let nodes = api.list(&Default::default()).await?;
            match nodes.items.iter().find(|node| !is_usable(node)) {
                None => Ok(()),
                Some(node) => Err(anyhow::anyhow!("{:?} {:?}", node.spec, node.status)),
            }
        })
        .await;
    }

    /// Creates a pod.
    pub async fn add_pod(&self, pod: PodBuilder) -> Pod {
        create(&self.pods(), &pod.build()).await
    }

    /// The node that a pod is bound to, once it is.
    pub async fn node_of(&self, pod: &str) -> String {
        let pods = &self.pods();
        eventually(SETTLE_DEADLINE, &format!("{pod} bound"), async || {
            let pod = pods.get(pod).await?;
            let node = pod.spec.and_then(|spec| spec.node_name);
            node.ok_or_else(|| anyhow::anyhow!("{:?}", pod.status))
        })
        .await
    }
}

async fn create<K>(api: &Api<K>, object: &K) -> K
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let created = api.create(&Default::default(), object).await;
    created.unwrap_or_else(|error| panic!("{error}: {object:?}"))
}

/// Ready, and no controller objects.
fn is_usable(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.any(|c| c.type_ == "Ready" && c.status == "True");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    ready && taints.is_none_or(Vec::is_empty)
}

/// Until the controllers have made it, the API server refuses pods.
async fn default_service_account(admin: &Client) {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(admin.clone());
    eventually(START_DEADLINE, "the default service account", async || {
        accounts.get("default").await
    })
    .await;
}

/// What one cluster's processes have in common and what survives their restarts.
struct Site {
    home: TempDir,
    options: ClusterOptions,
    credentials: Credentials,
    api_port: ReservedPort,
    etcd_port: ReservedPort,
    etcd_peer_port: ReservedPort,
}

impl Site {
    fn prepare(options: ClusterOptions) -> Self {
        let home = tempfile::Builder::new().prefix("filmgate-").tempdir();
        let home = home.expect("a temporary folder");
        let api_port = ReservedPort::reserve();
        let api_url = format!("https://{}", api_port.address());
        let ca = certificates(home.path()).join("apiserver.crt");
        let credentials = Credentials::create(home.path().join("credentials"), &api_url, &ca);
        let site = Self {
            home,
            options,
            credentials,
            api_port,
            etcd_port: ReservedPort::reserve(),
            etcd_peer_port: ReservedPort::reserve(),
        };
        site.create_service_account_key();
        site
    }

    fn create_service_account_key(&self) {
        let mut keygen = Command::new(binaries::folder().join("cluster"));
        keygen.arg("keygen").arg(self.service_account_key());
        let status = keygen.status().expect("the cluster binary");
        assert!(status.success(), "keygen: {status}");
    }

    fn start_etcd(&self) -> Process {
        let flags = [
            flag("data-dir", self.home.path().join("etcd").display()),
            flag("client-url", self.etcd_url()),
            flag("peer-url", format!("http://{}", self.etcd_peer_port.address())),
        ];
        self.start_component("etcd", "etcd", flags)
    }

    fn start_api_server(&self) -> Process {
        let service_account_key = self.service_account_key();
        let certificates = certificates(self.home.path());
        let mut flags = vec![
            flag("etcd-servers", self.etcd_url()),
            flag("bind-address", self.api_port.address().ip()),
            flag("secure-port", self.api_port.number()),
            flag("cert-dir", certificates.display()),
            flag("endpoint-reconciler-type", "none"),
            flag("authorization-mode", "RBAC"),
            flag("token-auth-file", self.credentials.token_file().display()),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-account-key-file", service_account_key.display()),
            flag("service-account-signing-key-file", service_account_key.display()),
            flag("service-cluster-ip-range", "10.96.0.0/16"),
        ];
        if !self.options.controller_manager {
            // Their counterparts, which lift the taint and make the account, are missing.
            let plugins = "ServiceAccount,TaintNodesByCondition";
            flags.push(flag("disable-admission-plugins", plugins));
        }
        self.start_component("kube-apiserver", "kube-apiserver", flags)
    }

    fn start_controller_manager(&self) -> Process {
        let kubeconfig = self.credentials.kubeconfig(User::ControllerManager);
        let flags = [
            flag("kubeconfig", kubeconfig.display()),
            flag("authentication-kubeconfig", kubeconfig.display()),
            flag("authorization-kubeconfig", kubeconfig.display()),
            flag("secure-port", 0),
            flag("leader-elect", false),
            flag("controllers", CONTROLLERS),
            // Each controller has the rights of its own account, else none.
            flag("use-service-account-credentials", true),
            flag("service-account-private-key-file", self.service_account_key().display()),
            flag("root-ca-file", self.ca().display()),
        ];
        self.start_component("kube-controller-manager", "kube-controller-manager", flags)
    }

    fn start_kwok(&self) -> Process {
        let mut kwok = Command::new(binaries::folder().join("kwok"));
        kwok.arg(flag("kubeconfig", self.credentials.kubeconfig(User::Kwok).display()));
        kwok.arg(flag("config", binaries::source("kwok.yaml").display()));
        self.spawn("kwok", kwok)
    }

    fn start_component(
        &self,
        name: &str,
        component: &str,
        flags: impl IntoIterator<Item = String>,
    ) -> Process {
        let mut command = Command::new(binaries::folder().join("cluster"));
        command.arg(component).args(flags);
        self.spawn(name, command)
    }

    fn spawn(&self, name: &str, mut command: Command) -> Process {
        command.current_dir(self.home.path());
        Process::spawn(name, command, self.home.path())
    }

    /// Waits for the API server and returns the admin's client.
    async fn ready_client(
        &self,
        api_server: &mut Process,
        mut etcd: Option<&mut Process>,
    ) -> Client {
        eventually(START_DEADLINE, "the API server ready", async || {
            api_server.assert_running();
            if let Some(etcd) = etcd.as_deref_mut() {
                etcd.assert_running();
            }
            let client = self.client(User::Admin).await?;
            let readyz = Request::get("/readyz").body(Vec::new())?;
            client.request_text(readyz).await?;
            anyhow::Ok(client)
        })
        .await
    }

    async fn client(&self, user: User) -> anyhow::Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.credentials.kubeconfig(user))?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Client::try_from(config)?)
    }

    fn api_url(&self) -> String {
        format!("https://{}", self.api_port.address())
    }

    fn etcd_url(&self) -> String {
        format!("http://{}", self.etcd_port.address())
    }

    fn service_account_key(&self) -> PathBuf {
        self.home.path().join("service-account.key")
    }

    /// Self-signed, made by the API server when it first starts.
    fn ca(&self) -> PathBuf {
        certificates(self.home.path()).join("apiserver.crt")
    }
}

fn certificates(home: &Path) -> PathBuf {
    home.join("certificates")
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}
