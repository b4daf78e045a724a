//! A ComfyUI that does not start: for want of VRAM, an image, a setting, a volume, or its own health.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::{name_of, statuses, waits};
use crate::doctor::finding::{Outcome, Unmade, Verdict};
use crate::doctor::ground::{Ground, unmade};

const COMFYUI: &str = "app=comfyui";

/// Whether the pods of ComfyUI are ready; if not, what keeps each.
pub(in super::super) async fn comfyui_start(ground: &Ground) -> Outcome {
    let namespace = &ground.place.pipeline;
    let pods = ground.pods(namespace, COMFYUI).await?;
    if pods.is_empty() {
        return Ok(vec![Verdict::skipped(format!("no pod of ComfyUI ({COMFYUI}) in {namespace}"))]);
    }
    let mut verdicts = Vec::new();
    for pod in pods.iter().filter(|pod| !is_ready(pod)) {
        // Without an extender to ask, or events, the pod itself still says something.
        let miss = nearest_miss(ground, pod).await;
        let event = last_warning(ground, namespace, pod).await.unwrap_or_default();
        verdicts.push(judge(pod, event.as_ref(), miss.as_deref()));
    }
    if verdicts.is_empty() {
        verdicts.push(Verdict::ok(format!("all {} pods of ComfyUI are ready", pods.len())));
    }
    Ok(verdicts)
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

/// A condition's status and message.
fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let one = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((&one.status, one.message.as_deref().unwrap_or_default()))
}

async fn nearest_miss(ground: &Ground, pod: &Pod) -> Option<String> {
    let fleet = ground.fleet().await.ok()?;
    let name = name_of(pod);
    let own = fleet.pending.iter().find(|pending| pending.name() == name)?;
    Some(own.why().to_owned()).filter(|why| !why.is_empty())
}

async fn last_warning(
    ground: &Ground,
    namespace: &str,
    pod: &Pod,
) -> Result<Option<Event>, Unmade> {
    let events: Api<Event> = Api::namespaced(ground.client.clone(), namespace);
    let uid = pod.uid().unwrap_or_default();
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning"));
    let events = events.list(&about).await.map_err(unmade)?.items;
    let time = |event: &Event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        last.or_else(|| event.event_time.as_ref().map(|time| time.0))
    };
    Ok(events.into_iter().max_by_key(time))
}

fn judge(pod: &Pod, event: Option<&Event>, miss: Option<&str>) -> Verdict {
    let (name, namespace) = (name_of(pod), pod.namespace().unwrap_or_default());
    let describe = format!("kubectl -n {namespace} describe pod {}", pod.name_any());
    let unscheduled = condition(pod, "PodScheduled").filter(|(status, _)| *status == "False");
    if let Some((_, words)) = unscheduled {
        let why = miss.unwrap_or(words);
        let found = format!("{name} has no node: {why}");
        return Verdict::fail(found, format!("filmgate explain {name}"));
    }
    for status in statuses(pod) {
        let image = &status.image;
        match waits(status) {
            Some(("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName", words)) => {
                let found = format!("{name}: the image {image} cannot be pulled: {words}");
                return Verdict::fail(found, describe);
            }
            Some(("CreateContainerConfigError", words)) => {
                let found = format!("{name}: a setting is missing: {words}");
                return Verdict::fail(
                    found,
                    format!("kubectl -n {namespace} get secret,configmap"),
                );
            }
            Some(("CrashLoopBackOff", _)) => {
                let found = format!("{name} ends again and again (see crash-loops)");
                let pod = pod.name_any();
                return Verdict::fail(
                    found,
                    format!("kubectl -n {namespace} logs {pod} --previous"),
                );
            }
            _ => {}
        }
    }
    let gpu = pod.annotations().get("filmgate.dev/gpu");
    let place = gpu.map(|gpu| format!(" on {gpu}")).unwrap_or_default();
    let reason = event.and_then(|event| event.reason.as_deref()).unwrap_or_default();
    let words = event.and_then(|event| event.message.as_deref()).unwrap_or_default();
    match reason {
        "Unhealthy" => {
            Verdict::fail(format!("{name}{place} runs and is not ready: {words}"), describe)
        }
        "FailedMount" | "FailedAttachVolume" => Verdict::fail(
            format!("{name}: a volume is not there: {words}"),
            format!("kubectl -n {namespace} get pvc"),
        ),
        "" => Verdict::warn(format!("{name}{place} is not ready yet"), describe),
        _ => Verdict::fail(format!("{name}{place} is not ready: {reason}: {words}"), describe),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::finding::Level;

    fn pod(status: Value) -> Pod {
        let pod = json!({
            "metadata": {"name": "c", "namespace": "n", "annotations": {"filmgate.dev/gpu": "GPU-7"}},
            "status": status,
        });
        serde_json::from_value(pod).unwrap()
    }

    fn waiting(reason: &str) -> Pod {
        pod(json!({"containerStatuses": [{
            "name": "main", "image": "comfy:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": "words"}},
        }]}))
    }

    fn event(reason: &str) -> Event {
        let event = json!({
            "metadata": {"name": "e"}, "involvedObject": {}, "reason": reason, "message": "words",
        });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn the_cause_is_told() {
        let unscheduled = pod(
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3"}]}),
        );
        for (pod, event, miss, found) in [
            (&unscheduled, None, Some("asked 12 GiB"), "n/c has no node: asked 12 GiB"),
            (&unscheduled, None, None, "n/c has no node: 0/3"),
            (
                &waiting("ImagePullBackOff"),
                None,
                None,
                "n/c: the image comfy:1 cannot be pulled: words",
            ),
            (
                &waiting("CreateContainerConfigError"),
                None,
                None,
                "n/c: a setting is missing: words",
            ),
            (&waiting("CrashLoopBackOff"), None, None, "n/c ends again and again"),
            (
                &pod(json!({})),
                Some(event("Unhealthy")),
                None,
                "n/c on GPU-7 runs and is not ready: words",
            ),
            (
                &pod(json!({})),
                Some(event("FailedMount")),
                None,
                "n/c: a volume is not there: words",
            ),
            (
                &pod(json!({})),
                Some(event("Other")),
                None,
                "n/c on GPU-7 is not ready: Other: words",
            ),
        ] {
            let verdict = judge(pod, event.as_ref(), miss);
            assert!(verdict.found.starts_with(found), "{found}: {verdict:?}");
            assert_eq!(verdict.level, Level::Fail, "{verdict:?}");
        }
        assert_eq!(judge(&waiting("ContainerCreating"), None, None).level, Level::Warn);
    }
}
