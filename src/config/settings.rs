//! What may be written where: the file's keys, and the flags and variables that outrank them.

use std::path::PathBuf;

use serde::Deserialize;

use super::Text;

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        pub struct $name { $($(#[$field_doc])* pub $field: Option<$type>,)* })*
    };
}

sections! {
    /// The config file. `config/filmgate.yaml` says what each key means.
    FileSettings {
        /// `enforce` or `observe`.
        mode: Text,
        /// Addresses.
        listen: ListenFile,
        /// Bytes per GPU that nobody is promised.
        headroom: Text,
        /// Age at which a reading is not trusted any more.
        stale_after: Text,
        /// `declared` or `reject`.
        stale_policy: Text,
        /// How long a hold lives.
        hold_ttl: Text,
        /// Whether holds are placed.
        holds: Text,
        /// How long a pod waits before a place is reserved for it.
        starvation_after: Text,
        /// What a pod that declares nothing is taken to need.
        default_vram: Text,
        /// Most foreign memory on a GPU that a pod of unknown need takes.
        exclusive_foreign: Text,
        /// One CUDA context.
        cuda_context: Text,
        /// Least time for which a force-deleted pod stays charged.
        force_delete_grace: Text,
        /// How long a gone pod stays charged where memory is not attributable.
        unattributed_grace: Text,
        /// NVIDIA's device plugin.
        device_plugin: DevicePluginFile,
        /// Weights of the score's terms.
        scoring: ScoringFile,
        /// Longest body of a call.
        max_body_bytes: Text,
        /// How long filter and prioritize may take.
        filter_timeout: Text,
        /// How long a Binding may take.
        bind_timeout: Text,
        /// The scheduler whose pods are ours.
        scheduler_name: Text,
        /// The version of the kube-scheduler beside the extender.
        kube_scheduler_version: Text,
        /// Which of several replicas answers.
        leader_election: LeaderElectionFile,
        /// Figures for autoscalers.
        external_metrics: ExternalMetricsFile,
        /// KEDA's external scaler.
        keda: MutualTlsFile,
        /// Pods whose ComfyUI is asked what it does.
        comfyui: ComfyUiFile,
        /// Nodes that nobody uses.
        idle_nodes: IdleNodesFile,
        /// Where the agents are.
        agents: AgentsFile,
        /// The verbs for a kube-scheduler that is not in the same pod.
        service: MutualTlsFile,
        /// Logs.
        log: LogFile,
    }
    /// `listen`.
    ListenFile {
        /// The verbs and `explain`.
        verbs: Text,
        /// Metrics and health.
        metrics: Text,
        /// Whether the verbs may be served to other machines, without TLS.
        allow_plain_non_loopback: Text,
    }
    /// `devicePlugin`.
    DevicePluginFile {
        /// `distributed` or `packed`.
        allocation: Text,
    }
    /// `scoring`.
    ScoringFile {
        /// Packs.
        tightness: Text,
        /// Spreads.
        free_after: Text,
        /// Prefers GPUs that compute little.
        idleness: Text,
        /// Prefers nodes read a moment ago.
        freshness: Text,
    }
    /// `leaderElection`.
    LeaderElectionFile {
        /// `sibling`, `own` or `off`.
        mode: Text,
        /// The Lease's namespace.
        namespace: Text,
        /// The Lease's name.
        name: Text,
        /// This replica's name.
        identity: Text,
        /// How long an own Lease lasts for others.
        lease_duration: Text,
        /// How long it lasts for its holder.
        renew_deadline: Text,
        /// Time between two reads or renewals.
        retry_period: Text,
    }
    /// `externalMetrics`.
    ExternalMetricsFile {
        /// Their address.
        listen: Text,
        /// PEM: the certificate that is shown there.
        certificate_file: Text,
        /// PEM: its key.
        key_file: Text,
    }
    /// `keda` and `service`.
    MutualTlsFile {
        /// Its address.
        listen: Text,
        /// PEM: the certificate that is shown there.
        certificate_file: Text,
        /// PEM: its key.
        key_file: Text,
        /// PEM: the roots of callers' certificates.
        client_ca_file: Text,
    }
    /// `comfyui`.
    ComfyUiFile {
        /// Labels of the pods.
        pod_selector: Text,
        /// Where ComfyUI listens in them.
        port: Text,
        /// Time from one question to the next.
        poll_interval: Text,
    }
    /// `idleNodes`.
    IdleNodesFile {
        /// For how long a node is idle before it says so.
        annotate_after: Text,
    }
    /// `agents`: one of the two.
    AgentsFile {
        /// Named one by one.
        r#static: Vec<AgentFile>,
        /// Found in the cluster.
        endpoint_slices: EndpointSlicesFile,
        /// How they prove themselves.
        tls: AgentsTlsFile,
    }
    /// `agents.tls`.
    AgentsTlsFile {
        /// PEM: the roots of their certificates.
        ca_file: Text,
        /// The name that the certificates have.
        server_name: Text,
        /// The service account's token that the extender shows.
        token_file: Text,
    }
    /// `agents.endpointSlices`.
    EndpointSlicesFile {
        /// Their namespace.
        namespace: Text,
        /// Their labels.
        label_selector: Text,
        /// Name of the port that serves readings.
        port: Text,
    }
    /// `log`.
    LogFile {
        /// `json` or `text`.
        format: Text,
    }
}

/// An entry of `agents.static`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// The node's name.
    pub node: String,
    /// The agent's base URL.
    pub url: String,
}

