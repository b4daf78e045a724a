//! What filmgate tells of pods.

use std::collections::HashMap;

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};

/// filmgate's events of that reason in the default namespace, by pod.
pub async fn events(client: &Client, reason: &str) -> HashMap<String, String> {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let events = events.list(&ListParams::default()).await.expect("the events").items.into_iter();
    let ours = events.filter(|event| {
        event.reporting_controller.as_deref().is_some_and(|by| by.contains("filmgate.dev"))
            && event.reason.as_deref() == Some(reason)
    });
    ours.filter_map(|event| Some((event.regarding?.name?, event.note?))).collect()
}
