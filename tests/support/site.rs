//! Where one cluster lives: its folder, ports and credentials, which outlast the
//! processes that are started there, and with which flags those are started.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use axum::http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tempfile::TempDir;

use super::authority::Authority;
use super::binaries;
use super::cluster::ClusterOptions;
use super::eventually::eventually;
use super::kubeconfig::{Credentials, User};
use super::port::ReservedPort;
use super::process::{Process, on_host};

/// Starting takes 3 s on an idle machine; tests run side by side on busy ones.
pub const START_DEADLINE: Duration = Duration::from_secs(90);

/// The controllers that tests rely on, each as in a cluster.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,daemonset-controller,\
    horizontal-pod-autoscaler-controller,disruption-controller,serviceaccount-controller,\
    root-ca-certificate-publisher-controller,endpointslice-controller,namespace-controller,\
    garbage-collector-controller,pod-garbage-collector-controller,node-lifecycle-controller,\
    persistentvolume-binder-controller";

/// Whom servers behind the API server take its word from.
pub const FRONT_PROXY: &str = "front-proxy-client";

const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, userGroups: ['system:serviceaccounts:filmgate']}
  - {level: None}
";

/// What one cluster's processes have in common and what survives their restarts.
pub struct Site {
    home: TempDir,
    options: ClusterOptions,
    credentials: Credentials,
    front_proxy: Authority,
    api_port: ReservedPort,
    etcd_port: ReservedPort,
    etcd_peer_port: ReservedPort,
}