/// Settings that outrank the file's.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// enforce, or observe: decide and count, and let every node pass
    #[arg(long, env = "FILMGATE_MODE")]
    pub mode: Option<Text>,
    /// Address of the verbs and explain
    #[arg(long, env = "FILMGATE_LISTEN_VERBS", value_name = "ADDRESS")]
    pub listen_verbs: Option<Text>,
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, env = "FILMGATE_LISTEN_METRICS", value_name = "ADDRESS")]
    pub listen_metrics: Option<Text>,
    /// Whether the verbs may be served beyond loopback, without TLS
    #[arg(long, env = "FILMGATE_ALLOW_PLAIN_NON_LOOPBACK", value_name = "BOOL")]
    pub allow_plain_non_loopback: Option<Text>,
    /// Bytes per GPU that nobody is promised
    #[arg(long, env = "FILMGATE_HEADROOM", value_name = "QUANTITY")]
    pub headroom: Option<Text>,
    /// Age at which a reading is not trusted any more
    #[arg(long, env = "FILMGATE_STALE_AFTER", value_name = "DURATION")]
    pub stale_after: Option<Text>,
    /// declared, or reject: what a stale reading is worth
    #[arg(long, env = "FILMGATE_STALE_POLICY")]
    pub stale_policy: Option<Text>,
    /// How long a hold lives
    #[arg(long, env = "FILMGATE_HOLD_TTL", value_name = "DURATION")]
    pub hold_ttl: Option<Text>,
    /// Whether holds are placed (for measurements)
    #[arg(long, env = "FILMGATE_HOLDS", value_name = "BOOL")]
    pub holds: Option<Text>,
    /// How long a pod waits before a place is reserved for it
    #[arg(long, env = "FILMGATE_STARVATION_AFTER", value_name = "DURATION")]
    pub starvation_after: Option<Text>,
    /// What a pod that declares nothing is taken to need
    #[arg(long, env = "FILMGATE_DEFAULT_VRAM", value_name = "QUANTITY")]
    pub default_vram: Option<Text>,
    /// Most foreign memory on a GPU that a pod of unknown need takes
    #[arg(long, env = "FILMGATE_EXCLUSIVE_FOREIGN", value_name = "QUANTITY")]
    pub exclusive_foreign: Option<Text>,
    /// One CUDA context
    #[arg(long, env = "FILMGATE_CUDA_CONTEXT", value_name = "QUANTITY")]
    pub cuda_context: Option<Text>,
    /// Least time for which a force-deleted pod stays charged
    #[arg(long, env = "FILMGATE_FORCE_DELETE_GRACE", value_name = "DURATION")]
    pub force_delete_grace: Option<Text>,
    /// How long a gone pod stays charged where memory is not attributable
    #[arg(long, env = "FILMGATE_UNATTRIBUTED_GRACE", value_name = "DURATION")]
    pub unattributed_grace: Option<Text>,
    /// distributed or packed: how the device plugin chooses among shared GPUs
    #[arg(long, env = "FILMGATE_DEVICE_PLUGIN_ALLOCATION")]
    pub device_plugin_allocation: Option<Text>,
    /// Longest body of a call
    #[arg(long, env = "FILMGATE_MAX_BODY_BYTES", value_name = "QUANTITY")]
    pub max_body_bytes: Option<Text>,
    /// How long filter and prioritize may take
    #[arg(long, env = "FILMGATE_FILTER_TIMEOUT", value_name = "DURATION")]
    pub filter_timeout: Option<Text>,
    /// How long a Binding may take
    #[arg(long, env = "FILMGATE_BIND_TIMEOUT", value_name = "DURATION")]
    pub bind_timeout: Option<Text>,
    /// The scheduler whose pods are ours
    #[arg(long, env = "FILMGATE_SCHEDULER_NAME", value_name = "NAME")]
    pub scheduler_name: Option<Text>,
    /// sibling (as the kube-scheduler in the same pod leads), own (a Lease of its own), off (no
    /// other replica)
    #[arg(long, env = "FILMGATE_LEADER_ELECTION", value_name = "MODE")]
    pub leader_election: Option<Text>,
    /// Namespace of the Lease that says who leads
    #[arg(long, env = "FILMGATE_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<Text>,
    /// Name of that Lease
    #[arg(long, env = "FILMGATE_LEASE_NAME", value_name = "NAME")]
    pub lease_name: Option<Text>,
    /// This replica's name [default: the hostname]
    #[arg(long, env = "FILMGATE_IDENTITY", value_name = "NAME")]
    pub identity: Option<Text>,
    /// How long an own Lease lasts for others
    #[arg(long, env = "FILMGATE_LEASE_DURATION", value_name = "DURATION")]
    pub lease_duration: Option<Text>,
    /// How long it lasts for its holder
    #[arg(long, env = "FILMGATE_RENEW_DEADLINE", value_name = "DURATION")]
    pub renew_deadline: Option<Text>,
    /// Time between two reads of the Lease, or renewals
    #[arg(long, env = "FILMGATE_RETRY_PERIOD", value_name = "DURATION")]
    pub retry_period: Option<Text>,
    /// An agent, as NODE=URL; may be repeated, and replaces the file's agents
    #[arg(long = "agent", env = "FILMGATE_AGENTS", value_name = "NODE=URL", value_delimiter = ',')]
    pub agents: Vec<String>,
    /// json or text
    #[arg(long, env = "FILMGATE_LOG_FORMAT")]
    pub log_format: Option<Text>,
    /// Kubeconfig [default: the pod's service account, or ~/.kube/config]
    #[arg(long, env = "FILMGATE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// File and flags together.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) file: FileSettings,
    pub(super) agents: Vec<String>,
    pub(super) kubeconfig: Option<PathBuf>,
}

