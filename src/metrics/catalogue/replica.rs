//! What each replica of the extender says of itself.

use super::{Chapter, Kind, Metric};

pub(crate) const CHAPTER: Chapter = Chapter {
    title: "Extender: every replica, of itself",
    about: "A replica that stands by shows these and no others; of several, sum the counters.",
    metrics: &[
        REQUESTS,
        REFUSALS,
        OBSERVED_REFUSALS,
        CONFLICTS,
        BINDS,
        HOLDS_EXPIRED,
        WAKES,
        WAKE_WRITES,
        EVENT_WRITES,
        VICTIMS,
        TAKEOVERS,
        FORGED,
        BOUND_BY_ANOTHER,
        GROWTHS,
        PREDICTIONS,
        COMFYUI_POLLS,
        READING_AGE,
        LEADER,
        KUBE_SCHEDULER_SKEW,
        BUILD_INFO,
    ],
};

pub(crate) const REQUESTS: Metric = Metric {
    name: "filmgate_request_duration_seconds",
    kind: Kind::Histogram,
    labels: &["verb", "outcome"],
    help: "Time from a call's whole body to its answer, by verb and outcome.",
    purpose: "How fast kube-scheduler is answered, and how often with an error.",
    series: "18 for each of 4 verbs and about 10 outcomes",
};

pub(crate) const REFUSALS: Metric = Metric {
    name: "filmgate_refusals_total",
    kind: Kind::Counter,
    labels: &["reason"],
    help: "Nodes refused by filter, by reason.",
    purpose: "Why pods wait.",
    series: "one for each reason (15)",
};

pub(crate) const OBSERVED_REFUSALS: Metric = Metric {
    name: "filmgate_observed_refusals_total",
    kind: Kind::Counter,
    labels: &["reason"],
    help: "Nodes that filter, or binds that admission, would have refused in mode enforce.",
    purpose: "What mode enforce would change, before it is switched on.",
    series: "one for each reason (15)",
};

pub(crate) const CONFLICTS: Metric = Metric {
    name: "filmgate_bind_conflicts_total",
    kind: Kind::Counter,
    labels: &["kind"],
    help: "Binds that were not admitted, or lost to another writer, by kind.",
    purpose: "Whether filter and bind disagree: the weight of the extender may be too low.",
    series: "4",
};

pub(crate) const BINDS: Metric = Metric {
    name: "filmgate_binds_total",
    kind: Kind::Counter,
    labels: &["outcome"],
    help: "Bindings sent to the API server, by outcome.",
    purpose: "How many pods are bound; whether the API server refuses or loses Bindings.",
    series: "4",
};

pub(crate) const HOLDS_EXPIRED: Metric = Metric {
    name: "filmgate_holds_expired_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Holds that ended unused.",
    purpose: "Memory that was kept from others for nothing.",
    series: "1",
};

pub(crate) const WAKES: Metric = Metric {
    name: "filmgate_wakes_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Waiting pods woken because memory was free.",
    purpose: "Whether freed memory finds a taker at once.",
    series: "1",
};

pub(crate) const WAKE_WRITES: Metric = Metric {
    name: "filmgate_wake_writes_total",
    kind: Kind::Counter,
    labels: &["outcome"],
    help: "Wakes of waiting pods, by outcome.",
    purpose: "Whether wakes reach the API server.",
    series: "3: sent, failed, dropped",
};

pub(crate) const EVENT_WRITES: Metric = Metric {
    name: "filmgate_event_writes_total",
    kind: Kind::Counter,
    labels: &["outcome"],
    help: "Events on pods, by outcome.",
    purpose: "Whether people see why their pods wait.",
    series: "3: sent, failed, dropped",
};

pub(crate) const VICTIMS: Metric = Metric {
    name: "filmgate_preemption_victims_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Pods that kube-scheduler was asked to evict so that another fits.",
    purpose: "What priorities cost.",
    series: "1",
};

pub(crate) const TAKEOVERS: Metric = Metric {
    name: "filmgate_takeovers_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Times this replica began to lead.",
    purpose: "Whether leaders change more often than they should.",
    series: "1",
};

pub(crate) const FORGED: Metric = Metric {
    name: "filmgate_forged_annotations_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Annotations on pods that filmgate alone writes, and somebody else did.",
    purpose: "Whether somebody tries to steer around filmgate.",
    series: "1",
};

pub(crate) const BOUND_BY_ANOTHER: Metric = Metric {
    name: "filmgate_pods_bound_by_another_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Pods with filmgate's schedulerName that waited and were bound without the filmgate that leads.",
    purpose: "Whether another scheduler has the same name.",
    series: "1",
};

pub(crate) const GROWTHS: Metric = Metric {
    name: "filmgate_pods_grown_past_charge_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Times that a pod's processes came to hold more of a GPU than it is charged.",
    purpose: "Whether declarations are too low.",
    series: "1",
};

pub(crate) const PREDICTIONS: Metric = Metric {
    name: "filmgate_gpu_prediction_total",
    kind: Kind::Counter,
    labels: &["result"],
    help: "Pods found on the GPUs that they were sent to (hit) or on another (miss).",
    purpose: "Whether steering and prediction work with this device plugin.",
    series: "2: hit, miss",
};

pub(crate) const READING_AGE: Metric = Metric {
    name: "filmgate_reading_age_seconds",
    kind: Kind::Gauge,
    labels: &["node"],
    help: "Age of each node's last reading in this replica.",
    purpose: "Which agents are silent. A replica that reads nothing takes over slowly.",
    series: "nodes with an agent",
};

pub(crate) const KUBE_SCHEDULER_SKEW: Metric = Metric {
    name: "filmgate_kube_scheduler_skew_versions",
    kind: Kind::Gauge,
    labels: &[],
    help: "Minor versions that the kube-scheduler beside filmgate is behind the API server; below 0: ahead.",
    purpose: "Kubernetes supports 0 and 1. Only where `kubeSchedulerVersion` is configured.",
    series: "1",
};

pub(crate) const LEADER: Metric = Metric {
    name: "filmgate_leader",
    kind: Kind::Gauge,
    labels: &[],
    help: "Whether this replica leads, so that kube-scheduler is answered: 1, or 0.",
    purpose: "The sum over replicas should be 1.",
    series: "1",
};

pub(crate) const BUILD_INFO: Metric = Metric {
    name: "filmgate_build_info",
    kind: Kind::Gauge,
    labels: &["version"],
    help: "The version that runs.",
    purpose: "Whether an upgrade is complete.",
    series: "1",
};

pub(crate) const COMFYUI_POLLS: Metric = Metric {
    name: "filmgate_comfyui_polls_total",
    kind: Kind::Counter,
    labels: &["outcome"],
    help: "How often pods were asked for their prompts and devices, by outcome.",
    purpose: "Whether pods can be asked: a NetworkPolicy, a wrong port.",
    series: "9",
};