impl Site {
    /// Takes what a cluster needs before its first process starts.
    pub fn prepare(options: ClusterOptions) -> Self {
        let home = tempfile::Builder::new().prefix("filmgate-").tempdir();
        let home = home.expect("a temporary folder");
        let api_port = ReservedPort::reserve();
        let api_url = format!("https://{}", api_port.address());
        let ca = certificates(home.path()).join("apiserver.crt");
        let credentials = Credentials::create(home.path().join("credentials"), &api_url, &ca);
        let front_proxy = Authority::create(home.path(), "front-proxy");
        let site = Self {
            home,
            options,
            front_proxy,
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

    /// etcd, with one member and no credentials.
    pub fn start_etcd(&self) -> Process {
        let flags = [
            flag("data-dir", self.folder().join("etcd").display()),
            flag("client-url", self.etcd_url()),
            flag("peer-url", format!("http://{}", self.etcd_peer_port.address())),
        ];
        self.start_component("etcd", "etcd", flags)
    }

    /// kube-apiserver.
    pub fn start_api_server(&self) -> Process {
        let service_account_key = self.service_account_key();
        let certificates = certificates(self.folder());
        let mut flags = vec![
            flag("etcd-servers", self.etcd_url()),
            flag("bind-address", self.api_port.address().ip()),
            flag("secure-port", self.api_port.number()),
            flag("cert-dir", certificates.display()),
            flag("endpoint-reconciler-type", "none"),
            flag("authorization-mode", "RBAC"),
            // As kubeadm and the managed clusters have it.
            flag("allow-privileged", true),
            flag("token-auth-file", self.credentials.token_file().display()),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-account-key-file", service_account_key.display()),
            flag("service-account-signing-key-file", service_account_key.display()),
            flag("service-cluster-ip-range", "10.96.0.0/16"),
        ];
        flags.extend(self.aggregation());
        flags.extend(self.audit());
        if !self.options.controller_manager {
            // Their counterparts, which lift the taint and make the account, are missing.
            let plugins = "ServiceAccount,TaintNodesByCondition";
            flags.push(flag("disable-admission-plugins", plugins));
        }
        self.start_component("kube-apiserver", "kube-apiserver", flags)
    }

    /// How the API server proves itself to servers behind it, as kubeadm sets it up.
    fn aggregation(&self) -> [String; 7] {
        let identity = self.front_proxy.issued(FRONT_PROXY);
        [
            flag("requestheader-client-ca-file", self.front_proxy.roots().display()),
            flag("requestheader-allowed-names", FRONT_PROXY),
            flag("requestheader-username-headers", "X-Remote-User"),
            flag("requestheader-group-headers", "X-Remote-Group"),
            flag("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            flag("proxy-client-cert-file", identity.certificate.display()),
            flag("proxy-client-key-file", identity.key.display()),
        ]
    }

    /// What filmgate's service accounts ask is written down, without bodies.
    fn audit(&self) -> [String; 2] {
        let policy = self.folder().join("audit.yaml");
        std::fs::write(&policy, AUDIT_POLICY).expect("the audit's policy");
        [
            flag("audit-policy-file", policy.display()),
            flag("audit-log-path", self.audit_log().display()),
        ]
    }

    /// See [`super::cluster::Cluster::audit_log`].
    pub fn audit_log(&self) -> PathBuf {
        self.folder().join("audit.log")
    }

    /// Whose certificates servers behind the API server take for its own.
    pub fn front_proxy(&self) -> &Authority {
        &self.front_proxy
    }

    /// kube-controller-manager.
    pub fn start_controller_manager(&self) -> Process {
        let kubeconfig = self.kubeconfig(User::ControllerManager);
        let flags = [
            flag("kubeconfig", kubeconfig.display()),
            flag("authentication-kubeconfig", kubeconfig.display()),
            flag("authorization-kubeconfig", kubeconfig.display()),
            flag("secure-port", 0),
            flag("leader-elect", false),
            flag("controllers", CONTROLLERS),
            flag("horizontal-pod-autoscaler-sync-period", "1s"),
            // By default the taints of twenty nodes are lifted in a second.
            flag("kube-api-qps", 1000),
            flag("kube-api-burst", 2000),
            // Each controller has the rights of its own account, else none.
            flag("use-service-account-credentials", true),
            flag("service-account-private-key-file", self.service_account_key().display()),
            flag("root-ca-file", self.ca().display()),
        ];
        self.start_component("kube-controller-manager", "kube-controller-manager", flags)
    }

    /// kwok, for the nodes labelled so.
    pub fn start_kwok(&self) -> Process {
        let mut kwok = Command::new(binaries::folder().join("kwok"));
        kwok.arg(flag("kubeconfig", self.kubeconfig(User::Kwok).display()));
        kwok.arg(flag("config", binaries::source("kwok.yaml").display()));
        self.spawn("kwok", kwok)
    }

    /// A component of the cluster binary, logging to `<name>.log`.
    pub fn start_component(
        &self,
        name: &str,
        component: &str,
        flags: impl IntoIterator<Item = String>,
    ) -> Process {
        self.spawn(name, component_command(component, flags))
    }

    /// The same on a machine of that name.
    pub fn start_component_on(
        &self,
        hostname: &str,
        name: &str,
        component: &str,
        flags: impl IntoIterator<Item = String>,
    ) -> Process {
        self.spawn(name, on_host(hostname, &component_command(component, flags)))
    }

    fn spawn(&self, name: &str, mut command: Command) -> Process {
        command.current_dir(self.folder());
        Process::spawn(name, command, self.folder())
    }

    /// Waits until the API server is ready, and returns the admin's client.
    pub async fn ready_client(
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

    /// A client with the rights of a user.
    pub async fn client(&self, user: User) -> anyhow::Result<Client> {
        client_of(Kubeconfig::read_from(self.kubeconfig(user))?).await
    }

    /// A client of the admin's who acts as somebody else.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> anyhow::Result<Client> {
        let mut kubeconfig = Kubeconfig::read_from(self.kubeconfig(User::Admin))?;
        let who = kubeconfig.auth_infos.iter_mut().filter_map(|one| one.auth_info.as_mut());
        for one in who {
            one.impersonate = Some(user.to_owned());
            one.impersonate_groups = Some(groups.iter().map(ToString::to_string).collect());
        }
        client_of(kubeconfig).await
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    /// A user's kubeconfig.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.credentials.kubeconfig(user)
    }

    /// Where the API server listens.
    pub fn api_url(&self) -> String {
        format!("https://{}", self.api_port.address())
    }

    fn etcd_url(&self) -> String {
        format!("http://{}", self.etcd_port.address())
    }

    fn service_account_key(&self) -> PathBuf {
        self.folder().join("service-account.key")
    }

    /// Self-signed, made by the API server when it first starts.
    pub fn ca(&self) -> PathBuf {
        certificates(self.folder()).join("apiserver.crt")
    }
}

async fn client_of(kubeconfig: Kubeconfig) -> anyhow::Result<Client> {
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(Client::try_from(config)?)
}

fn component_command(component: &str, flags: impl IntoIterator<Item = String>) -> Command {
    let mut command = Command::new(binaries::folder().join("cluster"));
    command.arg(component).args(flags);
    command
}

fn certificates(home: &Path) -> PathBuf {
    home.join("certificates")
}

/// A flag as all these programs take it.
pub fn flag(name: &str, value: impl Display) -> String {
    format!("--{name}={value}")
}