impl FileSettings {
    /// The file's settings where no flag says otherwise.
    pub(super) fn overruled_by(mut self, flags: Flags) -> Settings {
        let over = |setting: &mut Option<Text>, flag: Option<Text>| {
            if flag.is_some() {
                *setting = flag;
            }
        };
        over(&mut self.mode, flags.mode);
        over(&mut self.headroom, flags.headroom);
        over(&mut self.stale_after, flags.stale_after);
        over(&mut self.stale_policy, flags.stale_policy);
        over(&mut self.hold_ttl, flags.hold_ttl);
        over(&mut self.holds, flags.holds);
        over(&mut self.starvation_after, flags.starvation_after);
        over(&mut self.default_vram, flags.default_vram);
        over(&mut self.exclusive_foreign, flags.exclusive_foreign);
        over(&mut self.cuda_context, flags.cuda_context);
        over(&mut self.force_delete_grace, flags.force_delete_grace);
        over(&mut self.unattributed_grace, flags.unattributed_grace);
        over(&mut self.max_body_bytes, flags.max_body_bytes);
        over(&mut self.filter_timeout, flags.filter_timeout);
        over(&mut self.bind_timeout, flags.bind_timeout);
        over(&mut self.scheduler_name, flags.scheduler_name);
        let listen = self.listen.get_or_insert_default();
        over(&mut listen.verbs, flags.listen_verbs);
        over(&mut listen.metrics, flags.listen_metrics);
        over(&mut listen.allow_plain_non_loopback, flags.allow_plain_non_loopback);
        let election = self.leader_election.get_or_insert_default();
        over(&mut election.mode, flags.leader_election);
        over(&mut election.namespace, flags.lease_namespace);
        over(&mut election.name, flags.lease_name);
        over(&mut election.identity, flags.identity);
        over(&mut election.lease_duration, flags.lease_duration);
        over(&mut election.renew_deadline, flags.renew_deadline);
        over(&mut election.retry_period, flags.retry_period);
        let plugin = self.device_plugin.get_or_insert_default();
        over(&mut plugin.allocation, flags.device_plugin_allocation);
        over(&mut self.log.get_or_insert_default().format, flags.log_format);
        Settings { file: self, agents: flags.agents, kubeconfig: flags.kubeconfig }
    }
}
