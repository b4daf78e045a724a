//! What Kubernetes' clients expect: who serves what, and a metric's values.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    APIGroup, APIGroupList, APIResource, APIResourceList, GroupVersionForDiscovery, Time,
};
use serde::Serialize;

use super::catalogue::{Amount, ExternalMetric, METRICS};
use super::{GROUP, GROUP_VERSION, VERSION};

/// The kind of every answer about a metric.
const KIND: &str = "ExternalMetricValueList";

/// `GET /apis`.
pub(super) fn groups() -> APIGroupList {
    APIGroupList { groups: vec![group()] }
}

/// `GET /apis/external.metrics.k8s.io`.
pub(super) fn group() -> APIGroup {
    let version = GroupVersionForDiscovery {
        group_version: GROUP_VERSION.to_owned(),
        version: VERSION.to_owned(),
    };
    APIGroup {
        name: GROUP.to_owned(),
        preferred_version: Some(version.clone()),
        versions: vec![version],
        ..APIGroup::default()
    }
}

/// `GET /apis/external.metrics.k8s.io/v1beta1`.
pub(super) fn resources() -> APIResourceList {
    let resources = METRICS.iter().map(|metric| APIResource {
        name: metric.name.to_owned(),
        namespaced: true,
        kind: KIND.to_owned(),
        verbs: vec!["get".to_owned(), "list".to_owned()],
        ..APIResource::default()
    });
    let resources = resources.collect();
    APIResourceList { group_version: GROUP_VERSION.to_owned(), resources }
}

/// A metric's values: one, or none where there is nothing to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Values {
    api_version: &'static str,
    kind: &'static str,
    metadata: BTreeMap<&'static str, &'static str>,
    items: Vec<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    metric_name: &'static str,
    metric_labels: BTreeMap<&'static str, String>,
    timestamp: Time,
    value: String,
}

impl Values {
    /// `is_leading`: whether the replica leads whose ledger says so.
    pub(super) fn of(metric: &ExternalMetric, value: Option<Amount>, is_leading: bool) -> Self {
        let items = value.into_iter().map(|value| Value {
            metric_name: metric.name,
            metric_labels: [("leading", is_leading.to_string())].into(),
            timestamp: Time(jiff::Timestamp::now()),
            value: value.to_string(),
        });
        let items = items.collect();
        Self { api_version: GROUP_VERSION, kind: KIND, metadata: BTreeMap::new(), items }
    }
}
