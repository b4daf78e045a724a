//! A real Kubernetes control plane on loopback: etcd, kube-apiserver with RBAC,
//! kube-controller-manager, and kwok for the nodes' kubelets. Each cluster is
//! its own: folder, ports, certificates, tokens. It ends with the value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;

use super::authority::Authority;
use super::eventually::eventually;
use super::kubeconfig::User;
use super::objects::{NodeBuilder, PodBuilder, priority_class};
use super::process::Process;
use super::site::{START_DEADLINE, Site, flag};

/// What a node or a pod needs of the controllers, on a busy machine.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

/// Nodes created at a time: enough to keep the API server busy, few enough for
/// its queues.
const CREATIONS_AT_A_TIME: usize = 16;

/// Makes kwok end a pod (see tests/cluster/kwok.yaml).
pub const COMPLETE_ANNOTATION: &str = "test.filmgate.dev/complete";

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

    /// A client with the rights of one of the users.
    pub async fn client(&self, user: User) -> Client {
        self.site.client(user).await.expect("a kubeconfig to use")
    }

    /// A client that the API server takes for somebody else, with the rights of these groups.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        self.site.client_as(user, groups).await.expect("a kubeconfig to use")
    }

    /// The kubeconfig of one of the users.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.site.kubeconfig(user)
    }

    /// Where the API server listens.
    pub fn api_url(&self) -> String {
        self.site.api_url()
    }

    /// The certificate that the API server's is signed by.
    pub fn ca(&self) -> PathBuf {
        self.site.ca()
    }

    /// Whose certificates servers behind the API server take for its own.
    pub fn front_proxy(&self) -> &Authority {
        self.site.front_proxy()
    }

    /// A folder for this test's files and logs, gone with the cluster.
    pub fn folder(&self) -> &Path {
        self.site.folder()
    }

    /// What the API server was asked by filmgate's service accounts, one event a line.
    pub fn audit_log(&self) -> PathBuf {
        self.site.audit_log()
    }

    /// Kills the API server as a crash would. etcd keeps its data.
    pub fn kill_api_server(&mut self) {
        self.api_server.kill();
    }

    /// Starts the API server again, at the same address, and returns when it is
    /// ready.
    pub async fn restart_api_server(&mut self) {
        self.kill_api_server();
        self.start_api_server();
        self.api_server_ready().await;
    }

    /// Starts the API server again, at the same address.
    pub fn start_api_server(&mut self) {
        self.api_server = self.site.start_api_server();
    }

    /// Waits for the API server to be ready.
    pub async fn api_server_ready(&mut self) {
        self.site.ready_client(&mut self.api_server, None).await;
    }

    /// The API server's process, to see what it costs.
    pub fn api_server_pid(&self) -> u32 {
        self.api_server.pid()
    }

    /// The API server's process, to stop and continue it.
    pub fn api_server(&mut self) -> &mut Process {
        &mut self.api_server
    }

    /// Starts a real kube-scheduler.
    pub fn start_scheduler(&self, options: SchedulerOptions) -> Process {
        self.site.start_component(&options.name, "kube-scheduler", self.scheduler_flags(&options))
    }

    /// The same on a machine of that name: it holds its Lease as `<hostname>_<uuid>`.
    pub fn start_scheduler_on(&self, hostname: &str, options: SchedulerOptions) -> Process {
        let flags = self.scheduler_flags(&options);
        self.site.start_component_on(hostname, &options.name, "kube-scheduler", flags)
    }

    fn scheduler_flags(&self, options: &SchedulerOptions) -> [String; 2] {
        let config = self.folder().join(format!("{}.yaml", options.name));
        std::fs::write(&config, &options.config_yaml).expect("the scheduler's configuration");
        [flag("config", config.display()), flag("secure-port", 0)]
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
        let created = stream::iter(nodes).for_each_concurrent(CREATIONS_AT_A_TIME, async |node| {
            create(api, &node.build()).await;
        });
        created.await;
        eventually(SETTLE_DEADLINE, "all nodes usable", async || {
            let nodes = api.list(&Default::default()).await?;
            match nodes.items.iter().find(|node| !is_usable(node)) {
                None => Ok(()),
                Some(node) => Err(anyhow::anyhow!("{:?} {:?}", node.spec, node.status)),
            }
        })
        .await;
    }

    /// Creates the class of the pods with this priority.
    pub async fn add_priority(&self, value: i32) {
        create(&Api::all(self.admin()), &priority_class(value)).await;
    }

    /// Creates a pod.
    pub async fn add_pod(&self, pod: PodBuilder) -> Pod {
        create(&self.pods(), &pod.build()).await
    }

    /// Lets a running pod end as one whose work is done.
    pub async fn complete_pod(&self, pod: &str) {
        let patch = json!({"metadata": {"annotations": {COMPLETE_ANNOTATION: "true"}}});
        let outcome = self.pods().patch(pod, &Default::default(), &Patch::Merge(patch)).await;
        outcome.unwrap_or_else(|error| panic!("{pod}: {error}"));
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

/// Creates an object.
pub async fn create<K>(api: &Api<K>, object: &K) -> K
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let created = api.create(&Default::default(), object).await;
    created.unwrap_or_else(|error| panic!("{error}: {object:?}"))
}

/// Ready, and none of the controllers keeps pods away.
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
