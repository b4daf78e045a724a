//! The mark on a node that nobody uses: an annotation that says since when.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::bind::within;
use crate::engine::IdleMark;

/// Since when nobody has, or is promised, anything of the node's GPUs, by RFC 3339.
pub const IDLE_SINCE_ANNOTATION: &str = "filmgate.dev/idle-since";
const TRY_LIMIT: Duration = Duration::from_secs(2);

/// Writes the mark on its node, or takes it off.
pub(super) async fn mark(client: &Client, mark: &IdleMark) -> Result<(), String> {
    let since = mark.idle_for.map(|idle_for| ago(idle_for, Timestamp::now()));
    let patch = Patch::Merge(json!({"metadata": {
        "uid": mark.uid, "annotations": {IDLE_SINCE_ANNOTATION: since},
    }}));
    let nodes: Api<Node> = Api::all(client.clone());
    let parameters = PatchParams::default();
    let sent = nodes.patch_metadata(mark.node.as_str(), &parameters, &patch);
    within(TRY_LIMIT, sent).await.map(drop).map_err(|failure| failure.to_string())
}

/// That long before `now`, in whole seconds.
fn ago(time: Duration, now: Timestamp) -> String {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    let then = now.saturating_sub(time).unwrap_or(Timestamp::UNIX_EPOCH);
    Timestamp::from_second(then.as_second()).unwrap_or(then).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_is_told_in_seconds_of_utc() {
        let now: Timestamp = "2026-02-01T00:00:01.75Z".parse().unwrap();
        assert_eq!(ago(Duration::from_secs(600), now), "2026-01-31T23:50:01Z");
    }
}
