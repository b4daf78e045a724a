//! What a watch tells, whatever becomes of the API server meanwhile.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};

/// The same each time: a test waits for what the watch tells, and not for its patience.
const RETRY: Duration = Duration::from_millis(200);

/// Every pod, for ever. After a failure it begins anew with a list.
pub fn pods(client: Client) -> BoxStream<'static, Event<Pod>> {
    let events = watcher(Api::all(client), watcher::Config::default()).backoff(Steady);
    events.filter_map(async |event| event.ok()).boxed()
}

struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(RETRY)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}
